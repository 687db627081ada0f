//! Nothing acknowledged is lost: SIGKILL at every fail point, and in the middle of a loop.

use standpipe::fail_point::FailPoint;

use crate::support::House;

#[test]
fn at_every_fail_point_what_was_answered_is_still_routed() {
    // Two brokers have the resource, so that only the mapping of a pipe can tell where it is.
    let [one, two] = [House::broker("alpha", 0, &["db"]), House::broker("beta", 0, &["db"])];
    let (alpha, beta) = (one.serve_broker(), two.serve_broker());
    let pin = [("standpipe-provider", "beta"), ("content-type", "application/json")];
    for point in FailPoint::ALL {
        let front =
            House::in_front_of(&[("alpha", alpha.address, "\"db\""), ("beta", beta.address, "\"db\"")]);
        let name = format!("p-{}", point.name());
        // The first start writes signing keys; the point is to be met by the pipe.
        drop(front.serve());
        let mut standpipe = front.serve_until(&format!("{}:1", point.name()));
        let acknowledged = standpipe.try_call("POST", "/db/pipes", &pin, &format!(r#"{{"id":"{name}"}}"#));
        let acknowledged = acknowledged.is_some_and(|answer| answer.status == 201);
        standpipe.ended();
        drop(standpipe);
        let standpipe = front.serve();
        let exists = beta.get(&format!("/db/pipes/{name}")).status == 200;
        assert!(exists || !acknowledged, "{}", point.name());
        let routed = standpipe.get(&format!("/db/pipes/{name}"));
        if exists {
            assert_eq!(
                (routed.status, routed.header("standpipe-provider")),
                (200, Some("beta")),
                "{}",
                point.name()
            );
        }
    }
}

#[test]
fn a_loop_of_creations_survives_being_killed() {
    let [one, two] = [House::broker("alpha", 0, &["db"]), House::broker("beta", 0, &["db"])];
    let (alpha, beta) = (one.serve_broker(), two.serve_broker());
    let front = House::in_front_of(&[("alpha", alpha.address, "\"db\""), ("beta", beta.address, "\"db\"")]);
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let mut standpipe = front.serve();
        for at in 0..10 + round {
            let name = format!("p-{round}-{at}");
            let provider = if at % 2 == 0 { "alpha" } else { "beta" };
            let pin = [("standpipe-provider", provider), ("content-type", "application/json")];
            let answer = standpipe.call("POST", "/db/pipes", &pin, &format!(r#"{{"id":"{name}"}}"#));
            assert_eq!(answer.status, 201, "{answer:?}");
            acknowledged.push((name, provider));
        }
        standpipe.kill();
    }
    let standpipe = front.serve();
    for (name, provider) in acknowledged {
        let answer = standpipe.get(&format!("/db/pipes/{name}"));
        assert_eq!((answer.status, answer.header("standpipe-provider")), (200, Some(provider)), "{name}");
    }
}
