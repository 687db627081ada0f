//! Names that a cloudpipe broker and an OSB broker both have.

use serde_json::{Value, json};

use super::{PLAN, bind, database, front, port};
use crate::support::osb::message;
use crate::support::{Origin, Standpipe, until};

/// A cloudpipe broker that has every resource, each with one offer and the pipe `theirs`.
fn cloudpipe() -> Origin {
    Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let answer = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
                ["GET", path] if path.ends_with("/offers") => message("200 OK", r#"[{"name":"page"}]"#),
                ["GET", path] if path.ends_with("/pipes/theirs") => message("200 OK", r#"{"id":"theirs"}"#),
                ["POST", _] => message("201 Created", r#"{"id":"theirs"}"#),
                _ => message("404 Not Found", "{}"),
            };
            peer.wire.send(answer);
        }
    })
}

fn pinned(front: &Standpipe, path: &str, provider: &str) -> Value {
    let answer = front.call("GET", path, &[("standpipe-provider", provider)], "");
    assert_eq!(answer.status, 200, "{path} at {provider}: {}", answer.body);
    answer.json()
}

#[test]
fn a_resource_of_a_cloudpipe_broker_is_not_hidden_by_an_osb_broker_of_its_name() {
    let (broker, other) = (database(json!({}), json!({})), cloudpipe());
    let listed = |list: &str| {
        format!(
            "[[provider]]\nname = \"apps\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n{list}",
            other.address
        )
    };
    let house = front(port(), broker.address, &listed("resources = [\"pg\"]\n"));
    let front = house.serve();
    until("the catalog is there", || {
        front.call("GET", PLAN, &[("standpipe-provider", "pg")], "").status == 200
    });
    for (method, path) in
        [("GET", "/pg/offers"), ("GET", PLAN), ("POST", &format!("{PLAN}/bindings")), ("GET", "/pg/pipes/x")]
    {
        let either = front.call(method, path, &[], "{}");
        assert_eq!(either.status, 409, "{method} {path}: {}", either.body);
        let candidates = &either.json()["candidates"];
        assert_eq!(*candidates, json!(["apps", "pg"]), "{}", either.body);
    }
    assert_eq!(pinned(&front, "/pg/offers", "apps")[0]["name"], "page");
    assert_eq!(pinned(&front, "/pg/offers", "pg")[0]["name"], "postgresql-small");
    // A pipe that only one of both has is that one's.
    let body = json!({"id": "app"}).to_string();
    let made = front.call("POST", &format!("{PLAN}/bindings"), &[("standpipe-provider", "pg")], &body);
    assert_eq!(made.status, 202, "{}", made.body);
    assert_eq!(front.get("/pg/pipes/app").json()["this"]["data"]["password"], "p");
    let theirs = front.call("POST", "/pg/pipes", &[("standpipe-provider", "apps")], r#"{"id":"theirs"}"#);
    assert_eq!(theirs.status, 201, "{}", theirs.body);
    assert_eq!(front.get("/pg/pipes/theirs").json(), json!({"id": "theirs"}));
}

#[test]
fn a_resource_that_only_calls_have_found_counts_as_well() {
    let (broker, other) = (database(json!({}), json!({})), cloudpipe());
    let more = format!(
        "[[provider]]\nname = \"apps\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n",
        other.address
    );
    let front = front(port(), broker.address, &more).run();
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202, "nobody knows of another");
    let theirs = front.call("POST", "/pg/pipes", &[("standpipe-provider", "apps")], r#"{"id":"theirs"}"#);
    assert_eq!(theirs.status, 201, "{}", theirs.body);
    assert_eq!(front.get("/pg/offers").status, 409);
    assert_eq!(front.get("/pg/pipes/theirs").status, 200);
    assert_eq!(front.get("/pg/pipes/app").status, 200);
}
