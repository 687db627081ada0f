//! Brokers that fail, and requests that leave things out: what a platform is told decides what it deletes.

use serde_json::json;

use crate::conformance::platform::{Ask, Platform, Reply};
use crate::conformance::{at, in_front_of, services};
use crate::support::{FaultyBroker, LOGIN, Standpipe, until, whole};

const SOON: &str = "response_timeout = \"1s\"\nidle_timeout = \"1s\"\nconnect_timeout = \"1s\"\nbreaker = { failures = 100 }";

struct World {
    a: FaultyBroker,
    b: FaultyBroker,
    standpipe: Standpipe,
}

impl World {
    /// Two brokers behind one endpoint.
    fn new() -> Self {
        let [a, b] = ["a", "b"].map(FaultyBroker::new);
        let standpipe = in_front_of(&[("a", a.origin.address), ("b", b.origin.address)], SOON);
        let world = Self { a, b, standpipe };
        until("both catalogs are known", || services(&world.platform()).len() == 2);
        world
    }

    fn platform(&self) -> Platform {
        at(&self.standpipe, "")
    }

    fn ask(&self, method: &'static str, path: &str) -> Reply {
        self.platform().send(&Ask::new(method, path)).reply
    }

    fn put(&self, path: &str, body: &str) -> Reply {
        self.platform().send(&Ask::new("PUT", path).text(body)).reply
    }

    /// An instance at broker a.
    fn provision(&self, id: &str) -> Reply {
        self.put(&format!("/v2/service_instances/{id}"), r#"{"service_id":"s-a","plan_id":"p-a"}"#)
    }
}

/// What the broker got: the request line's target and the body.
fn target(request: &str) -> &str {
    request.split(' ').nth(1).unwrap()
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn what_nobody_knows_goes_to_the_broker_whose_service_it_names_and_to_no_other() {
    let world = World::new();
    world.a.answers("410 Gone", "{\"description\":\"mine\"}");
    let i = "/v2/service_instances/unknown";
    let b = format!("{i}/service_bindings/b");
    let ids = "service_id=s-a&plan_id=p-a";
    let mut count = 0;
    for (method, path) in [
        ("DELETE", format!("{i}?{ids}")),
        ("GET", format!("{i}?{ids}")),
        ("GET", format!("{i}/last_operation?{ids}")),
        ("DELETE", format!("{b}?{ids}")),
        ("GET", format!("{b}?{ids}")),
        ("GET", format!("{b}/last_operation?{ids}")),
        // The plan is enough where it is nobody else's.
        ("DELETE", format!("{i}?service_id=&plan_id=p-a")),
        ("DELETE", format!("{i}?plan_id=p-a")),
        ("DELETE", format!("{i}?service_id=Invalid&plan_id=p-a")),
        ("GET", format!("{i}?plan%5Fid=p%2Da")),
    ] {
        let reply = world.ask(method, &path);
        count += 1;
        assert_eq!(target(&world.a.heard(count)), path);
        assert_eq!((reply.status, reply.text("description")), (410, "mine".to_owned()), "{method} {path}");
    }
    for (method, path, text) in [
        ("PATCH", i, r#"{"service_id":"s-a"}"#),
        ("PUT", i, r#"{"plan_id":"p-a","service_id":""}"#),
        ("PUT", i, r#"{ "service_id" : "s\u002da", "plan_id":"p-a", "n": 1.10, "n": 2e400 }"#),
        ("PUT", &b, r#"{"service_id":"Invalid","plan_id":"p-a"}"#),
    ] {
        let reply = world.platform().send(&Ask::new(method, path).text(text)).reply;
        count += 1;
        assert_eq!(body(&world.a.heard(count)), text, "as it was written");
        assert_eq!(reply.status, 410);
    }
    assert_eq!(world.b.asked(), Vec::<String>::new());
}

#[test]
fn queries_arrive_byte_for_byte() {
    let world = World::new();
    assert_eq!(world.provision("i").status, 200);
    let long = format!("operation={}", "x%2Fy".repeat(2000));
    let mut count = 1;
    for query in [
        "",
        "?",
        "?service_id=&plan_id=",
        "?accepts_incomplete",
        "?operation=a+b%20c%2fd%2F&x=%C3%A4&x=2&&=",
        &format!("?{long}"),
    ] {
        let path = format!("/v2/service_instances/i/last_operation{query}");
        let reply = world.ask("GET", &path);
        count += 1;
        assert_eq!((reply.status, target(&world.a.heard(count))), (200, &*path));
    }
}

#[test]
fn brokers_hear_of_a_platform_what_it_says_and_nothing_of_its_login() {
    let world = World::new();
    world.provision("i");
    let ask = Ask::new("GET", "/v2/service_instances/i").version(Some("2.13"));
    let ask = ask.field("x-broker-api-originating-identity", "cloudfoundry eyJhIjoxfQ==");
    let reply = world.platform().send(&ask.field("x-broker-api-request-identity", "r-1")).reply;
    assert_eq!(reply.field("x-broker-api-request-identity"), None, "the broker did not say it again");
    let asked = world.a.heard(2).to_lowercase();
    for field in [
        "x-broker-api-version: 2.13\r\n",
        "x-broker-api-originating-identity: cloudfoundry eyjhijoxfq==\r\n",
        "x-broker-api-request-identity: r-1\r\n",
    ] {
        assert!(asked.contains(field), "{field} in {asked}");
    }
    let login = |login: (&str, &str)| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", login.0, login.1))
    };
    assert!(world.a.heard(2).contains(&login(LOGIN)) && !asked.contains("passw0rd"), "{asked}");
    assert!(!world.a.heard(2).contains(&login(crate::conformance::PLATFORM)), "{asked}");
    world.platform().send(&Ask::new("GET", "/v2/service_instances/i").version(None));
    let asked = world.a.heard(3).to_lowercase();
    assert!(!asked.contains("x-broker-api-"), "what was not said is not added: {asked}");
}

#[test]
fn answers_pass_as_they_are_compressed_broken_or_foreign() {
    let world = World::new();
    world.provision("i");
    // `{"credentials":{}}`, as gzip has it.
    let packed: &[u8] = &[
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 46, 74, 77, 73, 205, 43, 201, 76, 204, 41, 86, 178,
        170, 174, 173, 5, 0, 88, 45, 154, 121, 18, 0, 0, 0,
    ];
    for (status, fields, text) in [
        ("201 Created", "content-type: application/json\r\ncontent-encoding: gzip\r\n", packed),
        (
            "200 OK",
            "content-type: application/json\r\n",
            br#"{"z":1.10,"a":123456789012345678901234567890,"a":2}"#,
        ),
        ("500 Oops", "content-type: text/html\r\nx-own: 1\r\nx-own: 2\r\n", b"<h1>\xff</h1>"),
        ("503 Busy", "retry-after: 17\r\n", b""),
        ("429 Slow", "retry-after: 3\r\n", b"{}"),
        (
            "422 No",
            "content-type: application/json\r\n",
            br#"{"error":"Concurrency Error","description":"x"}"#,
        ),
        ("418 Teapot", "location: /v2/elsewhere\r\n", b"[]"),
    ] {
        world.a.does(move |_| Some(whole(status, fields, text)));
        let ask = Ask::new("PUT", "/v2/service_instances/i/service_bindings/b");
        let ask = ask.body(&json!({"service_id": "s-a", "plan_id": "p-a"})).field("accept-encoding", "gzip");
        let reply = world.platform().send(&ask).reply;
        assert_eq!((&*reply.status.to_string(), &*reply.body), (&status[..3], text), "{status}");
        for field in fields.lines() {
            let field = field.split_once(": ").unwrap();
            assert!(reply.fields.contains(&(field.0.to_owned(), field.1.to_owned())), "{field:?}: {reply:?}");
        }
    }
    let asked = world.a.asked().pop().unwrap().to_lowercase();
    assert!(asked.contains("accept-encoding: identity\r\n"), "what is read is asked for as it is: {asked}");
}

#[test]
fn a_broker_that_times_out_may_have_done_it() {
    let world = World::new();
    world.a.hangs();
    let reply = world.provision("i");
    assert_eq!((reply.status, reply.json().is_object()), (504, true));
    for (method, path) in [
        ("GET", "/v2/service_instances/i"),
        ("GET", "/v2/service_instances/i/last_operation"),
        ("DELETE", "/v2/service_instances/i?service_id=s-a&plan_id=p-a"),
        ("PUT", "/v2/service_instances/i/service_bindings/b"),
    ] {
        let reply = world.platform().send(&Ask::new(method, path).body(&json!({}))).reply;
        assert_eq!((reply.status, reply.json().is_object()), (504, true), "{method} {path}");
    }
    let asked = world.a.asked().len();
    world.a.answers("200 OK", "{\"description\":\"cleaned\"}");
    let reply = world.ask("DELETE", "/v2/service_instances/i");
    assert_eq!(
        (reply.status, &*reply.text("description")),
        (200, "cleaned"),
        "mitigation reaches it without ids"
    );
    world.a.heard(asked + 1);
    world.a.answers("410 Gone", "{}");
    assert_eq!(world.ask("DELETE", "/v2/service_instances/i").status, 410, "a deleted one is still its own");
    world.a.heard(asked + 2);
    assert!(world.b.asked().is_empty(), "{:?}", world.b.asked());
}

#[test]
fn a_broker_that_is_not_there_was_not_asked() {
    let lost = format!("127.0.0.1:{}", crate::automatic::port()).parse().unwrap();
    let standpipe = in_front_of(&[("only", lost)], SOON);
    for face in ["", "/providers/only"] {
        let platform = at(&standpipe, face);
        let i = "/v2/service_instances/i";
        for path in [
            "/v2/catalog".to_owned(),
            i.to_owned(),
            format!("{i}/last_operation?operation=x"),
            format!("{i}/service_bindings/b"),
            format!("{i}/service_bindings/b/last_operation"),
        ] {
            let reply = platform.send(&Ask::new("GET", &*path)).reply;
            let again = reply.field("retry-after").is_some();
            assert_eq!((reply.status, again, reply.json().is_object()), (503, true, true), "{face}{path}");
        }
        for (method, path) in [
            ("PUT", i.to_owned()),
            ("PATCH", i.to_owned()),
            ("DELETE", format!("{i}?service_id=s&plan_id=p")),
            ("PUT", format!("{i}/service_bindings/b")),
            ("DELETE", format!("{i}/service_bindings/b?service_id=s&plan_id=p")),
        ] {
            let ask = Ask::new(method, &*path).body(&json!({"service_id": "s", "plan_id": "p"}));
            let reply = platform.send(&ask).reply;
            let told = reply.json()["description"].is_string();
            assert_eq!((reply.status, told), (502, true), "{method} {face}{path}");
        }
    }
}

#[test]
fn polls_that_say_nothing_change_nothing() {
    let world = World::new();
    world.a.answers("202 Accepted", "{\"operation\":\"o\"}");
    assert_eq!(world.provision("i").status, 202);
    let poll = "/v2/service_instances/i/last_operation?operation=o";
    for (status, text) in [
        ("200 OK", "{}"),
        ("200 OK", "{\"state\":\"strange\"}"),
        ("200 OK", "not json"),
        ("200 OK", "{\"state\":\"in progress\"}"),
        ("410 Gone", "{}"),
        ("404 Not Found", "{}"),
        ("500 Oops", ""),
        ("200 OK", "{\"state\":\"failed\",\"instance_usable\":false}"),
    ] {
        world.a.answers(status, text);
        let reply = world.ask("GET", poll);
        assert_eq!(
            (&*reply.status.to_string(), &*reply.body),
            (&status[..3], text.as_bytes()),
            "{status} {text}"
        );
    }
    let asked = world.a.asked().len();
    world.a.answers("200 OK", "{}");
    assert_eq!(
        world.ask("DELETE", "/v2/service_instances/i").status,
        200,
        "the platform deletes what failed"
    );
    world.a.heard(asked + 1);
}

#[test]
fn an_answer_that_stops_in_the_middle_is_not_passed_off_as_whole() {
    let world = World::new();
    world.a.does(|_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"state\":".to_vec()));
    let path = "/v2/service_instances/i/last_operation?service_id=s-a";
    let request = Ask::new("GET", path).bytes(&world.platform());
    let answer = crate::support::exchange(world.standpipe.address, request.as_bytes());
    let text = answer.map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
    let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
        head.starts_with("HTTP/1.1 2") && !(head.contains("content-length: 100") && body.len() < 100)
    });
    assert!(!whole, "{text}");
}

#[test]
fn a_refusal_that_stops_in_the_middle_is_one() {
    let world = World::new();
    world.a.does(|_| Some(b"HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\n{\"error\":".to_vec()));
    assert_eq!(world.provision("i").status, 502);
    let asked = world.a.asked().len();
    // What was refused was never there, and says nothing about who would have it.
    world.a.answers("410 Gone", "{}");
    assert_eq!(world.ask("DELETE", "/v2/service_instances/i").status, 400);
    assert_eq!(world.a.asked().len(), asked);
}

#[test]
fn what_names_nothing_is_judged_here_and_by_nobody_who_could_not_be_asked() {
    let world = World::new();
    world.a.answers("404 Not Found", "{}");
    world.b.answers("404 Not Found", "{}");
    let i = "/v2/service_instances/unknown";
    let b = format!("{i}/service_bindings/b");
    let nothing = json!({"service_id": "x", "plan_id": "y"});
    let table = [
        ("PUT", i.to_owned(), 400),
        ("PATCH", i.to_owned(), 400),
        ("PUT", b.clone(), 400),
        ("DELETE", i.to_owned(), 400),
        ("DELETE", format!("{i}?service_id=x"), 400),
        ("DELETE", format!("{b}?plan_id=y"), 400),
        ("DELETE", format!("{i}?service_id=x&plan_id=y"), 410),
        ("DELETE", format!("{b}?service_id=x&plan_id=y"), 410),
        ("GET", format!("{i}/last_operation"), 404),
        ("GET", format!("{b}/last_operation?service_id=x"), 404),
        ("GET", i.to_owned(), 404),
        ("GET", b.clone(), 404),
    ];
    for (method, path, status) in &table {
        let reply = world.platform().send(&Ask::new(method, &**path).body(&nothing)).reply;
        assert_eq!((reply.status, reply.json().is_object()), (*status, true), "{method} {path}");
        let reply = world.platform().send(&Ask::new(method, &**path).body(&nothing).version(None)).reply;
        assert_eq!(reply.status, 412, "{method} {path} without a version");
    }
    let changed = |request: &&String| !request.starts_with("GET ");
    for broker in [&world.a, &world.b] {
        assert_eq!(broker.asked().iter().find(changed), None, "nothing that changes is tried at random");
    }
    // A third broker that nobody has ever heard: it may have what the others do not.
    let lost = format!("127.0.0.1:{}", crate::automatic::port()).parse().unwrap();
    let brokers = [("a", world.a.origin.address), ("lost", lost)];
    let standpipe = in_front_of(&brokers, SOON);
    let platform = at(&standpipe, "");
    until("one catalog is known", || services(&platform).len() == 1);
    for (method, path, _) in &table {
        let reply = platform.send(&Ask::new(method, &**path).body(&nothing)).reply;
        let again = reply.field("retry-after").is_some();
        assert_eq!((reply.status, again), (503, true), "{method} {path}: {}", reply.body.escape_ascii());
    }
}

#[test]
fn a_rotation_that_names_no_service_goes_where_the_instance_is() {
    let world = World::new();
    world.provision("i");
    let text = r#"{"predecessor_binding_id":"b"}"#;
    let reply = world.put("/v2/service_instances/i/service_bindings/c?accepts_incomplete=true", text);
    assert_eq!((reply.status, body(&world.a.heard(2))), (200, text));
    let reply = world.ask("POST", "/v2/service_instances/i/adapt_credentials");
    assert_eq!((reply.status, world.a.asked().len()), (200, 3), "paths of some brokers below an instance");
}

#[test]
fn a_conflict_between_brokers_reaches_neither() {
    let world = World::new();
    world.provision("i");
    for path in ["/v2/service_instances/i", "/v2/service_instances/i/service_bindings/b"] {
        let reply = world.put(path, r#"{"service_id":"s-b","plan_id":"p-b"}"#);
        assert_eq!((reply.status, reply.json().is_object()), (409, true), "{path}");
    }
    assert_eq!((world.a.asked().len(), world.b.asked().len()), (1, 0));
    assert_eq!(world.provision("i").status, 200, "the same again is the broker's to judge");
    world.a.heard(2);
    world.a.answers("409 Conflict", "{}");
    assert_eq!(world.provision("i").status, 409);
    world.a.heard(3);
}
