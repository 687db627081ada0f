//! Step 6: a request and a provider in, an answer out.
//!
//! Pools are per core; breaker and concurrency limit are the provider's, shared by all cores. Bodies stream
//! both ways. A request is sent again only when nothing can have happened: the connection was not made, a
//! pooled connection died before the request was written, or it died before any byte of an answer and the
//! request is idempotent and still whole.

mod body;
pub mod breaker;
pub mod deadline;
mod failure;
pub mod headers;
pub mod origin;
mod pool;
mod replay;
pub mod tls;
mod wire;

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use standpipe_api::Body;
use tokio::sync::OwnedSemaphorePermit;

use self::body::{Download, Lease, Progress};
use self::deadline::{Deadlines, now};
pub use self::failure::Failure;
use self::origin::Origin;
use self::pool::Connection;
pub use self::pool::Pool;
pub use self::replay::Replay;
pub use self::wire::Tls;
use self::wire::Wire;
use crate::providers::{Destination, Provider};

/// Bytes of an answer's head and of its body that one connection holds before it is read on.
const MOST_BUFFERED: usize = 128 * 1024;

/// What one core needs to forward: its pool and its deadlines.
#[derive(Clone, Default)]
pub struct Forward {
    pool: Pool,
    deadlines: Deadlines,
}

impl Forward {
    /// The deadlines of this core.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The pool of this core.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Wakes deadlines and closes idle connections, as long as the core runs.
    pub async fn run(self) {
        let sweep = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.pool.sweep(now());
            }
        };
        futures_util::future::join(self.deadlines.clone().run(), sweep).await;
    }

    /// Sends a request whose head is already the provider's, and waits for the head of the answer; the request is taken.
    /// With a `replay` it is sent again when a pooled connection dies before any byte of an answer.
    ///
    /// # Errors
    /// Why there is none, and whether the request may have arrived.
    pub async fn send(
        &self,
        provider: &Provider,
        destination: &Destination,
        request: &mut Request<Body>,
        replay: Option<&Replay>,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure> {
        provider.breaker.admit(now).map_err(Failure::BreakerOpen)?;
        let permit = self.turn(provider, deadline).await?;
        let answered = match destination {
            Destination::InProcess(upstream) => {
                let patience = deadline.min(now() + provider.config.response_timeout);
                let served = self.deadlines.within(|| patience, upstream.serve(mem::take(request))).await;
                served.map_err(|_| Failure::Timeout)
            }
            Destination::Origin(origin) => {
                let sending = Sending { provider, origin, replay, deadline };
                self.exchange(sending, request, permit).await
            }
        };
        match &answered {
            Ok(_) => provider.breaker.succeeded(),
            Err(failure) if failure.counts() => provider.failed(failure),
            Err(_) => {}
        }
        answered
    }

    /// Sends one request on a connection of its own, to an origin that is no provider's; without settings, TLS trusts
    /// the platform's roots.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send_once(
        &self,
        origin: &Origin,
        settings: Option<&Arc<ClientConfig>>,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<Response<Body>, Failure> {
        let unusable =
            |problem: standpipe_api::Problem| Failure::Unreachable(std::io::Error::other(problem.text));
        let config = match (&origin.server_name, settings) {
            (Some(_), None) => Some(tls::client_config(None).map_err(unusable)?),
            (Some(_), Some(settings)) => Some(settings.clone()),
            (None, _) => None,
        };
        let tls = origin.server_name.as_ref().zip(config.as_ref()).map(|(name, config)| Tls { name, config });
        let end = now() + limit;
        let wire = self.deadlines.within(|| end, Wire::connect(origin, tls)).await;
        let wire = wire.map_err(|_| Failure::ConnectTimeout)?.map_err(Failure::Unreachable)?;
        let handshake = http1::Builder::new().max_buf_size(MOST_BUFFERED).handshake(TokioIo::new(wire)).await;
        let (mut sender, driver) = handshake.map_err(Failure::Broken)?;
        tokio::task::spawn_local(async move {
            // What ends the connection badly ends its one request badly, and is reported there.
            if let Err(error) = driver.await {
                tracing::trace!(%error, "outbound connection ended");
            }
        });
        let answered = self.deadlines.within(|| end, sender.send_request(request)).await;
        let response = answered.map_err(|_| Failure::Timeout)?.map_err(Failure::Broken)?;
        match not_passed_on(&response) {
            Some(why) => Err(Failure::Nonsense(why)),
            None => Ok(response.map(crate::incoming::body)),
        }
    }

    /// Waits for a turn under the provider's concurrency limit.
    async fn turn(&self, provider: &Provider, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = provider.turns.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let wait = provider.config.queue_wait;
        let end = deadline.min(now() + wait);
        let turn = self.deadlines.within(|| end, provider.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(Failure::Busy(wait))
    }

    async fn exchange(
        &self,
        sending: Sending<'_>,
        request: &mut Request<Body>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Failure> {
        let Sending { provider, origin, mut replay, deadline } = sending;
        let settings = &provider.config;
        let upload = Progress::track(request.body_mut(), settings.idle_timeout, settings.response_timeout);
        // A body that streams moves the deadline along; without one the call's own deadline counts too.
        let end = deadline.min(now() + settings.response_timeout);
        let patience = || upload.as_ref().map_or(end, Progress::deadline);
        let mut pooled = self.pool.take(origin.id);
        loop {
            let reused = pooled.is_some();
            let mut connection = match pooled.take() {
                Some(connection) => connection,
                None => Box::pin(self.connect(provider, origin, deadline)).await?,
            };
            let before = connection.received.get();
            let answer = pin!(connection.sender.try_send_request(mem::take(request)));
            let answered = self.deadlines.within(patience, answer).await.map_err(|_| Failure::Timeout)?;
            match answered.map_err(|error| Attempt::of(error, since(&connection, before))) {
                Ok(response) => {
                    if let Some(why) = not_passed_on(&response) {
                        return Err(Failure::Nonsense(why));
                    }
                    let (pool, origin, lifetime) = (self.pool.clone(), origin.id, settings.idle_timeout);
                    let lease = Lease { connection, pool, origin, lifetime, permit };
                    return Ok(self.answer(response, lease));
                }
                Err(Attempt::NotWritten(unsent)) if reused => *request = *unsent,
                Err(Attempt::NotWritten(_)) => {
                    let closed = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    return Err(Failure::Unreachable(closed));
                }
                Err(Attempt::NoAnswer(_)) if reused && replay.is_some() => {
                    *request = replay.take().map(Replay::request).unwrap_or_default();
                }
                Err(Attempt::NoAnswer(error) | Attempt::Broken(error)) => return Err(Failure::Broken(error)),
                Err(Attempt::Upload(error)) => return Err(Failure::Upload(error)),
            }
        }
    }

    async fn connect(
        &self,
        provider: &Provider,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<Connection, Failure> {
        let end = deadline.min(now() + provider.config.connect_timeout);
        let tls = provider.tls(origin).map_err(Failure::Unreachable)?;
        let wire = self.deadlines.within(|| end, Wire::connect(origin, tls)).await;
        let wire = wire.map_err(|_| Failure::ConnectTimeout)?.map_err(Failure::Unreachable)?;
        let received = wire.received();
        // Small bodies leave in one write with their head; `writev` costs more than the copy it saves.
        let handshake =
            http1::Builder::new().writev(false).max_buf_size(MOST_BUFFERED).handshake(TokioIo::new(wire));
        let (sender, driver) = handshake.await.map_err(Failure::Broken)?;
        let open = provider.connections.open();
        tokio::task::spawn_local(async move {
            // What ends a connection badly ends its request badly, and is reported there.
            if let Err(error) = driver.await {
                tracing::trace!(%error, "connection to a provider ended");
            }
            drop(open);
        });
        Ok(Connection { sender, received })
    }

    fn answer(&self, response: Response<Incoming>, lease: Lease) -> Response<Body> {
        let (parts, incoming) = response.into_parts();
        if hyper::body::Body::is_end_stream(&incoming) {
            lease.give_back();
            return Response::from_parts(parts, Body::empty());
        }
        let idle = lease.lifetime;
        let deadlines = self.deadlines.clone();
        let download = Download { incoming, lease: Some(lease), deadlines, idle, wait: None };
        Response::from_parts(parts, Body::stream(download))
    }
}

/// Why an answer is one that others might read differently, and so nobody may (RFC 9112, sections 6.1 and 6.3).
fn not_passed_on(response: &Response<Incoming>) -> Option<&'static str> {
    let headers = response.headers();
    if response.status().is_informational() {
        return Some("a switch of protocols that nobody asked for");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
        return Some("a transfer coding other than chunked");
    }
    headers.contains_key(CONTENT_LENGTH).then_some("both Content-Length and Transfer-Encoding")
}

/// What stays the same over the attempts of one request.
struct Sending<'a> {
    provider: &'a Provider,
    origin: &'a Arc<Origin>,
    replay: Option<&'a Replay>,
    deadline: Instant,
}

/// How one attempt on one connection failed.
enum Attempt {
    /// Not a byte was written.
    NotWritten(Box<Request<Body>>),
    /// The connection died before any byte of an answer.
    NoAnswer(hyper::Error),
    /// It died, or spoke nonsense, within an answer.
    Broken(hyper::Error),
    /// The request's own body failed.
    Upload(hyper::Error),
}

impl Attempt {
    fn of(mut error: TrySendError<Request<Body>>, received: Received) -> Self {
        if let Some(unsent) = error.take_message() {
            return Self::NotWritten(Box::new(unsent));
        }
        let error = error.into_error();
        match received {
            _ if error.is_user() => Self::Upload(error),
            Received::Nothing => Self::NoAnswer(error),
            Received::Something => Self::Broken(error),
        }
    }
}

/// Whether any byte of an answer came.
enum Received {
    Nothing,
    Something,
}

fn since(connection: &Connection, before: u64) -> Received {
    if connection.received.get() > before { Received::Something } else { Received::Nothing }
}
