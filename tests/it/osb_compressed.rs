//! Brokers that compress their answers: what standpipe reads it asks for as it is.

use crate::osb::{VERSION, call};
use crate::osb_operations::events;
use crate::support::osb::{Answered, front, message, service, telling};
use crate::support::until;

const INSTANCE: &str = "/v2/service_instances/i";

/// Compresses whatever may be compressed, and accepts what it is asked for.
fn compressing(request: &str, _: bool) -> Answered {
    let (status, body) = match request.split(' ').next() {
        Some("PUT") => ("202 Accepted", r#"{"operation":"c1"}"#),
        Some("DELETE") => ("202 Accepted", r#"{"operation":"d1"}"#),
        _ if !request.contains("operation=") => ("200 OK", "{}"),
        _ if request.contains("operation=c1") || request.contains("operation=d1") => {
            ("200 OK", r#"{"state":"succeeded"}"#)
        }
        _ => ("400 Bad Request", "{}"),
    };
    if request.to_lowercase().contains("\r\naccept-encoding: identity\r\n") {
        return Some(message(status, body));
    }
    let fields = "content-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 6\r\n";
    Some(format!("HTTP/1.1 {status}\r\n{fields}\r\npacked"))
}

#[test]
fn what_standpipe_reads_it_asks_for_as_it_is() {
    let alpha = telling(&[service("a", "db")], compressing);
    let house = front(&[("alpha", &alpha, "")], "");
    let standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    let asks = |method: &str, path: &str, body: &str| {
        let fields = [VERSION, ("content-type", "application/json"), ("accept-encoding", "gzip")];
        standpipe.call(method, path, &fields, body)
    };
    let ids = r#"{"service_id":"a","plan_id":"a-small"}"#;
    assert_eq!(asks("PUT", INSTANCE, ids).status, 202);
    asks("GET", &format!("{INSTANCE}/last_operation?operation=c1"), "");
    assert_eq!(events(&standpipe), ["operation.started", "operation.settled", "instance.created"]);
    assert_eq!(asks("DELETE", &format!("{INSTANCE}?service_id=a&plan_id=a-small"), "").status, 202);
    asks("GET", &format!("{INSTANCE}/last_operation?operation=d1"), "");
    assert_eq!(events(&standpipe)[3..], ["operation.started", "operation.settled", "instance.deleted"]);

    // What is only passed on may be as the platform wants it.
    let passed = [INSTANCE, "/providers/alpha/v2/service_instances/i/last_operation?operation=c1"];
    for path in passed {
        assert_eq!(asks("GET", path, "").header("content-encoding"), Some("gzip"), "{path}");
    }
}

#[test]
fn standpipes_own_questions_are_answered_as_they_are() {
    let alpha = telling(&[service("a", "db")], compressing);
    let house = front(&[("alpha", &alpha, "reconcile = true\nreconcile_after = \"1s\"")], "");
    let standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    let ids = r#"{"service_id":"a","plan_id":"a-small"}"#;
    assert_eq!(call(&standpipe, "PUT", INSTANCE, ids).status, 202);
    until("it settles by itself", || events(&standpipe).contains(&"instance.created".to_owned()));
    let said = alpha.said();
    let catalog = said.iter().find(|said| said.starts_with("GET /v2/catalog ")).unwrap();
    assert!(catalog.to_lowercase().contains("\r\naccept-encoding: identity\r\n"), "{catalog}");
}
