//! Operations that take their time, and what becomes of them when standpipe, the broker or the platform goes away.

use standpipe::store::{Namespace, Store as _};

use crate::events::on_file;
use crate::osb::{call, put, said};
use crate::support::osb::{Answered, broker, front, message, service, telling};
use crate::support::{House, Origin, Standpipe, until};

const INSTANCE: &str = "/v2/service_instances/i";
const POLL: &str = "GET /v2/service_instances/i/last_operation";

/// Accepts what it is asked for and is at it until the test tells it to go on.
fn slow(request: &str, told: bool) -> Answered {
    let state = |word: &str| message("200 OK", &format!(r#"{{"state":"{word}"}}"#));
    Some(match request.split(' ').next() {
        Some("PUT") => message("202 Accepted", r#"{"operation":"o 1"}"#),
        Some("DELETE") => message("202 Accepted", r#"{"operation":"d1"}"#),
        _ if request.contains("/last_operation") && request.contains("operation=d1") => {
            message("410 Gone", "{}")
        }
        _ if request.contains("/last_operation") => state(if told { "succeeded" } else { "in progress" }),
        _ => message("404 Not Found", "{}"),
    })
}

fn two(first: &Origin, settings: &str) -> (House, Origin) {
    let other = broker(&[service("b", "mq")], |_| Some(message("404 Not Found", "{}")));
    (front(&[("alpha", first, settings), ("beta", &other, "")], ""), other)
}

fn served(house: &House) -> Standpipe {
    let standpipe = house.serve();
    until("the catalogs are there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    standpipe
}

fn shown(house: &House) -> String {
    house.command(&["mappings", "show", "service_instance", "i"]).1
}

pub fn events(standpipe: &Standpipe) -> Vec<String> {
    let page = standpipe.get("/events?after=0&limit=1000").json();
    let kinds = page["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap());
    kinds
        .filter(|kind| !kind.starts_with("provider.") && !kind.starts_with("catalog."))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_platforms_poll_is_answered_by_the_right_broker_after_a_crash() {
    let alpha = telling(&[service("a", "db")], slow);
    let (house, other) = two(&alpha, "");
    let mut standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    standpipe.kill();
    let standpipe = served(&house);
    let poll = format!("{INSTANCE}/last_operation?operation=o%201");
    let answer = call(&standpipe, "GET", &poll, "");
    assert_eq!((answer.status, answer.json()["state"].as_str()), (200, Some("in progress")));
    assert!(alpha.said().iter().any(|said| said.starts_with(&format!("{POLL}?operation=o%201 "))));
    assert_eq!(events(&standpipe), ["operation.started"]);
    alpha.tell();
    assert_eq!(call(&standpipe, "GET", &poll, "").json()["state"], "succeeded");
    assert_eq!(events(&standpipe), ["operation.started", "operation.settled", "instance.created"]);
    assert!(shown(&house).contains("live"), "{}", shown(&house));

    assert_eq!(call(&standpipe, "DELETE", INSTANCE, "").status, 202);
    assert!(shown(&house).contains("deleting"), "{}", shown(&house));
    assert_eq!(call(&standpipe, "GET", &format!("{INSTANCE}/last_operation?operation=d1"), "").status, 410);
    assert_eq!(events(&standpipe)[3..], ["operation.started", "operation.settled", "instance.deleted"]);
    assert_eq!(call(&standpipe, "GET", &format!("{INSTANCE}/last_operation?operation=d1"), "").status, 410);
    assert_eq!(said(&other, "GET /v2/service"), 0);
}

#[test]
fn with_reconcile_an_operation_settles_although_nobody_asks() {
    let alpha = telling(&[service("a", "db")], slow);
    let (house, _other) = two(&alpha, "reconcile = true\nreconcile_after = \"1s\"");
    let mut standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    until("it is asked about again and again", || said(&alpha, POLL) > 3);
    standpipe.kill();
    alpha.tell();
    let standpipe = served(&house);
    until("it settles by itself", || events(&standpipe).contains(&"instance.created".to_owned()));
    assert!(alpha.said().iter().any(|said| said.starts_with(POLL) && said.contains("operation=o%201")));
}

#[test]
fn with_reconcile_a_lost_creation_is_cleaned_up_after() {
    let alpha = telling(&[service("a", "db")], |request, _| {
        Some(if request.starts_with("PUT") {
            message("500 Oops", r#"{"description":"half done"}"#)
        } else {
            message("200 OK", "{}")
        })
    });
    let (house, _other) = two(&alpha, "reconcile = true\nreconcile_after = \"1s\"");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 500);
    let delete = "DELETE /v2/service_instances/i?service_id=a&plan_id=a-small&accepts_incomplete=true ";
    until("it is deleted", || said(&alpha, delete) == 1);
    until("that is settled", || events(&standpipe).contains(&"operation.settled".to_owned()));
    assert_eq!(said(&alpha, "DELETE"), 1);
    assert!(shown(&house).contains("gone"), "{}", shown(&house));
}

#[test]
fn with_reconcile_a_failed_creation_is_told_as_such_and_cleaned_up_after() {
    let alpha = telling(&[service("a", "db")], |request, told| {
        let state = |word: &str| message("200 OK", &format!(r#"{{"state":"{word}"}}"#));
        Some(match request.split(' ').next() {
            Some("PUT") => message("202 Accepted", r#"{"operation":"c1"}"#),
            Some("DELETE") => message("202 Accepted", r#"{"operation":"d1"}"#),
            _ if request.contains("operation=d1") => state(if told { "succeeded" } else { "in progress" }),
            _ => state("failed"),
        })
    });
    let (house, _other) = two(&alpha, "reconcile = true\nreconcile_after = \"1s\"");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    until("the deletion is asked about", || alpha.said().iter().any(|said| said.contains("operation=d1")));
    assert!(shown(&house).contains("maybe"), "{}", shown(&house));
    let busy = put(&standpipe, "i", "a");
    assert_eq!((busy.status, busy.json()["error"].as_str()), (422, Some("ConcurrencyError")));
    alpha.tell();
    until("it is gone", || shown(&house).contains("gone"));
    assert_eq!(events(&standpipe), ["operation.started", "operation.settled", "instance.deleted"]);
    let page = standpipe.get("/events?after=0").json();
    let settled = page["events"].as_array().unwrap().iter();
    let settled = settled.filter(|event| event["kind"] == "operation.settled");
    let settled: Vec<_> =
        settled.map(|event| (&event["payload"]["kind"], &event["payload"]["state"])).collect();
    assert_eq!(settled, [(&"create".into(), &"failed".into())]);
}

#[test]
fn without_reconcile_nothing_is_asked_and_an_overdue_operation_is_unknown_and_routed() {
    let mut small = service("a", "db");
    small["plans"][0]["maximum_polling_duration"] = 1.into();
    let alpha = telling(&[small], slow);
    let (house, _other) = two(&alpha, "");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    until("it is overdue", || events(&standpipe).contains(&"operation.settled".to_owned()));
    let page = standpipe.get("/events?after=0").json();
    let settled =
        page["events"].as_array().unwrap().iter().find(|event| event["kind"] == "operation.settled");
    assert_eq!(settled.unwrap()["payload"]["state"], "unknown");
    assert_eq!(said(&alpha, POLL), 0);
    let poll = || call(&standpipe, "GET", &format!("{INSTANCE}/last_operation?operation=o%201"), "").status;
    assert_eq!(poll(), 200);
    assert_eq!(events(&standpipe).len(), 2, "it goes on, which is no news");
    alpha.tell();
    assert_eq!((poll(), poll()), (200, 200));
    assert_eq!(events(&standpipe)[2..], ["operation.settled", "instance.created"]);
}

#[test]
fn with_an_instance_go_its_bindings() {
    let alpha = telling(&[service("a", "db")], |request, _| {
        Some(message(if request.starts_with("PUT") { "201 Created" } else { "200 OK" }, "{}"))
    });
    let (house, _other) = two(&alpha, "");
    let standpipe = served(&house);
    let body = r#"{"service_id":"a","plan_id":"a-small"}"#;
    for instance in ["i", "j"] {
        assert_eq!(put(&standpipe, instance, "a").status, 201);
        for binding in ["x", "y"] {
            let path = format!("/v2/service_instances/{instance}/service_bindings/{binding}");
            assert_eq!(call(&standpipe, "PUT", &path, body).status, 201);
        }
    }
    let delete = |path: &str| {
        assert_eq!(
            call(&standpipe, "DELETE", &format!("{path}?service_id=a&plan_id=a-small"), "").status,
            200
        );
    };
    delete(&format!("{INSTANCE}/service_bindings/y"));
    let before = events(&standpipe).len();
    delete(INSTANCE);
    assert_eq!(events(&standpipe)[before..], ["binding.deleted", "instance.deleted"], "each is told once");
    let page = standpipe.get("/events?after=0&limit=1000").json();
    let gone = page["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "binding.deleted");
    let gone: Vec<_> = gone.map(|event| &event["payload"]["binding"]).collect();
    assert_eq!(gone, ["y", "x"]);
    let (_, listed) = house.command(&["mappings", "list", "--json"]);
    let rows = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let bindings = rows.filter(|row| row["kind"] == "service_binding");
    let states: Vec<_> = bindings
        .map(|row| ["parent", "id", "state"].map(|key| row[key].as_str().unwrap().to_owned()))
        .collect();
    let expected = [["i", "x", "gone"], ["i", "y", "gone"], ["j", "x", "live"], ["j", "y", "live"]];
    assert_eq!(states, expected);
}

#[test]
fn what_nobody_knows_is_deleted_only_where_the_operator_says_so() {
    let unknown = |request: &str, _| {
        Some(match request.split(' ').next() {
            Some("PUT") => message("201 Created", "{}"),
            _ if request.contains("/known") => message("410 Gone", "{}"),
            _ => message("404 Not Found", "{}"),
        })
    };
    let [alpha, beta] = ["a", "b"].map(|id| telling(&[service(id, id)], unknown));
    let forced = "force_delete_unknown = { instances = true, answers = [404, 410] }";
    let house = front(&[("alpha", &alpha, forced), ("beta", &beta, "")], "");
    let standpipe = served(&house);
    let delete = |service: &str, below: &str| {
        let path = format!("{INSTANCE}{below}?service_id={service}&plan_id={service}-small");
        call(&standpipe, "DELETE", &path, "")
    };
    let forced = delete("a", "");
    assert_eq!((forced.status, forced.body.as_str()), (200, "{}"));
    assert_eq!(delete("b", "").status, 404);
    assert_eq!(delete("a", "/service_bindings/x").status, 404, "bindings have a switch of their own");
    assert_eq!(said(&alpha, "DELETE"), 2, "the broker is asked all the same");
    assert_eq!(put(&standpipe, "known", "a").status, 201);
    let known = || call(&standpipe, "DELETE", "/v2/service_instances/known", "").status;
    assert_eq!(known(), 410, "standpipe knew it");
    assert_eq!(known(), 200, "and does not any more");
    let audited = || -> Vec<_> {
        let (_, listed) = house.command(&["audit", "list", "--json"]);
        let rows = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let deleted = rows.filter(|row| row["method"] == "DELETE");
        deleted.map(|row| (row["status"].as_u64(), row["remark"].as_str() == Some("forced"))).collect()
    };
    until("all is audited", || audited().len() == 5);
    let expected = [(200, true), (404, false), (404, false), (410, false), (200, true)];
    assert_eq!(audited(), expected.map(|(status, forced)| (Some(status), forced)));
    let (_, shown) = house.command(&["audit", "list"]);
    assert_eq!(shown.lines().filter(|line| line.contains(" forced ")).count(), 2, "{shown}");
}

#[test]
fn a_prefix_is_standpipes_alone() {
    let echo = |request: &str, _| {
        Some(match request.split(' ').next() {
            Some("GET") => message("200 OK", r#"{"service_id":"a", "plan_id":"a-small","n":1.0}"#),
            _ => message("201 Created", "{}"),
        })
    };
    let [alpha, beta] = [(), ()].map(|()| telling(&[service("a", "db")], echo));
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "id_prefix = \"b.\"")], "");
    let standpipe = served(&house);
    let body = r#"{"service_id":"b.a", "plan_id":"b.a-small","parameters":{"x":1.50}}"#;
    assert_eq!(call(&standpipe, "PUT", INSTANCE, body).status, 201);
    let put = beta.said().into_iter().find(|said| said.starts_with("PUT")).unwrap();
    assert!(put.ends_with(r#"{"service_id":"a", "plan_id":"a-small","parameters":{"x":1.50}}"#), "{put}");
    let read = call(&standpipe, "GET", &format!("{INSTANCE}?service_id=b.a"), "");
    assert_eq!(read.body, r#"{"service_id":"b.a", "plan_id":"b.a-small","n":1.0}"#);
    assert_eq!(said(&beta, "GET /v2/service_instances/i?service_id=a "), 1);
    assert_eq!(said(&alpha, "PUT"), 0);
}

#[test]
fn a_shared_offering_is_asked_for_before_anybody_says_that_it_is_gone() {
    let has = |request: &str, _| {
        Some(match request.split(' ').next() {
            Some("GET") if request.contains("/fresh") => message("404 Not Found", "{}"),
            Some("GET") | Some("PATCH") => message("200 OK", "{}"),
            Some("DELETE") => message("200 OK", "{}"),
            _ => message("201 Created", "{}"),
        })
    };
    let lacks = |request: &str, _| {
        Some(if request.starts_with("GET") {
            message("404 Not Found", "{}")
        } else {
            message("410 Gone", "{}")
        })
    };
    let alpha = telling(&[service("a", "db")], lacks);
    let beta = telling(&[service("a", "db")], has);
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    let standpipe = served(&house);
    let catalog = call(&standpipe, "GET", "/v2/catalog", "").json();
    assert_eq!(catalog["services"].as_array().unwrap().len(), 1);
    let path = format!("{INSTANCE}?service_id=a&plan_id=a-small");
    assert_eq!(call(&standpipe, "DELETE", &path, "").status, 200);
    assert_eq!((said(&alpha, "DELETE"), said(&beta, "DELETE")), (0, 1));
    assert_eq!(put(&standpipe, "older", "a").status, 201);
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (0, 1), "it is there already");
    put(&standpipe, "fresh", "a");
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (1, 1), "it is nowhere, and begins at the first");
}

#[test]
fn a_plan_that_a_caller_does_not_see_is_as_if_absent() {
    let created = |_: &str, _| Some(message("201 Created", "{}"));
    let alpha = telling(&[service("a", "db"), service("c", "secret")], created);
    let rules = "[[extensions.osb.visibility]]\nservices = [\"db\"]\n";
    let house = front(&[("alpha", &alpha, "")], "");
    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, format!("{config}{rules}")).unwrap();
    let standpipe = served(&house);
    let catalog = call(&standpipe, "GET", "/v2/catalog", "").json();
    assert_eq!(catalog["services"].as_array().unwrap().len(), 1);
    assert_eq!(put(&standpipe, "i", "c").status, 400);
    assert_eq!(said(&alpha, "PUT"), 0);
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    assert_eq!(
        call(&standpipe, "DELETE", "/v2/service_instances/x?service_id=c&plan_id=c-small", "").status,
        201
    );
}

#[test]
fn what_is_cleaned_is_rows_and_tombstones_of_the_kind_that_has_an_expression() {
    let alpha = telling(&[service("a", "db")], slow);
    alpha.tell();
    let (house, _other) = two(&alpha, "");
    let mut standpipe = served(&house);
    let (binding, ids) = (format!("{INSTANCE}/service_bindings/b"), "service_id=a&plan_id=a-small");
    let settle = |standpipe: &Standpipe, path: &str, operation: &str, status: u16| {
        let poll = format!("{path}/last_operation?operation={operation}");
        assert_eq!(call(standpipe, "GET", &poll, "").status, status, "{poll}");
    };
    let bind = r#"{"service_id":"a","plan_id":"a-small"}"#;
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    settle(&standpipe, INSTANCE, "o%201", 200);
    assert_eq!(call(&standpipe, "PUT", &binding, bind).status, 202);
    settle(&standpipe, &binding, "o%201", 200);
    for path in [&binding, INSTANCE] {
        assert_eq!(call(&standpipe, "DELETE", &format!("{path}?{ids}"), "").status, 202);
        settle(&standpipe, path, "d1", 410);
    }
    assert_eq!(put(&standpipe, "open", "a").status, 202);
    let shown = |words: &[&str]| house.command(&[&["mappings", "show"], words].concat()).1;
    let (instance, bound) = (["service_instance", "i"], ["service_binding", "b", "--parent", "i"]);
    assert!(shown(&instance).contains("gone") && shown(&bound).contains("gone"));
    standpipe.kill();
    assert_eq!(
        kept(&house),
        [
            "active/service_instance",
            "settled/binding",
            "settled/binding",
            "settled/instance",
            "settled/instance"
        ]
    );

    let config = std::fs::read_to_string(&house.config).unwrap();
    let clean =
        "[extensions.osb.instances.operations]\ncleanup_all = \"* * * * * *\"\ncleanup_age = \"0s\"\n";
    std::fs::write(&house.config, format!("{config}{clean}")).unwrap();
    let mut standpipe = served(&house);
    until("the tombstone is gone", || !shown(&instance).contains("gone"));
    assert!(shown(&bound).contains("gone"), "bindings have no expression");
    assert!(shown(&["service_instance", "open"]).contains("live"));
    standpipe.kill();
    assert_eq!(kept(&house), ["active/service_instance", "settled/binding", "settled/binding"]);
}

/// Where the operations in the file stand.
fn kept(house: &House) -> Vec<String> {
    let mut kept = Vec::new();
    on_file(house, |store, runtime| {
        let namespace = Namespace::extension("osb");
        let all = |place: &'static str| {
            let listed = runtime.block_on(store.records(&namespace, place, None, 100)).unwrap();
            listed.into_iter().map(|record| record.key)
        };
        let keys = ["active/", "settled/", "unknown/"].into_iter().flat_map(all);
        kept.extend(keys.map(|key| key.split('/').take(2).collect::<Vec<_>>().join("/")));
    });
    kept
}
