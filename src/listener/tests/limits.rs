//! Bounds on what a stranger can make us hold, and for how long.

use std::time::Duration;

use super::support::{Front, on_a_core, until};
use crate::config::Limits;

const SHORT: Duration = Duration::from_millis(40);
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn a_head_that_is_too_long_or_has_too_many_fields_is_answered_431() {
    on_a_core(async {
        let limits = Limits { header_bytes: 8192, header_count: 10, ..Limits::default() };
        let front = Front::start(&limits);
        let fields = "x: y\r\n".repeat(10);
        for piece in [100_000, 700] {
            let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(9000));
            let mut client = front.connect().await;
            for piece in head.as_bytes().chunks(piece) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            assert!(client.rest().await.starts_with("HTTP/1.1 431 "), "{piece}");
        }
        let answer = front.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        until(|| (front.refused("too_long"), front.refused("too_many_fields")) == (2, 1)).await;
        let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(8192 - 32));
        let mut client = front.connect().await;
        client.send(&fits).await;
        assert!(fits.len() == 8192 && client.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_head_that_does_not_end_closes_the_connection() {
    on_a_core(async {
        let front = Front::start(&Limits { header_read: SHORT, ..Limits::default() });
        for begun in ["G", "GET / HTTP/1.1\r\nhost:"] {
            let mut client = front.connect().await;
            client.send(GET).await;
            client.read_to("\r\n\r\n").await;
            client.send(begun).await;
            assert_eq!(client.rest().await, "");
        }
        assert_eq!(front.exchange("P").await, "", "not yet known to be HTTP/1");
        until(|| front.refused("too_slow") == 2 && front.shared.connections() == 0).await;
    });
}

#[test]
fn a_connection_nobody_uses_is_closed() {
    on_a_core(async {
        let front = Front::start(&Limits { idle: SHORT, header_read: SHORT, ..Limits::default() });
        assert_eq!(front.exchange("").await, "");
        let answer = front.exchange(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        until(|| front.shared.connections() == 0).await;
    });
}

#[test]
fn a_body_that_stalls_breaks_while_a_slow_call_does_not() {
    on_a_core(async {
        let front = Front::start(&Limits { idle: SHORT, header_read: SHORT, ..Limits::default() });
        let mut slow = front.connect().await;
        slow.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = front.exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(matches!(&front.stub.seen()[..], [(_, Err(why))] if why.contains("limits.idle")));
        front.stub.0.go.notify_one();
        assert!(slow.read_to("waited").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_client_that_does_not_read_its_answer_is_let_go() {
    on_a_core(async {
        let front = Front::start(&Limits { idle: SHORT, header_read: SHORT, ..Limits::default() });
        let mut client = front.connect().await;
        client.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await;
        until(|| front.stub.0.began.get() == 1).await;
        until(|| front.shared.in_flight() == 0 && front.shared.connections() == 0).await;
    });
}

#[test]
fn over_the_limit_a_connection_waits_for_another_to_end() {
    on_a_core(async {
        let front = Front::start(&Limits { connections: 1, ..Limits::default() });
        let mut first = front.connect().await;
        first.send(GET).await;
        first.read_to("\r\n\r\n").await;
        let mut second = front.connect().await;
        second.send("GET /second HTTP/1.1\r\nhost: a\r\n\r\n").await;
        first.send(GET).await;
        first.read_to("\r\n\r\n").await;
        assert_eq!((front.stub.seen().len(), front.shared.connections()), (2, 1));
        drop(first);
        second.read_to("\r\n\r\n").await;
        let more = Limits { connections: 2, ..Limits::default() };
        front.shared.reload(&[super::support::listener(None)], &more).unwrap();
        let mut third = front.connect().await;
        third.send(GET).await;
        third.read_to("\r\n\r\n").await;
        assert_eq!(front.shared.connections(), 2);
    });
}

#[test]
fn a_request_too_many_is_told_when_to_come_back() {
    on_a_core(async {
        let front = Front::start(&Limits { requests_in_flight: 1, ..Limits::default() });
        let (mut first, mut second) = (front.connect().await, front.connect().await);
        first.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
        until(|| front.shared.in_flight() == 1).await;
        second.send(GET).await;
        let answer = second.read_to("}").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
        front.stub.0.go.notify_one();
        first.read_to("waited").await;
        second.send(GET).await;
        assert!(second.read_to("\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    });
}
