//! Providers that fail: what is tried again, what is not, and when a provider is left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{House, Origin, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn request(method: &str, body: &str) -> String {
    format!("{method} /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Its first connection answers once and dies on the next request; others are good.
fn dying() -> Origin {
    Origin::new(|mut peer| {
        while peer.request().is_some() {
            peer.wire.send(OK);
            if peer.number == 0 {
                peer.request();
                return;
            }
        }
    })
}

#[test]
fn a_read_on_a_pooled_connection_that_dies_is_sent_once_more() {
    let origin = dying();
    let standpipe = House::before(origin.address, "", "threads = 1\n").run();
    let mut client = Wire::connect(standpipe.address);
    assert_eq!(client.ask(&request("GET", "")).status, 200);
    assert_eq!(client.ask(&request("GET", "")).status, 200);
    assert_eq!((origin.said().len(), origin.connections()), (3, 2));
    assert_eq!(origin.said()[1], origin.said()[2], "the same request again");
}

#[test]
fn a_write_that_may_have_arrived_is_not_sent_twice() {
    for (method, body) in [("POST", "{}"), ("PATCH", "{}"), ("POST", ""), ("PUT", "streamed")] {
        let origin = dying();
        let standpipe = House::before(origin.address, "", "threads = 1\n").run();
        let mut client = Wire::connect(standpipe.address);
        assert_eq!(client.ask(&request("GET", "")).status, 200);
        let answer = client.ask(&request(method, body));
        assert_eq!((answer.status, &answer.json()["fault"]), (502, &"provider:alpha".into()), "{method}");
        assert_eq!((origin.said().len(), origin.connections()), (2, 1), "{method} {body:?}");
    }
}

#[test]
fn a_write_finds_a_new_connection_when_the_pooled_one_was_closed_before() {
    let origin = Origin::new(|mut peer| {
        peer.request();
        peer.wire.send(OK);
    });
    let house = House::before(origin.address, "", "threads = 1\n");
    let standpipe = house.serve();
    let mut client = Wire::connect(standpipe.address);
    for sent in 1..4 {
        assert_eq!(client.ask(&request("POST", "{}")).status, 200);
        assert_eq!((origin.said().len(), origin.connections()), (sent, sent));
        until("the provider has closed", || {
            house.figure("standpipe_pool_connections{provider=\"alpha\",state=\"idle\"}") == 0.0
        });
    }
}

#[test]
fn a_read_on_a_new_connection_is_not_sent_again() {
    let origin = Origin::new(|mut peer| drop(peer.request()));
    let standpipe = House::before(origin.address, "", "").run();
    assert_eq!(standpipe.get("/providers/alpha/x").status, 502);
    assert_eq!(origin.said().len(), 1);
}

#[test]
fn what_no_provider_hears_is_503_for_a_read_and_502_for_a_write() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let standpipe = House::before(nobody, "", "").run();
    let read = standpipe.get("/providers/alpha/x");
    assert_eq!((read.status, &read.json()["fault"]), (503, &"provider:alpha".into()));
    assert!(read.header("retry-after").is_some());
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let write = standpipe.call(method, "/providers/alpha/x", &[], "");
        assert_eq!((write.status, &write.json()["fault"]), (502, &"provider:alpha".into()), "{method}");
    }
}

#[test]
fn a_provider_that_keeps_failing_is_left_alone_and_then_tried() {
    let good = Arc::new(AtomicBool::new(false));
    let now_good = good.clone();
    let origin = Origin::new(move |mut peer| {
        while peer.request().is_some() && good.load(Ordering::SeqCst) {
            peer.wire.send(OK);
        }
    });
    let breaker = "breaker = { failures = 2, open = \"1s\" }\n";
    let standpipe = House::before(origin.address, breaker, "threads = 2\n").run();
    for _ in 0..2 {
        assert_eq!(standpipe.get("/providers/alpha/x").status, 502);
    }
    for method in ["GET", "POST"] {
        let refused = standpipe.call(method, "/providers/alpha/x", &[], "");
        assert_eq!((refused.status, &refused.json()["fault"]), (503, &"provider:alpha".into()), "{method}");
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(origin.said().len(), 2, "it was left alone");
    now_good.store(true, Ordering::SeqCst);
    until("it is tried again", || standpipe.get("/providers/alpha/x").status == 200);
    assert_eq!(origin.said().len(), 3);
    for _ in 0..5 {
        assert_eq!(standpipe.get("/providers/alpha/x").status, 200, "the breaker is closed");
    }
}

#[test]
fn a_providers_own_5xx_is_an_answer() {
    let origin = Origin::answering("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy");
    let breaker = "breaker = { failures = 1, open = \"60s\" }\n";
    let standpipe = House::before(origin.address, breaker, "").run();
    for _ in 0..3 {
        let answer = standpipe.get("/providers/alpha/x");
        assert_eq!((answer.status, answer.body.as_str()), (503, "busy"));
    }
}

#[test]
fn silence_after_sending_is_a_timeout() {
    let origin = Origin::new(|mut peer| {
        peer.request();
        let rest = peer.wire.rest();
        peer.say(&format!("then {rest}"));
    });
    let standpipe = House::before(origin.address, "response_timeout = \"200ms\"\n", "").run();
    for (at, method) in ["GET", "POST"].into_iter().enumerate() {
        let answer = standpipe.call(method, "/providers/alpha/x", &[], "");
        assert_eq!((answer.status, &answer.json()["fault"]), (504, &"provider:alpha".into()), "{method}");
        // It is not left with a connection nobody listens to.
        origin.wait_for(2 * (at + 1));
        assert_eq!(origin.said().pop().unwrap(), "then ");
    }
}

#[test]
fn an_answer_that_could_be_read_in_two_ways_is_not_passed_on() {
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "both Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "transfer coding",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\nabc", "transfer coding"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "switch of protocols",
        ),
        ("HTTP/1.1 999999 What\r\n\r\n", "not HTTP"),
    ] {
        let origin = Origin::answering(answer);
        let standpipe = House::before(origin.address, "", "").run();
        let told = standpipe.get("/providers/alpha/x");
        assert_eq!(told.status, 502, "{answer}: {}", told.body);
        assert!(told.body.contains(why) && told.body.contains("alpha"), "{answer}: {}", told.body);
    }
}

#[test]
fn a_write_that_was_lost_is_not_called_unsent_because_its_second_attempt_could_not_be_made() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let broker = std::thread::spawn(move || {
        let mut peer = Wire::new(listener.accept().unwrap().0);
        peer.message().unwrap();
        peer.send(OK);
        // It hears the second request, and is gone altogether.
        let heard = peer.message();
        drop(listener);
        heard
    });
    let standpipe = House::before(address, "", "threads = 1\n").run();
    let mut client = Wire::connect(standpipe.address);
    assert_eq!(client.ask(&request("GET", "")).status, 200);
    let answer = client.ask("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(broker.join().unwrap().unwrap().starts_with("PUT "));
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("may have worked"), "{}", answer.body);
}

#[test]
fn a_refused_attempt_does_not_keep_the_next_from_its_turn() {
    let origin = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            peer.wire.send(if request.to_ascii_lowercase().contains("authorization: digest") {
                OK
            } else {
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n\
                 transfer-encoding: chunked\r\n\r\n4\r\nlate\r\n"
            });
        }
    });
    let house = House::before(
        origin.address,
        "concurrency = 1\nqueue_wait = \"200ms\"\n\
         credential = { kind = \"digest\", username = \"u\", password = \"file:password\" }\n",
        "threads = 1\n",
    );
    std::fs::write(house.folder.path().join("password"), "p").unwrap();
    let standpipe = house.run();
    assert_eq!(standpipe.get("/providers/alpha/x").status, 200);
}

#[test]
fn a_caller_that_stops_sending_is_not_held_against_the_provider() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let settings = "idle_timeout = \"200ms\"\nbreaker = { failures = 1, open = \"60s\" }\n";
    let standpipe = House::before(origin.address, settings, "").run();
    let mut stalled = Wire::connect(standpipe.address);
    stalled.send("POST /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc");
    let answer = stalled.message().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""fault":"caller""#), "{answer}");
    assert_eq!(standpipe.get("/providers/alpha/x").status, 200, "the breaker is closed");
}
