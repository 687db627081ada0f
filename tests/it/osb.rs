//! Many OSB brokers behind `/v2`.

use serde_json::{Value, json};

use crate::support::osb::{broker, front, message, service, tenants};
use crate::support::{Answer, Origin, Standpipe, until};

pub const VERSION: (&str, &str) = ("x-broker-api-version", "2.17");

pub fn call(standpipe: &Standpipe, method: &str, path: &str, body: &str) -> Answer {
    standpipe.call(method, path, &[VERSION, ("content-type", "application/json")], body)
}

pub fn put(standpipe: &Standpipe, instance: &str, service: &str) -> Answer {
    let body = json!({"service_id": service, "plan_id": format!("{service}-small"),
        "organization_guid": "o", "space_guid": "s"});
    call(standpipe, "PUT", &format!("/v2/service_instances/{instance}"), &body.to_string())
}

pub fn said(origin: &Origin, begins: &str) -> usize {
    origin.said().iter().filter(|said| said.starts_with(begins)).count()
}

fn created(request: &str) -> Option<String> {
    Some(match request.split(' ').next() {
        Some("PUT") => message("201 Created", r#"{"dashboard_url":"http://x"}"#),
        Some("DELETE") => message("200 OK", "{}"),
        _ => message("404 Not Found", "{}"),
    })
}

#[test]
fn one_catalog_of_all_and_each_call_at_its_broker() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = broker(&[service("b", "db")], created);
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "").run();
    let catalog = call(&standpipe, "GET", "/v2/catalog", "");
    let names = |catalog: &Value| -> Vec<String> {
        let services = catalog["services"].as_array().unwrap().iter();
        services.map(|service| service["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&catalog.json()), ["db", "db-beta"]);
    let etag = catalog.header("etag").unwrap();
    // Header values are shown in lower case by this client; the validator must be sent as it came.
    assert!(etag.starts_with('"'), "{etag}");
    assert_eq!(standpipe.get("/v2/catalog").status, 412);

    assert_eq!(put(&standpipe, "i", "b").status, 201);
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (0, 1));
    // The mapping leads, without any id.
    assert_eq!(call(&standpipe, "GET", "/v2/service_instances/i/last_operation", "").status, 404);
    assert_eq!((said(&alpha, "GET /v2/service"), said(&beta, "GET /v2/service")), (0, 1));
    let swapped = put(&standpipe, "i", "a");
    assert_eq!((swapped.status, said(&alpha, "PUT"), said(&beta, "PUT")), (409, 0, 1));
    assert_eq!(
        call(&standpipe, "DELETE", "/v2/service_instances/i?service_id=b&plan_id=b-small", "").status,
        200
    );
    // The tombstone routes a repeated delete, also when nothing else could.
    assert_eq!(call(&standpipe, "DELETE", "/v2/service_instances/i", "").status, 200);
    assert_eq!(said(&beta, "DELETE"), 2);
    // It does not block a new instance of this id elsewhere.
    assert_eq!(put(&standpipe, "i", "a").status, 201);
    assert_eq!(said(&alpha, "PUT"), 1);
}

#[test]
fn what_leads_nowhere_is_answered_as_the_table_says() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = broker(&[service("b", "mq")], created);
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "").run();
    assert_eq!(call(&standpipe, "GET", "/v2/catalog", "").status, 200);
    let instance = "/v2/service_instances/none";
    let binding = "/v2/service_instances/none/service_bindings/b";
    for (method, path, body, status) in [
        ("PUT", instance, "{}", 400),
        ("PATCH", instance, r#"{"service_id":"none"}"#, 400),
        ("PUT", binding, r#"{"service_id":"none","plan_id":"none"}"#, 400),
        ("DELETE", instance, "", 400),
        ("DELETE", &format!("{binding}?service_id=x&plan_id="), "", 400),
        ("DELETE", &format!("{instance}?service_id=x&plan_id=y"), "", 410),
        ("DELETE", &format!("{binding}?service_id=x&plan_id=y"), "", 410),
        ("GET", &format!("{instance}/last_operation"), "", 404),
        ("GET", instance, "", 404),
        ("GET", binding, "", 404),
    ] {
        let answer = call(&standpipe, method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.json()["description"].is_string(), "{}", answer.body);
    }
    for (body, says) in [
        (r#"{"service_id":"a","plan"#, "the body is no JSON object"),
        ("{}", "neither a service_id nor a plan_id"),
        (r#"{"service_id":"none"}"#, "of no service in the catalog"),
    ] {
        let answer = call(&standpipe, "PUT", instance, body);
        assert!(answer.status == 400 && answer.body.contains(says), "{body}: {}", answer.body);
    }
    assert_eq!(standpipe.call("PUT", instance, &[], "{}").status, 412);
    let identity = [VERSION, ("x-broker-api-request-identity", "call-7")];
    let echoed = standpipe.call("GET", &format!("{instance}/last_operation"), &identity, "");
    assert_eq!(echoed.header("x-broker-api-request-identity"), Some("call-7"));
    // An empty id is no id, and the plan alone leads.
    let body = r#"{"service_id":"","plan_id":"b-small"}"#;
    assert_eq!(call(&standpipe, "PUT", instance, body).status, 201);
    assert_eq!(said(&beta, "PUT"), 1);
}

#[test]
fn the_plan_of_a_hidden_service_leads_only_to_what_there_is() {
    let mut other = service("a", "sql");
    other["plans"][0]["id"] = "hidden".into();
    let (alpha, beta) =
        (broker(&[service("a", "db")], created), broker(&[service("b", "mq"), other], created));
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "").run();
    until("the catalogs are there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    let body = |plan: &str| json!({"service_id": "nope", "plan_id": plan}).to_string();
    let instance = "/v2/service_instances/i";
    let refused = call(&standpipe, "PUT", instance, &body("hidden"));
    assert!(refused.status == 400 && refused.body.contains("of no service"), "{}", refused.body);
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (0, 0));
    let ids = format!("{instance}?service_id=nope&plan_id=hidden");
    assert_eq!(call(&standpipe, "DELETE", &ids, "").status, 200, "what is there already is found");
    assert_eq!(said(&beta, "DELETE"), 1);
    assert_eq!(call(&standpipe, "PUT", instance, &body("b-small")).status, 201);
}

#[test]
fn nobody_is_said_to_have_nothing_before_every_catalog_was_seen() {
    let alpha = broker(&[service("a", "db")], created);
    let down = Origin::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &down, "")], "").run();
    let catalog = call(&standpipe, "GET", "/v2/catalog", "");
    assert_eq!(catalog.header("standpipe-partial"), Some("beta;reason=unreachable"));
    for path in ["/v2/service_instances/i?service_id=x&plan_id=y", "/v2/service_instances/i"] {
        assert_eq!(call(&standpipe, "DELETE", path, "").status, 503, "{path}");
    }
    assert_eq!(put(&standpipe, "i", "x").status, 503);
    assert_eq!(put(&standpipe, "i", "a").status, 201, "what is known is not disturbed");
}

#[test]
fn a_broker_that_did_not_answer_keeps_its_instance_until_it_is_deleted() {
    fn silent(request: &str) -> Option<String> {
        if request.starts_with("PUT") { None } else { created(request) }
    }
    let alpha = broker(&[service("a", "db")], silent);
    let beta = broker(&[service("b", "mq")], created);
    let slow = "response_timeout = \"300ms\"";
    let standpipe = front(&[("alpha", &alpha, slow), ("beta", &beta, "")], "").run();
    until("the catalogs are there", || call(&standpipe, "GET", "/v2/catalog", "").status == 200);
    assert_eq!(put(&standpipe, "i", "a").status, 504);
    // The platform's orphan mitigation reaches the broker, even without ids.
    assert_eq!(call(&standpipe, "DELETE", "/v2/service_instances/i", "").status, 200);
    assert_eq!(said(&alpha, "DELETE"), 1);
}

#[test]
fn the_last_good_catalog_survives_a_broker_that_is_down_and_a_restart() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = Origin::new(|mut peer| {
        while peer.request().is_some() {
            let catalog = json!({ "services": [service("b", "mq")] }).to_string();
            let up = !peer.told();
            peer.wire.send(if up { message("200 OK", &catalog) } else { message("500 Down", "{}") });
        }
    });
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "catalog_refresh = \"1s\"")], "");
    let mut standpipe = house.serve();
    let whole = call(&standpipe, "GET", "/v2/catalog", "").body;
    beta.tell();
    let stale = "standpipe_provider_notes{provider=\"beta\",note=\"catalog-stale\"}";
    until("the operator sees it", || house.figures().contains(stale));
    let feed = standpipe.get("/events?after=0").body;
    assert!(feed.contains("catalog.changed") && feed.contains("catalog.unreachable"), "{feed}");
    assert_eq!(call(&standpipe, "GET", "/v2/catalog", "").body, whole);
    standpipe.kill();
    let standpipe = house.serve();
    assert_eq!(call(&standpipe, "GET", "/v2/catalog", "").body, whole);
    assert_eq!(put(&standpipe, "i", "a").status, 201);
}

#[test]
fn two_tenants_may_choose_one_id() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = broker(&[service("b", "mq")], created);
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    tenants(&house);
    let standpipe = house.serve();
    for (login, service) in [("Basic cmVkOnB3", "a"), ("Basic Ymx1ZTpwdw==", "b")] {
        let body = json!({"service_id": service, "plan_id": format!("{service}-small")}).to_string();
        let headers = [VERSION, ("authorization", login)];
        until("the catalogs are there", || standpipe.call("GET", "/v2/catalog", &headers, "").status == 200);
        assert_eq!(standpipe.call("PUT", "/v2/service_instances/i", &headers, &body).status, 201);
        let read = standpipe.call("DELETE", "/v2/service_instances/i", &headers, "");
        assert_eq!(read.header("standpipe-provider"), Some(if service == "a" { "alpha" } else { "beta" }));
    }
}

#[test]
fn one_broker_alone_answers_for_itself() {
    let odd = r#"{"services":[],"odd":1.50}"#;
    let text = Box::leak(message("200 OK", odd).into_boxed_str());
    let alpha = Origin::answering(text);
    let standpipe = front(&[("alpha", &alpha, "")], "").run();
    let answer = standpipe.get("/v2/catalog");
    assert_eq!((answer.status, answer.body.as_str()), (200, odd), "no version is the broker's matter");
    assert_eq!(answer.header("standpipe-provider"), None);
    assert_eq!(put(&standpipe, "i", "never-heard-of").body, odd);
}

#[test]
fn a_rotation_finds_the_broker_of_what_it_replaces() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = broker(&[service("b", "db")], |request| {
        Some(match request.split(' ').next() {
            Some("GET") if request.contains("/seen") => message("200 OK", "{}"),
            _ => return created(request),
        })
    });
    let standpipe = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "").run();
    let bind = |instance: &str, binding: &str, body: &str| {
        let path = format!("/v2/service_instances/{instance}/service_bindings/{binding}");
        call(&standpipe, "PUT", &path, body).status
    };
    // Both instances are older than standpipe.
    assert_eq!(bind("old", "one", r#"{"service_id":"b","plan_id":"b-small"}"#), 201);
    assert_eq!(bind("old", "two", r#"{"predecessor_binding_id":"one"}"#), 201);
    assert_eq!(bind("seen", "two", r#"{"predecessor_binding_id":"one"}"#), 201);
    assert_eq!((said(&alpha, "PUT"), said(&beta, "PUT")), (0, 3));
    assert_eq!(bind("nowhere", "two", r#"{"predecessor_binding_id":"one"}"#), 400);
    assert_eq!(said(&beta, "PUT"), 3);
}

#[test]
fn what_is_deleted_on_the_transparent_face_is_gone_too() {
    let alpha = broker(&[service("a", "db")], created);
    let beta = broker(&[service("b", "mq")], created);
    let house = front(&[("alpha", &alpha, ""), ("beta", &beta, "")], "");
    let standpipe = house.serve();
    let body = r#"{"service_id":"a","plan_id":"a-small","organization_guid":"o","space_guid":"s"}"#;
    let path = "/providers/alpha/v2/service_instances/i";
    assert_eq!(call(&standpipe, "PUT", path, body).status, 201);
    let shown = || house.command(&["mappings", "show", "service_instance", "i"]).1;
    assert!(shown().contains("live"), "{}", shown());
    assert_eq!(call(&standpipe, "DELETE", &format!("{path}?service_id=a&plan_id=a-small"), "").status, 200);
    assert!(shown().contains("gone"), "{}", shown());
}

#[test]
fn ids_that_platforms_know_change_by_force_only() {
    let (alpha, beta) = (broker(&[service("a", "db")], created), broker(&[service("b", "mq")], created));
    let house = front(&[("alpha", &alpha, "id_prefix = \"x-\"")], "");
    let standpipe = house.serve();
    let table = json!({ "name": "beta", "dialect": "osb", "url": format!("http://{}", beta.address) });
    assert_eq!(house.admin("POST", "/providers", &table.to_string()).status, 201);
    let update = |words: &[&str]| house.command(&[&["providers", "update", "beta"], words].concat());
    assert_eq!(update(&["--set", "id_prefix=y-"]).0, 0, "nothing lives there");
    until("all catalogs were read", || put(&standpipe, "i", "y-b").status == 201);
    assert_eq!(put(&standpipe, "j", "x-a").status, 201);

    let (code, text) = update(&["--set", "id_prefix=z-"]);
    let why =
        text.contains("id_prefix: cannot change: beta still has 1 resources, such as service_instance i");
    assert!(code == 1 && why && text.contains("force"), "{text}");
    assert_eq!(update(&["--set", "catalog_refresh=9s"]).0, 0, "what is in no id may change");
    assert_eq!(put(&standpipe, "k", "y-b").status, 201);
    assert_eq!(update(&["--set", "id_prefix=z-", "--force"]).0, 0);
    until("the catalog has the new ids", || put(&standpipe, "l", "z-b").status == 201);

    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, config.replace("x-", "w-")).unwrap();
    standpipe.signal("-HUP");
    until("the reload is refused", || standpipe.log().contains("provider[0].id_prefix: cannot change"));
    assert_eq!(put(&standpipe, "m", "x-a").status, 201, "what was in force stays");
    for instance in ["j", "m"] {
        let path = format!("/v2/service_instances/{instance}?service_id=x-a&plan_id=x-a-small");
        assert_eq!(call(&standpipe, "DELETE", &path, "").status, 200);
    }
    standpipe.signal("-HUP");
    until("nothing lives there any more", || put(&standpipe, "n", "w-a").status == 201);
}
