//! Creations whose answer was lost and that had worked all the same: what shows that keeps standpipe from deleting them.

use crate::osb::{call, put, said};
use crate::osb_operations::events;
use crate::support::osb::{Answered, front, message, service, telling};
use crate::support::{House, until};

/// Loses the answer to every creation until the test tells it to go on, and has what it made.
fn loses(request: &str, told: bool) -> Answered {
    Some(match request.split(' ').next() {
        Some("PUT") if !told => message("504 Gateway Timeout", "{}"),
        Some("GET") if request.contains("/last_operation") => message("200 OK", r#"{"state":"succeeded"}"#),
        _ => message("200 OK", "{}"),
    })
}

fn state(house: &House, words: &[&str]) -> String {
    let shown = house.command(&[&["mappings", "show"], words].concat()).1;
    ["live", "maybe", "gone"].into_iter().find(|state| shown.contains(state)).unwrap_or(&shown).to_owned()
}

#[test]
fn what_its_broker_has_shown_to_live_is_never_deleted() {
    let alpha = telling(&[service("a", "db")], loses);
    let house = front(&[("alpha", &alpha, "reconcile = true\nreconcile_after = \"1h\"")], "");
    let mut standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    let get = |path: &str| {
        assert_eq!(call(&standpipe, "GET", &format!("/v2/service_instances/{path}"), "").status, 200);
    };
    for instance in ["polled", "fetched", "bound", "repeated", "unseen"] {
        assert_eq!(put(&standpipe, instance, "a").status, 504);
    }
    let binding = "bound/service_bindings/b";
    let body = r#"{"service_id":"a","plan_id":"a-small"}"#;
    let bind = || call(&standpipe, "PUT", &format!("/v2/service_instances/{binding}"), body).status;
    assert_eq!(bind(), 504);
    assert_eq!(events(&standpipe), [""; 0]);

    let worked = |kind: &str| ["operation.settled".to_owned(), kind.to_owned()];
    let shows: [(&dyn Fn(), &[&str]); 5] = [
        (&|| get("polled/last_operation"), &["instance.created"]),
        (&|| get("fetched"), &["instance.created"]),
        (&|| get("bound"), &["instance.created"]),
        (&|| get(binding), &["binding.created"]),
        (
            &|| {
                alpha.tell();
                assert_eq!(put(&standpipe, "repeated", "a").status, 200);
            },
            &["instance.created"],
        ),
    ];
    for (show, told) in shows {
        let before = events(&standpipe).len();
        (0..2).for_each(|_| show());
        assert_eq!(
            events(&standpipe)[before..],
            told.iter().flat_map(|kind| worked(kind)).collect::<Vec<_>>()
        );
    }
    for instance in ["polled", "fetched", "bound", "repeated"] {
        assert_eq!(state(&house, &["service_instance", instance]), "live", "{instance}");
    }
    assert_eq!(state(&house, &["service_binding", "b", "--parent", "bound"]), "live");
    standpipe.kill();

    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, config.replace("\"1h\"", "\"1s\"")).unwrap();
    let _standpipe = house.serve();
    until("what nobody has seen is deleted", || state(&house, &["service_instance", "unseen"]) == "gone");
    assert_eq!(said(&alpha, "DELETE /v2/service_instances/unseen?"), 1);
    assert_eq!(said(&alpha, "DELETE"), 1, "and nothing else: {:?}", alpha.said());
}
