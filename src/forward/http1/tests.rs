use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use proptest::prelude::*;
use standpipe_api::{Body, BoxError};

use super::answer::Framing;
use super::chunked::{Chunked, Part};
use super::*;
use crate::forward::origin::Origin;

fn fields<const N: usize>(fields: [(&'static str, &'static str); N]) -> HeaderMap {
    let field = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.into_iter().map(field).collect()
}

fn request(method: &str, headers: HeaderMap, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri("/a%2Fb?x=&y").body(body).unwrap();
    *request.headers_mut() = headers;
    request
}

fn streamed<const N: usize>(frames: [Result<Frame<Bytes>, BoxError>; N]) -> Body {
    Body::stream(StreamBody::new(stream::iter(frames)))
}

fn data(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

/// A connection to somebody who sees all that was written until there is nothing more, having said what he has to say when
/// the first bytes came.
async fn heard_by(says: &'static str) -> (Box<Connection>, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let heard = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = vec![0; 64 * 1024];
        let first = peer.read(&mut heard).unwrap();
        heard.truncate(first);
        peer.write_all(says.as_bytes()).unwrap();
        // A connection that is reset has been heard as far as it came.
        let _reset = peer.read_to_end(&mut heard);
        String::from_utf8(heard).unwrap()
    });
    (Connection::new(Wire::connect(&origin, None).await.unwrap(), None), heard)
}

/// What is written for a request, and how the exchange ended.
async fn written(mut request: Request<Body>) -> (String, Result<StatusCode, Broken>) {
    let (mut connection, heard) = heard_by("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answered = connection.exchange(&mut request).await.map(|answer| answer.response.status());
    let _unsent = poll_fn(|cx| connection.poll_finish(cx)).await;
    drop(connection);
    (heard.join().unwrap(), answered)
}

#[tokio::test]
async fn a_request_is_framed_by_what_its_body_is() {
    let trailers = || fields([("x-sum", "7"), ("x-secret", "8"), ("content-length", "9")]);
    let said = |length| fields([("host", "a"), ("content-length", length), ("transfer-encoding", "gzip")]);
    for (method, headers, body, line, rest) in [
        ("GET", fields([("host", "a")]), Body::empty(), "", ""),
        ("POST", said("0"), Body::empty(), "content-length: 0\r\n", ""),
        ("PUT", said("99"), Body::from("whole"), "content-length: 5\r\n", "whole"),
        ("PUT", said("5"), streamed([data("st"), data(""), data("rea")]), "content-length: 5\r\n", "strea"),
        (
            "GET",
            fields([("host", "a")]),
            streamed([data("st"), data("")]),
            "transfer-encoding: chunked\r\n",
            "2\r\nst\r\n0\r\n\r\n",
        ),
        (
            "PUT",
            fields([("host", "a"), ("trailer", "x-sum, content-length")]),
            streamed([data("0123456789abcdef"), Ok(Frame::trailers(trailers()))]),
            "trailer: x-sum, content-length\r\ntransfer-encoding: chunked\r\n",
            "10\r\n0123456789abcdef\r\n0\r\nx-sum: 7\r\n\r\n",
        ),
    ] {
        let (written, answered) = written(request(method, headers, body)).await;
        assert_eq!(answered.unwrap(), 200);
        assert_eq!(written, format!("{method} /a%2Fb?x=&y HTTP/1.1\r\nhost: a\r\n{line}\r\n{rest}"));
    }
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let large: &'static str = "0123456789".repeat(100_000).leak();
    let whole = Body::from(large);
    let parts = Body::stream(StreamBody::new(stream::repeat_with(|| data("0123456789")).take(100_000)));
    for body in [whole, parts] {
        let (written, answered) =
            written(request("PUT", fields([("content-length", "1000000")]), body)).await;
        assert_eq!(answered.unwrap(), 200);
        assert!(written.ends_with(&format!("\r\n\r\n{large}")));
    }
}

#[tokio::test]
async fn a_body_that_is_not_what_it_said_ends_the_connection() {
    let broken = || Err(BoxError::from("the caller is gone"));
    for (headers, body, sent) in [
        (fields([("content-length", "4")]), streamed([data("abc"), data("de")]), "abc"),
        (fields([("content-length", "4")]), streamed([data("abc")]), "abc"),
        (fields([]), streamed([data("abc"), broken()]), "3\r\nabc\r\n"),
    ] {
        let (mut connection, heard) = heard_by("").await;
        let answered = connection.exchange(&mut request("PUT", headers, body)).await;
        assert!(matches!(answered, Err(Broken::Upload(_))));
        drop(connection);
        assert!(heard.join().unwrap().ends_with(&format!("\r\n\r\n{sent}")));
    }
}

#[tokio::test]
async fn an_early_answer_is_heard_before_the_body_has_left_and_the_body_leaves_all_the_same() {
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let late = stream::once(async move {
        told.await.unwrap();
        data("late")
    });
    let body = Body::stream(StreamBody::new(Box::pin(stream::iter([data("early ")]).chain(late))));
    let (mut connection, heard) = heard_by("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await;
    let answer = connection.exchange(&mut request("PUT", fields([("content-length", "10")]), body)).await;
    assert_eq!(answer.unwrap().response.status(), 202);
    assert!(!connection.has_sent_all());
    tell.send(()).unwrap();
    poll_fn(|cx| connection.poll_finish(cx)).await.unwrap();
    assert!(connection.has_sent_all());
    drop(connection);
    assert!(heard.join().unwrap().ends_with("early late"));
}

#[tokio::test]
async fn what_was_closed_or_spoke_unasked_while_idle_is_written_nothing_to() {
    for says in ["", "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let mut connection = Connection::new(Wire::connect(&origin, None).await.unwrap(), None);
        assert!(connection.is_idle());
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(says.as_bytes()).unwrap();
        drop(peer);
        while connection.is_idle() {
            tokio::task::yield_now().await;
        }
        let mut request = request("POST", fields([]), streamed([data("abc")]));
        assert!(matches!(connection.exchange(&mut request).await, Err(Broken::NotWritten(_))));
        assert_eq!(request.body_mut().bytes(10).await.unwrap(), "abc", "the request is as it was");
    }
}

fn parsed(method: &Method, text: &'static str) -> Result<head::Head, &'static str> {
    head::parse(&Bytes::from_static(text.as_bytes()), method).map(|head| head.expect("a whole head"))
}

#[test]
fn where_an_answer_ends_and_what_becomes_of_its_connection() {
    let (get, head) = (Method::GET, Method::HEAD);
    for (method, text, framing, keeps_open) in [
        (&get, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", Framing::Length(5), true),
        (&get, "HTTP/1.1 200\r\nContent-Length: 5\r\ncontent-length:  5 \r\n\r\n", Framing::Length(5), true),
        (&get, "HTTP/1.1 200 OK\nconnection: x, Close\n\n", Framing::ToTheEnd, false),
        (&get, "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n", Framing::Chunked, true),
        (&head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Framing::Length(0), true),
        (&head, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Framing::Length(0), true),
        (&get, "HTTP/1.1 204 No Content\r\n\r\n", Framing::Length(0), true),
        (&get, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Framing::Length(0), true),
        (&get, "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Framing::Length(5), false),
        (
            &get,
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n",
            Framing::Chunked,
            false,
        ),
        (
            &get,
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: Keep-Alive\r\n\r\n",
            Framing::Length(5),
            true,
        ),
    ] {
        let head = parsed(method, text).unwrap();
        assert_eq!((head.framing, head.keeps_open), (framing, keeps_open), "{text}");
        assert!(head.response.headers().get_all("content-length").iter().count() < 2, "{text}");
    }
    let whole = "HTTP/1.1 200 OK\r\nx-a: \u{e9}\r\nx-a:\r\n\r\n";
    let headers = parsed(&get, whole).unwrap().response.headers().clone();
    let values: Vec<&[u8]> = headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(values, ["\u{e9}".as_bytes(), b""]);
}

#[test]
fn an_answer_that_could_be_read_in_two_ways_is_none() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-a: b\r\n".repeat(101)).leak();
    for (text, why) in [
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "a switch of protocols"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "a transfer coding other"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "a transfer coding other",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n", "both Content-Length"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", "lengths that contradict"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: five\r\n\r\n", "lengths that contradict"),
        ("HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n", "a Content-Length that is no number"),
        ("HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n", "a Content-Length that is no number"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "a Content-Length that is no number",
        ),
        ("HTTP/1.1 200 OK\r\nx-a : b\r\n\r\n", "something that is not HTTP"),
        ("HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\n\r\n", "something that is not HTTP"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "something that is not HTTP"),
        ("HTTP/1.1 099 Odd\r\n\r\n", "a status that there is not"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "something that is not HTTP"),
        (many, "more than 100 header fields"),
    ] {
        let told = parsed(&Method::GET, text).err().unwrap();
        assert!(told.starts_with(why), "{text}: {told}");
    }
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let says = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n\
                HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (mut connection, _heard) = heard_by(says).await;
    let mut answer = connection.exchange(&mut request("GET", fields([]), Body::empty())).await.unwrap();
    assert_eq!((answer.response.status(), answer.response.headers().len()), (StatusCode::OK, 1));
    assert_eq!(answer.rest.whole().unwrap(), "ok");
    assert!(answer.rest.leaves_reusable());
}

#[tokio::test]
async fn interim_answers_have_a_bound() {
    let says: &'static str = "HTTP/1.1 100 Continue\r\n\r\n".repeat(33).leak();
    let (mut connection, _heard) = heard_by(says).await;
    let answer = connection.exchange(&mut request("GET", fields([]), Body::empty())).await;
    assert!(matches!(answer, Err(Broken::Nonsense("more than 32 interim answers"))));
}

#[tokio::test]
async fn what_would_route_or_vouch_does_not_follow_a_body() {
    let says = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 7\r\nconnection: close\r\n\
                standpipe-provider: evil\r\ncontent-length: 9\r\nx-sum: 8\r\n\r\n";
    let (mut connection, _heard) = heard_by(says).await;
    let mut answer = connection.exchange(&mut request("GET", fields([]), Body::empty())).await.unwrap();
    let end = poll_fn(|cx| answer.rest.poll_frame(&mut connection, cx)).await.unwrap().unwrap();
    let trailers = end.into_trailers().unwrap();
    let sums: Vec<&[u8]> = trailers.get_all("x-sum").iter().map(HeaderValue::as_bytes).collect();
    assert_eq!((trailers.len(), sums), (2, vec![&b"7"[..], b"8"]));
}

#[tokio::test]
async fn a_head_without_an_end_is_read_no_further_than_its_bound() {
    let says: &'static str = format!("HTTP/1.1 200 OK\r\nx-a: {}", "b".repeat(2 * MOST_HEAD)).leak();
    let (mut connection, _heard) = heard_by(says).await;
    let answer = connection.exchange(&mut request("GET", fields([]), Body::empty())).await;
    assert!(matches!(answer, Err(Broken::Nonsense("a head of more than 128 KiB"))));
}

/// Reads a chunked body that comes in two pieces.
fn read_chunked(body: &'static [u8], at: usize) -> Result<(Vec<u8>, HeaderMap, Bytes), &'static str> {
    let (mut chunked, mut told) = (Chunked::default(), Vec::new());
    let mut pieces = [body.get(..at).unwrap(), body.get(at..).unwrap()].into_iter();
    let mut read = Bytes::new();
    loop {
        match chunked.next(&mut read)? {
            Part::Data(data) => told.extend_from_slice(&data),
            Part::End(trailers) => return Ok((told, trailers, read)),
            Part::More => read = Bytes::from_static(pieces.next().ok_or("it does not end")?),
        }
    }
}

#[test]
fn a_chunked_body_is_the_same_wherever_it_is_cut() {
    let body = b"5;a=\"b\"\r\nhello\r\nB  \r\n, there was\r\n0\r\nx-sum: 7\r\nx-b: c\r\n\r\nrest";
    for at in 0..=body.len() {
        let (told, trailers, left) = read_chunked(body, at).unwrap();
        assert_eq!(
            (told.as_slice(), trailers),
            (&b"hello, there was"[..], fields([("x-sum", "7"), ("x-b", "c")]))
        );
        assert!(b"rest".starts_with(&left));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nothing_that_is_read_as_chunked_makes_us_panic_or_loop(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut chunked = Chunked::default();
        let mut read = Bytes::from(body);
        while let Ok(Part::Data(data)) = chunked.next(&mut read) {
            prop_assert!(!data.is_empty());
        }
    }
}

#[test]
fn a_body_that_is_not_chunked_is_none() {
    let long: &'static [u8] = format!("1;{}\r\n", "a".repeat(5_000)).leak().as_bytes();
    let behind: &'static [u8] = format!("0\r\n{}", "x-a: b\r\n".repeat(3_000)).leak().as_bytes();
    for body in [
        &b"hello\r\n"[..],
        b"-1\r\n",
        b"+1\r\nab",
        b"\r\n",
        b"0x5\r\nhello",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhellooo\r\n0\r\n\r\n",
        b"11112222333344445\r\n",
        b"0\r\nno field\r\n\r\n",
        long,
        behind,
    ] {
        assert_ne!(read_chunked(body, 0).map(drop), Err("it does not end"), "{body:?}");
        assert!(read_chunked(body, 0).is_err(), "{body:?}");
    }
}
