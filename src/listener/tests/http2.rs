//! HTTP/2 with prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

use super::support::{Front, on_a_core, until};
use crate::config::Limits;

#[derive(Clone)]
struct Executor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        drop(spawn_local(task));
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// A connection, and its end.
async fn connect(front: &Front, window: u32) -> (Sender, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(front.address).await.unwrap();
    let mut builder = http2::Builder::new(Executor);
    builder.initial_stream_window_size(window).initial_connection_window_size(window.max(65_535));
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, spawn_local(connection))
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://a{path}")).body(Full::default()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn streams_are_answered_side_by_side_and_the_end_lets_them_finish() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let (mut sender, connection) = connect(&front, 1 << 20).await;
        let waiting = spawn_local(sender.send_request(get("/wait")));
        until(|| front.shared.in_flight() == 1).await;
        let post = Request::post("http://a/x").body(Full::from("body")).unwrap();
        let answer = sender.send_request(post).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(text(answer).await, "body");
        front.drain.begin();
        let address = front.address;
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!front.serving.is_finished());
        front.stub.0.go.notify_one();
        assert_eq!(text(waiting.await.unwrap().unwrap()).await, "waited");
        connection.await.unwrap().unwrap();
        front.serving.await.unwrap();
    });
}

#[test]
fn a_connection_without_streams_has_the_time_of_an_idle_one_and_no_longer() {
    on_a_core(async {
        let short = Duration::from_millis(20);
        let front = Front::start(&Limits { header_read: short, ..Limits::default() });
        let (mut sender, _connection) = connect(&front, 1 << 20).await;
        tokio::time::sleep(short * 5).await;
        assert_eq!(sender.send_request(get("/who")).await.unwrap().status(), StatusCode::OK);
        let front = Front::start(&Limits { idle: short, header_read: short, ..Limits::default() });
        let (_sender, connection) = connect(&front, 1 << 20).await;
        connection.await.unwrap().unwrap();
        until(|| front.shared.connections() == 0).await;
    });
}

#[test]
fn a_client_that_gives_no_window_is_let_go_and_holds_no_answer() {
    on_a_core(async {
        let short = Duration::from_millis(40);
        let front = Front::start(&Limits { idle: short, header_read: short, ..Limits::default() });
        for path in ["/endless", "/large"] {
            let (mut sender, connection) = connect(&front, 1000).await;
            let answer = sender.send_request(get(path)).await.unwrap();
            assert_eq!(front.shared.in_flight(), 1, "{path}");
            let _ended = connection.await.unwrap();
            until(|| front.shared.in_flight() == 0 && front.shared.connections() == 0).await;
            drop(answer);
        }
    });
}

#[test]
fn a_large_answer_arrives_whole() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let (mut sender, _connection) = connect(&front, 1000).await;
        let answer = sender.send_request(get("/large")).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "4194304");
        assert_eq!(text(answer).await.len(), 4 << 20);
    });
}

#[test]
fn fields_are_limited_and_refusals_leave_the_connection_open() {
    on_a_core(async {
        let limits = Limits { header_bytes: 8192, header_count: 4, ..Limits::default() };
        let front = Front::start(&limits);
        let (mut sender, _connection) = connect(&front, 1 << 20).await;
        let mut many = get("/");
        for at in 0..5 {
            many.headers_mut().append("x", at.into());
        }
        assert_eq!(sender.send_request(many).await.unwrap().status(), 431);
        let mut long = get("/");
        long.headers_mut().insert("x", "x".repeat(9000).parse().unwrap());
        assert_eq!(sender.send_request(long).await.unwrap().status(), 431);
        assert_eq!(sender.send_request(get("/a/../b")).await.unwrap().status(), 400);
        assert_eq!(sender.send_request(get("/204")).await.unwrap().status(), 204);
        assert_eq!(front.stub.0.began.get(), 1);
    });
}

#[test]
fn a_stream_that_is_reset_ends_its_call_only() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let (mut sender, _connection) = connect(&front, 1 << 20).await;
        let waiting = spawn_local(sender.send_request(get("/wait")));
        until(|| front.shared.in_flight() == 1).await;
        waiting.abort();
        until(|| front.stub.0.dropped.get() == 1 && front.shared.in_flight() == 0).await;
        assert_eq!(sender.send_request(get("/204")).await.unwrap().status(), 204);
    });
}

#[test]
fn an_answer_that_breaks_resets_its_stream() {
    on_a_core(async {
        let front = Front::start(&Limits::default());
        let (mut sender, _connection) = connect(&front, 1 << 20).await;
        let answer = sender.send_request(get("/broken")).await.unwrap();
        front.stub.0.go.notify_one();
        assert!(answer.into_body().collect().await.is_err());
    });
}
