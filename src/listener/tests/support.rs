//! A front over real TCP, and a client that writes and reads bytes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use standpipe_api::{Body, Connection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use crate::config::{self, Limits, ListenerTls};
use crate::listener::{Drain, ListenerId, Service, Shared, bind, serve};

/// Runs a test as a core runs: one thread, local tasks. A test that hangs has failed.
pub(super) fn on_a_core<F: Future>(test: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { timeout(Duration::from_secs(30), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, test)
}

/// Waits until something holds.
pub(super) async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A service that does as the path says, and remembers what it was asked.
#[derive(Clone, Default)]
pub(super) struct Stub(pub(super) Rc<Memory>);

/// Method, target and body of a request; the error of a body that broke.
pub(super) type Seen = (String, String, Result<Vec<u8>, String>);

#[derive(Default)]
pub(super) struct Memory {
    /// Each request.
    pub(super) seen: RefCell<Vec<Seen>>,
    /// Requests that began.
    pub(super) began: Cell<usize>,
    /// Calls that were dropped before they answered.
    pub(super) dropped: Cell<usize>,
    /// Lets `/wait` answer.
    pub(super) go: Notify,
}

impl Stub {
    /// Target and body of each request.
    pub(super) fn seen(&self) -> Vec<(String, Result<Vec<u8>, String>)> {
        self.requests().into_iter().map(|(_, target, body)| (target, body)).collect()
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }
}

struct Running(Rc<Memory>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + usize::from(!self.1));
    }
}

impl Service for Stub {
    fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        _: ListenerId,
    ) -> impl Future<Output = Response<Body>> {
        let memory = self.0.clone();
        memory.began.set(memory.began.get() + 1);
        async move {
            let mut running = Running(memory.clone(), false);
            let (method, target) = (request.method().to_string(), request.uri().to_string());
            let response = match request.uri().path() {
                "/ignore" => status(413, Body::from("no")),
                "/wait" => {
                    memory.go.notified().await;
                    status(200, Body::from("waited"))
                }
                "/broken" => status(200, streamed(vec!["abc"], Some(memory.clone()))),
                "/streamed" => status(200, streamed(vec!["abc", "def"], None)),
                "/endless" => status(200, endless()),
                "/204" => status(204, Body::empty()),
                "/304" => status(304, Body::empty()),
                "/large" => status(200, Body::from(Bytes::from(vec![b'x'; 4 << 20]))),
                "/who" => {
                    let certificate = connection.client_certificate.as_ref().map_or(0, Vec::len);
                    status(200, Body::from(format!("{} {certificate}", connection.scheme)))
                }
                _ => {
                    let body = request.into_body().bytes(64 << 20).await;
                    let body = body.map_err(|error| error.log_text());
                    memory.seen.borrow_mut().push((method, target, body.clone().map(|body| body.to_vec())));
                    body.map_or_else(|_| status(400, Body::empty()), |body| status(200, Body::from(body)))
                }
            };
            running.1 = true;
            response
        }
    }
}

fn status(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A body in parts, that breaks at its end as soon as it may go.
fn streamed(parts: Vec<&'static str>, breaks: Option<Rc<Memory>>) -> Body {
    let frames = stream::iter(parts).map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
    let end = stream::iter(breaks).then(|memory| async move {
        memory.go.notified().await;
        Err(standpipe_api::BoxError::from("gone"))
    });
    Body::stream(StreamBody::new(Box::pin(frames.chain(end))))
}

fn endless() -> Body {
    let frame = || Ok::<_, standpipe_api::BoxError>(Frame::data(Bytes::from_static(&[0; 16 << 10])));
    Body::stream(StreamBody::new(stream::repeat_with(frame)))
}

/// A listener that serves a [`Stub`].
pub(super) struct Front {
    pub(super) address: SocketAddr,
    pub(super) stub: Stub,
    pub(super) shared: Arc<Shared>,
    pub(super) drain: Drain,
    pub(super) serving: JoinHandle<()>,
}

impl Front {
    pub(super) fn start(limits: &Limits) -> Self {
        Self::with_tls(limits, None)
    }

    pub(super) fn with_tls(limits: &Limits, tls: Option<ListenerTls>) -> Self {
        let listeners = [listener(tls)];
        let bound = bind(&listeners, 1).unwrap();
        let address = bound.addresses()[0];
        let shared = Arc::new(Shared::new(&listeners, limits).unwrap());
        let (stub, drain) = (Stub::default(), Drain::new());
        let sockets = bound.into_cores().pop().unwrap();
        let serving = spawn_local(serve(sockets, shared.clone(), Rc::new(stub.clone()), drain.clone()));
        Self { address, stub, shared, drain, serving }
    }

    pub(super) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends bytes on a new connection and reads until the other side closes.
    pub(super) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// How often requests were refused for this reason.
    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.shared.refused().find(|(word, _)| *word == reason).unwrap().1
    }
}

pub(super) fn listener(tls: Option<ListenerTls>) -> config::Listener {
    config::Listener { address: "127.0.0.1:0".parse().unwrap(), faces: vec![], callers: vec![], tls }
}

/// A client's side of a connection.
pub(super) struct Client(pub(super) TcpStream);

impl Client {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until what was read ends like this.
    pub(super) async fn read_to(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let byte = self.0.read_u8().await;
            read.push(byte.unwrap_or_else(|error| panic!("{error} after {}", read.escape_ascii())));
        }
        String::from_utf8(read).unwrap()
    }

    /// Reads until the other side closes; a reset is a close.
    pub(super) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        let _reset = self.0.read_to_end(&mut read).await;
        String::from_utf8(read).unwrap()
    }
}
