//! One connection: HTTP/1.1 or HTTP/2 by what the client speaks, one task, one timer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use standpipe_api::{Body, CallId, Connection, Error, ErrorKind, Fault};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::body::{Offered, Received};
use super::guard::{Guard, Most};
use super::linger::Linger;
use super::refuse::refusal;
use super::refused::{Reason, Refusal};
use super::sniff::{Prefixed, sniff};
use super::watch::{Answer, InFlight, Overdue, Watch, Watched};
use super::{Drain, ListenerId, Service, Shared};
use crate::config::Limits;
use crate::forward::deadline::Deadlines;
use crate::respond::{self, Manner};

/// Streams a client may have open on one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Resets a client may send ahead of our work before the connection ends (rapid reset, CVE-2023-44487).
const RESETS: usize = 32;
/// Bytes in flight per HTTP/2 stream and connection; what one client can make us hold.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// To be seen from its first bytes.
    Unknown,
}

/// What a connection needs of its listener.
pub(super) struct Host<S> {
    pub(super) service: Rc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) limits: Arc<Limits>,
    pub(super) socket: ListenerId,
    pub(super) connection: Arc<Connection>,
    pub(super) drain: Drain,
    pub(super) deadlines: Deadlines,
}

impl<S: Service> Host<S> {
    /// Serves a connection to its end.
    pub(super) async fn serve<T>(self, mut stream: T, protocol: Protocol)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let sniffed = match protocol {
            Protocol::Unknown => {
                let sniffed = tokio::select! {
                    sniffed = sniff(&mut stream, &self.limits) => sniffed,
                    () = self.drain.begun() => return,
                };
                match sniffed {
                    Ok(sniffed) => sniffed,
                    Err(error) => {
                        tracing::debug!(peer = ?self.connection.peer, %error, "connection closed unused");
                        return;
                    }
                }
            }
            known => (known, Bytes::new()),
        };
        let watch = Watch::new();
        let guard = match sniffed.0 {
            Protocol::Http2 => Guard::blind(),
            Protocol::Http1 | Protocol::Unknown => {
                Guard::new(Most { bytes: self.limits.header_bytes, fields: self.limits.header_count })
            }
        };
        let stream = Prefixed::new(sniffed.1, stream);
        let stream = Watched { stream, watch: watch.clone(), guard, linger: Linger::default() };
        let host = Rc::new(self);
        let ended = match sniffed.0 {
            Protocol::Http2 => host.http2(stream, &watch).await,
            Protocol::Http1 | Protocol::Unknown => host.http1(stream, &watch).await,
        };
        host.note(ended, &watch);
    }

    async fn http1<T>(self: &Rc<Self>, stream: T, watch: &Watch) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_headers(self.limits.header_count).max_buf_size(self.limits.header_bytes).writev(false);
        let service = service_fn(|request| {
            let (host, watch) = (self.clone(), watch.clone());
            async move { Ok::<_, Infallible>(host.answer(request, watch).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        self.run(connection, watch, |connection| connection.graceful_shutdown()).await
    }

    async fn http2<T>(self: &Rc<Self>, stream: T, watch: &Watch) -> hyper::Result<()>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(self.limits.idle)
            .keep_alive_timeout(Duration::from_secs(20));
        let service = service_fn(|request| {
            let (host, watch) = (self.clone(), watch.clone());
            async move {
                let response = host.answer(request, watch.clone()).await;
                Ok::<_, Infallible>(response.map(|body| Offered::new(body, watch.offer())))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        self.run(connection, watch, |connection| connection.graceful_shutdown()).await
    }

    /// Drives a connection, looks at its watch, and winds it down when the end begins.
    async fn run<C>(&self, connection: C, watch: &Watch, wind_down: impl Fn(Pin<&mut C>)) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut connection = pin!(connection);
        let mut look = pin!(sleep_until(Instant::now() + self.limits.header_read));
        let mut drained = pin!(self.drain.begun());
        let (mut winding_down, mut waiting, mut timed) = (false, false, false);
        poll_fn(|cx| {
            loop {
                // Asked once, the end wakes this task by itself; until then looking at it is cheaper than asking. An
                // answer that is ready when the end has begun must say that it is the last.
                let asks = !winding_down && (!waiting || self.drain.has_begun());
                waiting = true;
                if asks && drained.as_mut().poll(cx).is_ready() {
                    winding_down = true;
                    wind_down(connection.as_mut());
                }
                if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                // The timer, too, wakes this task by itself once it has been asked.
                timed = timed && !look.is_elapsed() || look.as_mut().poll(cx).is_pending();
                if timed {
                    return Poll::Pending;
                }
                match watch.look(&self.limits) {
                    Ok(next) => look.as_mut().reset(next.into()),
                    Err(Overdue::Idle) if !winding_down => {
                        winding_down = true;
                        wind_down(connection.as_mut());
                        look.as_mut().reset(Instant::now() + self.limits.header_read);
                    }
                    Err(overdue) => {
                        if overdue == Overdue::Head {
                            self.shared.refused.add(Reason::TooSlow);
                        }
                        tracing::debug!(peer = ?self.connection.peer, ?overdue, "connection closed");
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        })
        .await
    }

    async fn answer(&self, request: Request<Incoming>, watch: Watch) -> Response<Answer> {
        watch.began();
        let held = InFlight { watch, shared: self.shared.clone() };
        let crowded = self.shared.in_flight.fetch_add(1, Ordering::Relaxed) >= self.limits.requests_in_flight;
        let (response, last) = if let Some(error) = refusal(&request, self.limits.header_count) {
            self.shared.refused.add(Reason::Request);
            (refuse(&error), request.version() < Version::HTTP_2)
        } else if crowded {
            (refuse(&overloaded()), false)
        } else {
            let received = |body| Received::new(body, self.deadlines.clone(), self.limits.idle);
            let request = request.map(|body| Body::stream(received(body)));
            (self.service.handle(request, self.connection.clone(), self.socket).await, false)
        };
        let mut response = response.map(|body| Answer { body, _held: held });
        if last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn note(&self, ended: hyper::Result<()>, watch: &Watch) {
        let peer = self.connection.peer;
        if let Some(Refusal { reason, rule }) = watch.refused() {
            self.shared.refused.add(reason);
            tracing::info!(?peer, ?reason, rule, "request refused");
            return;
        }
        let Err(error) = ended else { return };
        if error.is_parse() {
            // hyper reads no further than its buffer, which is as long as a head may be.
            let reason = if error.is_parse_too_large() { Reason::TooLong } else { Reason::Syntax };
            self.shared.refused.add(reason);
            tracing::info!(?peer, ?reason, %error, "request refused");
        } else {
            tracing::debug!(?peer, %error, "connection ended");
        }
    }
}

fn refuse(error: &Error) -> Response<Body> {
    respond::error(error, CallId::from_bits(fastrand::u128(..)), Manner::default())
}

fn overloaded() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        Fault::Proxy,
        "as many requests are in flight as limits.requests_in_flight allows",
    )
    .retry_after(Duration::from_secs(1))
}

/// HTTP/2 streams run on the core of their connection.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
