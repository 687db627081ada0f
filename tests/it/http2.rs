//! HTTP/2, with prior knowledge and over TLS.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use crate::support::{Authority, House, Origin};

type Parts = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

fn body(frames: Vec<Frame<Bytes>>) -> Parts {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok).collect::<Vec<_>>()))
}

#[derive(Clone)]
struct Executor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        drop(spawn_local(task));
    }
}

async fn client<T: AsyncRead + AsyncWrite + Unpin + 'static>(stream: T) -> SendRequest<Parts> {
    let (sender, connection) = http2::Builder::new(Executor).handshake(TokioIo::new(stream)).await.unwrap();
    drop(spawn_local(connection));
    sender
}

fn run<F: Future>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(crate::support::PATIENCE, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, test);
}

fn get(path: &str) -> Request<Parts> {
    let uri = format!("http://front.example{path}");
    Request::get(uri)
        .header("te", "trailers")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(body(vec![]))
        .unwrap()
}

async fn read(response: Response<Incoming>) -> Result<(String, Option<HeaderMap>), hyper::Error> {
    let collected = response.into_body().collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((String::from_utf8(collected.to_bytes().to_vec()).unwrap(), trailers))
}

#[test]
fn a_client_with_prior_knowledge_is_served_as_one_of_http1() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: x-hop\r\nx-hop: 1\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let standpipe = House::before(origin.address, "", "").run();
    run(async {
        let mut sender = client(TcpStream::connect(standpipe.address).await.unwrap()).await;
        let answer = sender.send_request(get("/providers/alpha/a%2Fb?x=&y")).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        assert!(answer.headers().get("x-hop").is_none() && answer.headers().get("via").is_some());
        let (text, trailers) = read(answer).await.unwrap();
        assert_eq!((text.as_str(), trailers.unwrap()["x-sum"].as_bytes()), ("abc", &b"7"[..]));
        let request = origin.first().to_lowercase();
        assert!(request.starts_with("get /a%2fb?x=&y http/1.1\r\n"), "{request}");
        assert!(request.contains("x-forwarded-host: front.example\r\n"), "{request}");
        assert!(
            request.contains("cookie: a=1; b=2\r\n") && request.contains("te: trailers\r\n"),
            "{request}"
        );

        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", "9".parse().unwrap());
        let frames = vec![Frame::data(Bytes::from_static(b"hi")), Frame::trailers(trailers)];
        let put = Request::put("http://a/providers/alpha/x").header("trailer", "x-mine").body(body(frames));
        assert_eq!(sender.send_request(put.unwrap()).await.unwrap().status(), 200);
        let request = origin.said().pop().unwrap();
        assert!(request.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 9\r\n\r\n"), "{request}");
        assert_eq!(sender.send_request(get("/providers/alpha/../x")).await.unwrap().status(), 400);
        assert_eq!(sender.send_request(get("/providers/alpha/x")).await.unwrap().status(), 200);
    });
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_and_no_other() {
    let origin = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let framing = match request.split(' ').nth(1) {
                Some("/length") => "content-length: 100\r\n\r\nonly this",
                Some("/chunked") => "transfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
                _ => "content-length: 2\r\n\r\nok",
            };
            peer.wire.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            if !framing.ends_with("ok") {
                return;
            }
        }
    });
    let standpipe = House::before(origin.address, "", "").run();
    run(async {
        let mut sender = client(TcpStream::connect(standpipe.address).await.unwrap()).await;
        for path in ["/length", "/chunked"] {
            let answer = sender.send_request(get(&format!("/providers/alpha{path}"))).await.unwrap();
            assert!(read(answer).await.is_err(), "{path}");
            let whole = sender.send_request(get("/providers/alpha/ok")).await.unwrap();
            assert_eq!(read(whole).await.unwrap().0, "ok");
        }
    });
}

#[test]
fn tls_lets_a_client_choose_http2() {
    let authority = Authority::new();
    authority.issue("front");
    let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let standpipe = House::with_tls(origin.address, &authority).run();
    run(async {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&authority.client("h2")));
        let stream = TcpStream::connect(standpipe.address).await.unwrap();
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut sender = client(stream).await;
        let answer = sender.send_request(get("/providers/alpha/x")).await.unwrap();
        assert_eq!(read(answer).await.unwrap().0, "ok");
        let request = origin.first().to_lowercase();
        assert!(request.contains("x-forwarded-proto: https\r\n"), "{request}");
    });
}
