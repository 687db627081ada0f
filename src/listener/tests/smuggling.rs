//! What two parsers in a row could read differently reaches no service, and ends the connection.

use super::support::{Front, on_a_core, until};
use crate::config::Limits;

const POST: &str = "POST /first HTTP/1.1\r\nhost: a\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn a_head_that_can_be_read_in_two_ways_is_answered_400_and_nothing_behind_it_is_read() {
    let cases = [
        ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
        ("equal lengths", "content-length: 2\r\ncontent-length: 2\r\n\r\nab"),
        ("length and coding", "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("coding and length", "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
        ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("chunked twice", "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("chunked not last", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        ("odd coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("coding with a control character", "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        ("signed length", "content-length: +2\r\n\r\nab"),
        ("hexadecimal length", "content-length: 0x2\r\n\r\nab"),
        ("list of lengths", "content-length: 2, 2\r\n\r\nab"),
        ("huge length", "content-length: 99999999999999999999\r\n\r\nab"),
        ("bare LF", "x: y\ncontent-length: 0\r\n\r\n"),
        ("bare LF at the end", "x: y\r\n\n"),
        ("bare CR", "x: y\rcontent-length: 0\r\n\r\n"),
        ("NUL", "x: a\0b\r\n\r\n"),
        ("obs-fold", "x: a\r\n b\r\n\r\n"),
        ("space before colon", "content-length : 0\r\n\r\n"),
        ("space before name", " content-length: 0\r\n\r\n"),
        ("no colon", "content-length\r\n\r\n"),
    ];
    on_a_core(async {
        let front = Front::start(&Limits::default());
        for (count, (what, rest)) in cases.iter().enumerate() {
            let answer = front.exchange(format!("{POST}{rest}{HIDDEN}")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
            assert!(answer.ends_with("\r\n\r\n") && answer.contains("connection: close"), "{what}: {answer}");
            assert_eq!(front.stub.seen(), [], "{what}");
            until(|| front.refused("syntax") + front.refused("framing") == count as u64 + 1).await;
        }
    });
}

#[test]
fn an_odd_request_line_is_answered_400() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        for line in [
            "GET  / HTTP/1.1",
            "GET /\t HTTP/1.1",
            "GET / HTTP/1.9",
            "GET / http/1.1",
            "G@T / HTTP/1.1",
            "GET /#x HTTP/1.1",
        ] {
            let answer = front.exchange(format!("{line}\r\nhost: a\r\n\r\n{HIDDEN}")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
        }
        assert_eq!(front.stub.seen(), []);
    });
}

#[test]
fn a_body_with_bad_chunks_breaks_and_nothing_behind_it_is_read() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        for chunks in [
            "\r\n",
            "-1\r\na\r\n",
            "0x1\r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "fffffffffffffffff\r\n",
            "1;\0\r\na\r\n",
            "1;x\n\r\na\r\n",
            "0\r\nhost: b\r\n\r\n",
            "0\r\n\n",
        ] {
            let post = format!("{POST}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n{chunks}");
            let answer = front.exchange(format!("{post}0\r\n\r\n{HIDDEN}")).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
            let seen = front.stub.0.seen.take();
            assert!(matches!(&seen[..], [(_, target, Err(_))] if target == "/first"), "{chunks:?}: {seen:?}");
        }
        until(|| (front.refused("chunk"), front.refused("syntax")) == (10, 1)).await;
    });
}

#[test]
fn what_came_before_a_bad_head_is_answered_first() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let good = format!("{POST}content-length: 2\r\n\r\nok");
        let answer = front.exchange(format!("{good}{good}GET / HTTP/1.1\nhost: a\r\n\r\n{HIDDEN}")).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.matches("HTTP/1.1 400 ").count() == 1 && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(front.stub.seen().len(), 2);
    });
}

#[test]
fn a_bad_head_that_comes_in_pieces_is_answered_too() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let mut client = front.connect().await;
        client.send("GET /first HTTP/1.1\r\nhost: a\r\nx").await;
        // Answered only once hyper has read the beginning of the head that is bad later.
        client.send(": a\r\n").await;
        tokio::task::yield_now().await;
        client.send(" folded\r\n").await;
        assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn what_standpipe_does_not_forward_is_told_with_a_problem_and_a_call_id() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        for (status, request) in [
            (501, "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n"),
            (501, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
            (501, "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\n\r\n"),
            (400, "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
            (400, "GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n"),
            (400, "GET /a/%2e%2e/b HTTP/1.1\r\nhost: a\r\n\r\n"),
            (400, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"),
        ] {
            let answer = front.exchange(format!("{request}{HIDDEN}")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(answer.contains("connection: close") && answer.contains("application/problem+json"));
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["status"], status);
            assert_eq!(body["call"].as_str().unwrap().len(), 32);
        }
        assert_eq!((front.stub.seen().len(), front.refused("request")), (0, 8));
    });
}
