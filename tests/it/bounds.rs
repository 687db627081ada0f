//! Limits on clients and on what is asked of a provider, seen from outside.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::{Answer, House, Origin, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n";

/// A provider that answers each request when it is told to.
fn told() -> (Origin, Sender<()>) {
    let (tell, told) = channel::<()>();
    let told = Mutex::new(told);
    let origin = Origin::new(move |mut peer| {
        while peer.request().is_some() {
            if told.lock().unwrap().recv().is_err() {
                return;
            }
            peer.wire.send(OK);
        }
    });
    (origin, tell)
}

#[test]
fn clients_that_dawdle_are_closed() {
    let origin = Origin::answering(OK);
    let limits = "[limits]\nheader_read = \"200ms\"\nidle = \"400ms\"\n";
    let standpipe = House::before(origin.address, "", limits).run();
    for begun in ["", "G", "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\nx:"] {
        let mut client = Wire::connect(standpipe.address);
        client.send(begun);
        assert_eq!(client.rest(), "", "{begun:?}");
    }
    let mut client = Wire::connect(standpipe.address);
    assert_eq!(client.ask(GET).status, 200);
    assert_eq!(client.rest(), "", "idle after an answer");
    let mut client = Wire::connect(standpipe.address);
    client.send("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc");
    assert_eq!(Answer::parse(client.rest().as_bytes()).unwrap().status, 400, "a body that stalls");
    assert!(origin.said().len() == 1, "{:?}", origin.said());
}

#[test]
fn a_body_that_is_too_long_to_be_read_goes_unread_to_the_provider_that_was_named() {
    use crate::support::osb::{broker, front, message, service};

    let made = |request: &str| {
        let (head, body) = request.split_once("\r\n\r\n")?;
        let (line, length) = (head.lines().next()?, body.len());
        Some(message("201 Created", &format!("{{\"line\":{line:?},\"length\":{length}}}")))
    };
    let [plain, prefixed] = ["s", "t"].map(|id| broker(&[service(id, id)], made));
    let house = front(
        &[("plain", &plain, ""), ("prefixed", &prefixed, "id_prefix = \"x-\"")],
        "[limits]\nbody_buffer = \"64KiB\"\n",
    );
    let standpipe = house.run();
    let body = |kib: usize| {
        let filling = "x".repeat(kib << 10);
        format!("{{\"service_id\":\"s\",\"plan_id\":\"s-small\",\"parameters\":{{\"x\":\"{filling}\"}}}}")
    };
    let put = |path: &str, headers: &[(&str, &str)], body: &str| {
        let headers = [&[("x-broker-api-version", "2.17"), ("content-type", "application/json")], headers];
        standpipe.call("PUT", path, &headers.concat(), body)
    };
    let (long, instance) = (body(2048), "/v2/service_instances/i");
    let bound = format!("{instance}/service_bindings/b");
    let named = [("standpipe-provider", "plain")];
    let ways = [("/providers/plain", &[][..]), ("", &named[..])];
    for ((face, headers), path) in ways.into_iter().zip([instance, &bound]) {
        let answer = put(&format!("{face}{path}"), headers, &long);
        assert_eq!((answer.status, &answer.json()["length"]), (201, &long.len().into()), "{answer:?}");
        assert_eq!(answer.json()["line"], format!("PUT {path} HTTP/1.1"));
    }
    assert_eq!(
        standpipe.get(instance).json()["line"],
        format!("GET {instance} HTTP/1.1"),
        "known where it is"
    );
    let refused = put("/v2/service_instances/j", &[], &body(65));
    assert_eq!(refused.status, 413, "its body tells where it goes: {refused:?}");
    let refused = put("/v2/service_instances/k", &[("standpipe-provider", "prefixed")], &long);
    assert_eq!(refused.status, 413, "the prefix has to be taken off: {refused:?}");
    assert!(refused.body.contains("has to be read"), "{refused:?}");
    assert!(prefixed.said().iter().all(|request| request.starts_with("GET /v2/catalog ")));
    assert_eq!(put("/v2/service_instances/l", &[], &body(1)).status, 201);
}

#[test]
fn over_the_limit_a_connection_waits_and_a_reload_makes_room() {
    let origin = Origin::answering(OK);
    let limits = |connections| format!("[limits]\nconnections = {connections}\n");
    let house = House::before(origin.address, "", &limits(1));
    let standpipe = house.serve();
    let mut first = Wire::connect(standpipe.address);
    assert_eq!(first.ask(GET).status, 200);
    let mut second = Wire::connect(standpipe.address);
    second.send(GET);
    for _ in 0..5 {
        assert_eq!(first.ask(GET).status, 200);
    }
    assert_eq!(origin.said().len(), 6, "nobody heard the second");
    drop(first);
    assert!(second.message().unwrap().starts_with("HTTP/1.1 200 OK"));
    let mut third = Wire::connect(standpipe.address);
    third.send(GET);
    house.write_before(origin.address, "", &limits(3));
    standpipe.signal("-HUP");
    assert!(third.message().unwrap().starts_with("HTTP/1.1 200 OK"));
    assert_eq!(second.ask(GET).status, 200, "the reload dropped nobody");
}

#[test]
fn a_request_too_many_is_told_when_to_come_back() {
    let (origin, tell) = told();
    let standpipe = House::before(origin.address, "", "[limits]\nrequests_in_flight = 1\n").run();
    let (mut first, mut second) = (Wire::connect(standpipe.address), Wire::connect(standpipe.address));
    first.send(GET);
    origin.wait_for(1);
    let refused = second.ask(GET);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    tell.send(()).unwrap();
    assert!(first.message().unwrap().starts_with("HTTP/1.1 200 OK"));
    tell.send(()).unwrap();
    until("there is room again", || second.ask(GET).status == 200);
}

#[test]
fn a_provider_gets_no_more_than_its_share_and_the_wait_for_a_turn_is_bounded() {
    let (origin, tell) = told();
    let settings = "concurrency = 1\nqueue_wait = \"100ms\"\n";
    let standpipe = House::before(origin.address, settings, "threads = 2\n").run();
    let (mut first, mut second) = (Wire::connect(standpipe.address), Wire::connect(standpipe.address));
    first.send(GET);
    origin.wait_for(1);
    for _ in 0..3 {
        let refused = second.ask(GET);
        assert_eq!((refused.status, &refused.json()["fault"]), (503, &"provider:alpha".into()));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(origin.said().len(), 1);
    tell.send(()).unwrap();
    assert!(first.message().unwrap().starts_with("HTTP/1.1 200 OK"));

    let (origin, tell) = told();
    let standpipe = House::before(origin.address, "concurrency = 1\nqueue_wait = \"20s\"\n", "").run();
    let (mut first, mut second) = (Wire::connect(standpipe.address), Wire::connect(standpipe.address));
    first.send(GET);
    origin.wait_for(1);
    second.send(GET);
    tell.send(()).unwrap();
    assert!(first.message().unwrap().starts_with("HTTP/1.1 200 OK"));
    tell.send(()).unwrap();
    assert!(second.message().unwrap().starts_with("HTTP/1.1 200 OK"), "its turn came");
}

#[test]
fn connections_that_say_nothing_do_not_hold_up_the_end_and_a_call_in_flight_does() {
    let (origin, tell) = told();
    // On one core, so that all connections learn of the end at the same time.
    let house = House::before(origin.address, "", "threads = 1\n");
    let mut standpipe = house.serve();
    let (mut silent, mut busy) = (Wire::connect(standpipe.address), Wire::connect(standpipe.address));
    let mut used = Wire::connect(standpipe.address);
    tell.send(()).unwrap();
    assert_eq!(used.ask(GET).status, 200);
    busy.send(GET);
    origin.wait_for(2);
    standpipe.signal("-TERM");
    assert_eq!((silent.rest(), used.rest()), (String::new(), String::new()));
    let ready = house.admin("GET", "/ready", "");
    assert!(ready.status == 503 && ready.body.contains("draining"), "{ready:?}");
    tell.send(()).unwrap();
    let answer = busy.message().unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("ok"), "{answer}");
    standpipe.ended();
    assert!(!standpipe.log().contains("limits.drain is over"), "{}", standpipe.log());
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let origin = Origin::answering(OK);
    let house = House::before(origin.address, "", "[limits]\nheader_count = 5\n");
    let standpipe = house.serve();
    let head = "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n";
    for (reason, status, rest) in [
        ("framing", 400, "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("syntax", 400, "x : y\r\n\r\n"),
        ("too_many_fields", 431, "a:\r\nb:\r\nc:\r\nd:\r\ne:\r\n\r\n"),
        ("request", 400, "host: b\r\n\r\n"),
    ] {
        let mut client = Wire::connect(standpipe.address);
        client.send(format!("{head}\r\n{head}{rest}"));
        assert!(client.message().unwrap().starts_with("HTTP/1.1 200 OK"), "what came before is answered");
        assert!(client.message().unwrap().starts_with(&format!("HTTP/1.1 {status} ")), "{reason}");
        assert_eq!(client.rest(), "", "{reason}");
        drop(client);
        until("it is counted", || {
            house.figure(&format!("standpipe_refused_heads_total{{reason=\"{reason}\"}}")) == 1.0
        });
    }
    assert_eq!(origin.said().len(), 4);
}
