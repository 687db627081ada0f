//! HTTP/1 done right: framing, waiting, breaking.

use super::support::{Front, on_a_core, until};
use crate::config::Limits;

#[test]
fn a_body_of_any_size_and_framing_comes_back_as_it_was() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let body = "0123456789".repeat(30_000);
        let length = format!("POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let chunked =
            "POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
        let chunks: String = body
            .as_bytes()
            .chunks(7001)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), chunk.escape_ascii()))
            .collect();
        let answer = front.exchange(format!("{length}{chunked}{chunks}0\r\nx-sum: 1\r\n\r\n")).await;
        assert_eq!(answer.matches(&body).count(), 2);
        let seen = front.stub.seen();
        assert!(seen.iter().all(|(_, seen)| seen.as_deref() == Ok(body.as_bytes())) && seen.len() == 2);
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_when_the_body_is_read_and_not_when_it_is_refused() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let mut client = front.connect().await;
        let head = |path| {
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        };
        client.send(head("/")).await;
        assert_eq!(client.read_to("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ok").await;
        assert!(client.read_to("\r\n\r\nok").await.starts_with("HTTP/1.1 200 OK"));
        client.send(head("/ignore")).await;
        assert!(client.rest().await.starts_with("HTTP/1.1 413 "));
    });
}

#[test]
fn an_answer_without_a_body_is_framed_so() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let mut client = front.connect().await;
        client.send("HEAD /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = client.read_to("\r\n\r\n").await;
        assert!(head.contains("content-length: 4194304\r\n") && head.contains("date: "), "{head}");
        for path in ["/204", "/304"] {
            client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
            let head = client.read_to("\r\n\r\n").await;
            assert!(!head.contains("transfer-encoding") && !head.contains("content-length: 1"), "{head}");
        }
        client.send("HEAD /streamed HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(client.rest().await.ends_with("\r\n\r\n"));
    });
}

#[test]
fn an_answer_that_breaks_never_looks_complete() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let whole = front.exchange("GET /streamed HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(whole.ends_with("3\r\ndef\r\n0\r\n\r\n"), "{whole}");
        let mut client = front.connect().await;
        client.send("GET /broken HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(client.read_to("3\r\nabc\r\n").await.starts_with("HTTP/1.1 200 OK"));
        front.stub.0.go.notify_one();
        assert_eq!(client.rest().await, "");
        until(|| front.shared.in_flight() == 0).await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_call() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let mut client = front.connect().await;
        client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
        until(|| front.stub.0.began.get() == 1).await;
        assert_eq!(front.shared.in_flight(), 1);
        drop(client);
        until(|| front.stub.0.dropped.get() == 1).await;
        until(|| front.shared.in_flight() == 0 && front.shared.connections() == 0).await;
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_breaks_it() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        for head in ["content-length: 10\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
            let mut client = front.connect().await;
            client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}")).await;
            until(|| front.stub.0.began.get() == 1).await;
            drop(client);
            until(|| front.shared.connections() == 0).await;
            assert!(front.stub.seen().iter().all(|(_, body)| body.is_err()));
            front.stub.0.began.set(0);
        }
    });
}

#[test]
fn an_early_answer_arrives_although_the_client_is_still_sending() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let mut client = front.connect().await;
        client.send("POST /ignore HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
        // Far more than the sockets' buffers hold: closing on it would reset the connection.
        let (mut read, mut write) = client.0.split();
        let sending = async {
            let piece = [0; 64 << 10];
            for _ in 0..200 {
                if tokio::io::AsyncWriteExt::write_all(&mut write, &piece).await.is_err() {
                    return false;
                }
            }
            true
        };
        let reading = async {
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer).await.map(|_| answer)
        };
        let (sent, answer) = futures_util::future::join(sending, reading).await;
        let answer = String::from_utf8(answer.unwrap()).unwrap();
        assert!(
            sent && answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("\r\n\r\nno"),
            "{sent} {answer}"
        );
    });
}
