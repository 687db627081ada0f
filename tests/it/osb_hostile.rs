//! What must not be deleted, settled or shown, whoever asks for it and in whatever order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::osb::{VERSION, call, put, said};
use crate::osb_operations::events;
use crate::support::osb::{Answered, broker, front, message, service, telling, tenants};
use crate::support::{House, Origin, Standpipe, until};

fn served(house: &House) -> Standpipe {
    let standpipe = house.serve();
    until("the catalogs are there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    standpipe
}

fn other() -> Origin {
    broker(&[service("b", "mq")], |request| {
        Some(if request.starts_with("DELETE") {
            message("410 Gone", "{}")
        } else {
            message("404 Not Found", "{}")
        })
    })
}

fn shown(house: &House, id: &str) -> String {
    house.command(&["mappings", "show", "service_instance", id]).1
}

const RED: &str = "Basic cmVkOnB3";
const BLUE: &str = "Basic Ymx1ZTpwdw==";

/// What a caller with a login is answered under `/v2`.
fn as_caller(standpipe: &Standpipe, login: &str, method: &str, path: &str, body: &str) -> u16 {
    let headers = [VERSION, ("authorization", login), ("content-type", "application/json")];
    standpipe.call(method, &format!("/v2{path}"), &headers, body).status
}

#[test]
fn reconcile_deletes_what_was_lost_and_nothing_that_is_known_to_live() {
    let puts = AtomicUsize::new(0);
    let alpha = telling(&[service("a", "db")], move |request, _| -> Answered {
        let target = request.split(' ').nth(1).unwrap();
        Some(match request.split(' ').next() {
            // i fails and then works, j works and then fails, lost only fails.
            Some("PUT") if target.contains("/i") && puts.fetch_add(1, Ordering::SeqCst) == 0 => {
                message("500 Oops", "{}")
            }
            Some("PUT") if target.contains("/j") && request.contains("again") => message("503 Busy", "{}"),
            Some("PUT") if target.contains("/lost") => message("500 Oops", "{}"),
            Some("PUT") => message("201 Created", "{}"),
            _ => message("200 OK", "{}"),
        })
    });
    let other = other();
    let settings = "reconcile = true\nreconcile_after = \"1s\"";
    let house = front(&[("alpha", &alpha, settings), ("beta", &other, "")], "");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 500);
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    assert_eq!(put(&standpipe, "j", "a").status, 201);
    let again = r#"{"service_id":"a","plan_id":"a-small","parameters":{"x":"again"}}"#;
    assert_eq!(call(&standpipe, "PUT", "/v2/service_instances/j", again).status, 503);
    // What comes last is cleaned up after what came before would have been.
    assert_eq!(put(&standpipe, "lost", "a").status, 500);
    until("what was lost is deleted", || said(&alpha, "DELETE /v2/service_instances/lost") == 1);
    assert_eq!(said(&alpha, "DELETE"), 1);
    assert!(shown(&house, "i").contains("live") && shown(&house, "j").contains("live"));
}

#[test]
fn one_404_to_a_poll_of_ours_settles_nothing() {
    let alpha = telling(&[service("a", "db")], |request, _| {
        Some(match request.split(' ').next() {
            Some("PUT") => message("202 Accepted", r#"{"operation":"c1"}"#),
            Some("DELETE") => message("200 OK", "{}"),
            _ => message("404 Not Found", "{}"),
        })
    });
    let other = other();
    let settings = "reconcile = true\nreconcile_after = \"1s\"";
    let house = front(&[("alpha", &alpha, settings), ("beta", &other, "")], "");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    // Only the answer to a DELETE says that nothing is left.
    until("it is deleted", || said(&alpha, "DELETE") == 1);
    until("it is gone", || shown(&house, "i").contains("gone"));
}

#[test]
fn a_poll_of_the_creation_is_no_word_about_the_deletion() {
    let alpha = telling(&[service("a", "db")], |request, _| {
        Some(match request.split(' ').next() {
            Some("PUT") => message("202 Accepted", r#"{"operation":"c1"}"#),
            Some("DELETE") => message("202 Accepted", r#"{"operation":"d1"}"#),
            _ if request.contains("operation=d1") => message("200 OK", r#"{"state":"in progress"}"#),
            _ => message("200 OK", r#"{"state":"succeeded"}"#),
        })
    });
    let other = other();
    let house = front(&[("alpha", &alpha, ""), ("beta", &other, "")], "");
    let standpipe = served(&house);
    let poll = |name: &str| {
        let path = format!("/v2/service_instances/i/last_operation?operation={name}");
        assert_eq!(call(&standpipe, "GET", &path, "").status, 200);
    };
    assert_eq!(put(&standpipe, "i", "a").status, 202);
    poll("c1");
    assert_eq!(call(&standpipe, "DELETE", "/v2/service_instances/i", "").status, 202);
    poll("c1");
    assert!(shown(&house, "i").contains("deleting"), "{}", shown(&house, "i"));
}

#[test]
fn what_one_broker_never_had_says_nothing_about_another() {
    let alpha = broker(&[service("a", "db")], |_| Some(message("201 Created", "{}")));
    let beta = other();
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    let standpipe = served(&house);
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    let pinned = [VERSION, ("standpipe-provider", "beta")];
    assert_eq!(standpipe.call("DELETE", "/v2/service_instances/i", &pinned, "").status, 410);
    assert!(shown(&house, "i").contains("live"), "{}", shown(&house, "i"));
}

#[test]
fn a_tenants_instance_is_unknown_to_the_others() {
    let alpha = broker(&[service("a", "db")], |_| Some(message("201 Created", "{}")));
    let beta = other();
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    tenants(&house);
    let standpipe = house.serve();
    let of =
        |login: &str, method: &str, path: &str, body: &str| as_caller(&standpipe, login, method, path, body);
    let (red, blue) = (RED, BLUE);
    until("the catalogs are there", || of(red, "GET", "/catalog", "") == 200);
    let body = r#"{"service_id":"a","plan_id":"a-small"}"#;
    let (instance, binding) = ("/service_instances/i", "/service_instances/i/service_bindings/x");
    let ids = "?service_id=a&plan_id=a-small";
    assert_eq!(of(blue, "PUT", instance, body), 201);
    // Whoever says less makes standpipe ask around, and learns no more.
    for (method, path, status) in [
        ("GET", instance.to_owned(), 404),
        ("GET", binding.to_owned(), 404),
        ("GET", format!("{instance}/last_operation"), 404),
        ("DELETE", instance.to_owned(), 400),
    ] {
        assert_eq!(of(red, method, &path, ""), status, "{method} {path}");
    }
    let before = alpha.said().len();
    for (method, path, body, status) in [
        ("GET", format!("{instance}{ids}"), "", 404),
        ("GET", format!("{instance}/last_operation{ids}"), "", 404),
        ("DELETE", format!("{instance}{ids}"), "", 410),
        ("PATCH", instance.to_owned(), body, 400),
        ("PUT", instance.to_owned(), body, 409),
        ("PUT", binding.to_owned(), body, 400),
        ("GET", format!("{binding}{ids}"), "", 404),
        ("DELETE", format!("{binding}{ids}"), "", 410),
    ] {
        assert_eq!(of(red, method, &path, body), status, "{method} {path}");
    }
    assert!(shown(&house, "i").lines().all(|line| !line.contains("learned")), "{}", shown(&house, "i"));
    let transparent = [VERSION, ("authorization", red)];
    let path = "/providers/alpha/v2/service_instances/i";
    assert_eq!(standpipe.call("DELETE", path, &transparent, "").status, 410);
    assert_eq!(alpha.said().len(), before, "the broker heard nothing of it");
    assert_eq!(of(blue, "DELETE", instance, ""), 201);
}

#[test]
fn an_invisible_plan_stays_so_however_it_is_named() {
    let alpha = broker(&[service("a", "db"), service("c", "secret")], |_| Some(message("201 Created", "{}")));
    let beta = other();
    let rules = "[[extensions.osb.visibility]]\nservices = [\"db\", \"mq\"]\norganizations = [\"good\"]\n";
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, format!("{config}{rules}")).unwrap();
    let standpipe = served(&house);
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = format!(
        r#"{{"service_id":"a","plan_id":"a-small","context":{{"organization_guid":"evil"}},"parameters":{nested}}}"#
    );
    let pinned = [VERSION, ("standpipe-provider", "alpha")];
    for body in [
        r#"{"service_id":"c","plan_id":"c-small"}"#,
        r#"{"plan_id":"c-small"}"#,
        r#"{"Service_id":"c","Plan_id":"c-small"}"#,
        r#"{"service_id":"a","plan_id":"a-small","Plan_ID":"c-small"}"#,
        r#"{"service_id":"c","plan_id":"a-small"}"#,
        r#"{"service_id":"a","plan_id":"a-small","context":{"organization_guid":"evil"}}"#,
        r#"{"service_id":"a","plan_id":"a-small"}"#,
        r#"{"service_id":"a","plan_id":"a-small","Context":{"organization_guid":"evil"},"organization_guid":"good"}"#,
        &deep,
    ] {
        for headers in [&pinned[..1], &pinned[..]] {
            let answer = standpipe.call("PUT", "/v2/service_instances/i", headers, body);
            assert_eq!(answer.status, 400, "{body}");
        }
    }
    let update = standpipe.call("PATCH", "/v2/service_instances/i", &pinned, r#"{"service_id":"a"}"#);
    assert_eq!((update.status, said(&alpha, "P")), (400, 0));
    let good = r#"{"service_id":"a","plan_id":"a-small","context":{"organization_guid":"good"}}"#;
    assert_eq!(call(&standpipe, "PUT", "/v2/service_instances/i", good).status, 201);
    assert_eq!(call(&standpipe, "GET", "/v2/service_instances/i", "").status, 201);
    let catalog = standpipe.call("GET", "/v2/catalog", &pinned, "");
    assert!(!catalog.body.contains("secret"), "{}", catalog.body);
    assert_eq!(said(&alpha, "PUT"), 1);
}

/// Two platforms without tenants: the ids of one are the ids of the other.
#[test]
fn what_a_platform_does_not_see_it_can_neither_read_nor_bind_nor_delete() {
    let alpha = broker(&[service("a", "db"), service("c", "secret")], |request| {
        Some(match request.split(' ').next() {
            Some("PUT") => message("201 Created", r#"{"credentials":{"p":"w"}}"#),
            _ => message("200 OK", r#"{"credentials":{"p":"w"}}"#),
        })
    });
    let beta = other();
    let hash = crate::support::password_hash("pw");
    let caller = |name: &str| format!("[[caller]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\n");
    let rules = "[[extensions.osb.visibility]]\ncallers = [\"basic:red\"]\n\
                 [[extensions.osb.visibility]]\ncallers = [\"basic:blue\"]\nservices = [\"db\"]\n";
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    let config = std::fs::read_to_string(&house.config).unwrap();
    let config = config.replace("[[listener]]\n", "[[listener]]\ncallers = [\"basic\"]\n");
    std::fs::write(&house.config, format!("{config}{}{}{rules}", caller("red"), caller("blue"))).unwrap();
    let standpipe = house.serve();
    let of =
        |login: &str, method: &str, path: &str, body: &str| as_caller(&standpipe, login, method, path, body);
    let (red, blue) = (RED, BLUE);
    until("the catalogs are there", || of(red, "GET", "/catalog", "") == 200);
    let (secret, db) =
        (r#"{"service_id":"c","plan_id":"c-small"}"#, r#"{"service_id":"a","plan_id":"a-small"}"#);
    let (instance, binding) = ("/service_instances/i", "/service_instances/i/service_bindings/x");
    let rotation = "/service_instances/i/service_bindings/y";
    assert_eq!(of(red, "PUT", instance, secret), 201);
    assert_eq!(of(red, "PUT", binding, secret), 201);
    let before = alpha.said().len();
    let ids = "?service_id=c&plan_id=c-small";
    for (method, path, body, status) in [
        ("GET", instance.to_owned(), "", 404),
        ("GET", binding.to_owned(), "", 404),
        ("GET", format!("{instance}/last_operation"), "", 404),
        ("PATCH", instance.to_owned(), r#"{"service_id":"c"}"#, 400),
        ("PUT", rotation.to_owned(), r#"{"predecessor_binding_id":"x"}"#, 400),
        ("PUT", rotation.to_owned(), db, 400),
        ("DELETE", format!("{binding}{ids}"), "", 410),
        ("DELETE", format!("{instance}{ids}"), "", 410),
        ("GET", "/service_instances/direct/service_bindings/z".into(), "", 404),
        ("GET", format!("/service_instances/direct{ids}"), "", 404),
    ] {
        assert_eq!(of(blue, method, &path, body), status, "{method} {path}");
    }
    assert_eq!(alpha.said().len(), before, "the broker heard nothing of it");
    // It sees another plan, and whoever made this one has it still.
    assert_eq!(of(blue, "PUT", "/service_instances/own", db), 201);
    assert_eq!(of(blue, "GET", "/service_instances/own", ""), 200);
    assert_eq!(of(red, "GET", binding, ""), 200);
    assert_eq!(of(red, "PUT", rotation, r#"{"predecessor_binding_id":"x"}"#), 201);
    assert_eq!(of(red, "DELETE", &format!("{instance}{ids}"), ""), 200);
}

#[test]
fn nobody_is_told_that_something_is_gone_while_a_registered_broker_cannot_be_put_to_work() {
    let mut shared = service("a", "db");
    shared["instances_retrievable"] = true.into();
    let [alpha, twin] = [(); 2].map(|()| broker(&[shared.clone()], |_| Some(message("410 Gone", "{}"))));
    let (gamma, beta) = (other(), broker(&[service("c", "s3")], |_| Some(message("200 OK", "{}"))));
    for more in [None, Some(("gamma", &gamma, "")), Some(("twin", &twin, ""))] {
        let brokers: Vec<_> = [("alpha", &alpha, "")].into_iter().chain(more).collect();
        let house = front(&brokers, "");
        let mut standpipe = served(&house);
        let secret = house.folder.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        let (url, token) = (format!("http://{}", beta.address), format!("file:{}", secret.display()));
        let credential = serde_json::json!({ "kind": "bearer", "token": token });
        let table = serde_json::json!(
            { "name": "beta", "dialect": "osb", "url": url, "credential": credential }
        );
        assert_eq!(house.admin("POST", "/providers", &table.to_string()).status, 201);
        standpipe.kill();
        std::fs::remove_file(&secret).unwrap();

        let standpipe = served(&house);
        let unknown = |service: &str| format!("/v2/service_instances/i?service_id={service}&plan_id=p");
        for (method, path) in [
            ("DELETE", unknown("c")),
            ("DELETE", unknown("nobodys")),
            ("GET", "/v2/service_instances/i/last_operation".into()),
            ("GET", "/v2/service_instances/i".into()),
            ("DELETE", format!("/providers/beta{}", unknown("c"))),
        ] {
            let answer = call(&standpipe, method, &path, "");
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")), "{method} {path}");
            assert!(answer.body.contains("beta"), "{}", answer.body);
        }
        assert_eq!(put(&standpipe, "i", "c").status, 503);
        let catalog = call(&standpipe, "GET", "/v2/catalog", "");
        assert_eq!(
            (catalog.status, catalog.header("standpipe-partial")),
            (200, Some("beta;reason=unreachable"))
        );
        // Who has the service says so; of several, there may be one more.
        let of_a = || call(&standpipe, "DELETE", &unknown("a"), "").status;
        assert_eq!(of_a(), if more.is_some_and(|(name, ..)| name == "twin") { 503 } else { 410 });

        std::fs::write(&secret, "s").unwrap();
        assert_eq!(house.admin("PATCH", "/providers/beta", "{}").status, 200);
        until("its catalog is known", || call(&standpipe, "DELETE", &unknown("c"), "").status == 200);
        assert_eq!(call(&standpipe, "DELETE", &unknown("nobodys"), "").status, 410, "all were heard");
        assert_eq!(of_a(), 410);
    }
}

/// A platform that has lost patience deletes what it asked for while its first request is still at the broker.
#[test]
fn nothing_is_buried_by_a_deletion_that_overtook_its_creation() {
    for (first, then) in [("PUT", "DELETE"), ("DELETE", "PUT")] {
        let turn = Arc::new(AtomicUsize::new(0));
        let broker_turn = turn.clone();
        let alpha = telling(&[service("a", "db")], move |request, _| {
            let method = request.split(' ').next().unwrap_or_default();
            until("it is its turn", || broker_turn.load(Ordering::SeqCst) > usize::from(method == then));
            Some(match method {
                "PUT" => message("202 Accepted", r#"{"operation":"o"}"#),
                "DELETE" => message("410 Gone", "{}"),
                _ => message("200 OK", r#"{"state":"succeeded"}"#),
            })
        });
        let gamma = other();
        let house = front(&[("alpha", &alpha, ""), ("beta", &gamma, "")], "");
        let standpipe = served(&house);
        let path = "/v2/service_instances/i?service_id=a&plan_id=a-small";
        let statuses = std::thread::scope(|scope| {
            let creation = scope.spawn(|| put(&standpipe, "i", "a").status);
            until("the creation is at the broker", || said(&alpha, "PUT") == 1);
            let deletion = scope.spawn(|| call(&standpipe, "DELETE", path, "").status);
            until("the deletion is too", || said(&alpha, "DELETE") == 1);
            turn.store(1, Ordering::SeqCst);
            let is_over = || if first == "PUT" { creation.is_finished() } else { deletion.is_finished() };
            until("the first is answered", is_over);
            turn.store(2, Ordering::SeqCst);
            [creation.join().unwrap(), deletion.join().unwrap()]
        });
        assert_eq!(statuses, [202, 410]);
        assert!(shown(&house, "i").contains("live"), "{first} first: {}", shown(&house, "i"));
        let poll = call(&standpipe, "GET", "/v2/service_instances/i/last_operation?operation=o", "");
        assert_eq!(poll.json()["state"], "succeeded");
        let events = standpipe.get("/events?after=0").body;
        assert!(events.contains("instance.created"), "the creation is still followed: {events}");
        assert_eq!(call(&standpipe, "DELETE", path, "").status, 410);
        assert!(shown(&house, "i").contains("gone"), "alone, it counts");
    }
}

#[test]
fn an_operation_whose_name_is_lost_on_the_way_is_one_all_the_same() {
    for settings in ["", "reconcile = true\nreconcile_after = \"1s\""] {
        let alpha = telling(&[service("a", "db")], |request, told| {
            let broken = "HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"operation\"".to_owned();
            Some(match request.split(' ').next() {
                Some("DELETE") if told => message("200 OK", "{}"),
                Some("PUT" | "DELETE") => broken,
                _ => message("200 OK", r#"{"state":"succeeded"}"#),
            })
        });
        let (beta, more) = (other(), format!("idle_timeout = \"1s\"\n{settings}"));
        let house = front(&[("alpha", &alpha, &more), ("beta", &beta, "")], "");
        let standpipe = served(&house);
        let instance = "/v2/service_instances/i";
        assert_eq!(put(&standpipe, "i", "a").status, 502);
        assert_eq!(events(&standpipe), ["operation.started"]);
        if settings.is_empty() {
            assert!(shown(&house, "i").contains("live"), "as any that was accepted: {}", shown(&house, "i"));
            let poll = format!("{instance}/last_operation");
            assert_eq!(call(&standpipe, "GET", &poll, "").json()["state"], "succeeded");
            assert_eq!(events(&standpipe)[1..], ["operation.settled", "instance.created"]);
            assert_eq!(call(&standpipe, "DELETE", instance, "").status, 502);
            assert!(shown(&house, "i").contains("deleting"), "{}", shown(&house, "i"));
            assert_eq!(events(&standpipe)[3..], ["operation.started"]);
        } else {
            assert!(shown(&house, "i").contains("maybe"), "it is to be deleted: {}", shown(&house, "i"));
            alpha.tell();
            until("what the platform believes to have failed is gone", || {
                shown(&house, "i").contains("gone")
            });
            assert_eq!(events(&standpipe)[1..], ["operation.settled", "instance.deleted"]);
        }
    }
}
