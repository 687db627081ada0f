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
mod fields;
pub mod headers;
mod http1;
pub mod origin;
mod pool;
pub mod tls;
mod wire;

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use rustls::ClientConfig;
use standpipe_api::Body;
use tokio::sync::OwnedSemaphorePermit;

use self::body::{Awaited, Download, Home, Lease, Progress};
use self::deadline::{Deadlines, now};
pub use self::failure::Failure;
use self::http1::{Answer, Broken, Connection};
use self::origin::Origin;
pub use self::pool::Pool;
pub use self::wire::Tls;
use self::wire::Wire;
use crate::providers::{Destination, Provider};

/// How often connections are looked at that nobody uses.
const SWEEP: Duration = Duration::from_secs(1);

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
                tokio::time::sleep(SWEEP).await;
                self.pool.sweep(SWEEP);
            }
        };
        futures_util::future::join(self.deadlines.clone().run(), sweep).await;
    }

    /// Sends a request whose head is already the provider's, and waits for the head of the answer. The request stays as it
    /// was, except for a body that streams, which is taken.
    ///
    /// # Errors
    /// Why there is none, and whether the request may have arrived.
    pub async fn send(
        &self,
        provider: &Provider,
        destination: &Destination,
        request: &mut Request<Body>,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure> {
        provider.breaker.admit(now).map_err(Failure::BreakerOpen)?;
        let permit = self.turn(provider, deadline).await?;
        let answered = match destination {
            Destination::InProcess(upstream) => {
                let settings = &provider.config;
                let end = deadline.min(now() + settings.response_timeout);
                let upload =
                    Progress::track(request.body_mut(), settings.idle_timeout, settings.response_timeout);
                let patience = || upload.as_ref().map_or(end, Progress::deadline);
                let request = copy(request).unwrap_or_else(|| mem::take(request));
                let served = self.deadlines.within(patience, upstream.serve(request)).await;
                served.map_err(|_| overdue(upload.as_ref()))
            }
            Destination::Origin(origin) => self.exchange((provider, origin), request, permit, deadline).await,
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
        mut request: Request<Body>,
        limit: Duration,
    ) -> Result<Response<Body>, Failure> {
        let unusable = |problems| Failure::Unreachable(tls::unusable(problems));
        let config = match (&origin.server_name, settings) {
            (Some(_), None) => Some(tls::client_config(None).map_err(unusable)?),
            (Some(_), Some(settings)) => Some(settings.clone()),
            (None, _) => None,
        };
        let tls = origin.server_name.as_ref().zip(config.as_ref()).map(|(name, config)| Tls { name, config });
        let end = now() + limit;
        let wire = self.deadlines.within(|| end, Wire::connect(origin, tls)).await;
        let wire = wire.map_err(|_| Failure::ConnectTimeout)?.map_err(Failure::Unreachable)?;
        let mut connection = Connection::new(wire, None);
        let answered = self.deadlines.within(|| end, connection.exchange(&mut request)).await;
        let answer = answered.map_err(|_| Failure::Timeout)?.map_err(Failure::of)?;
        Ok(self.answer(answer, connection, None, None, limit))
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
        (provider, origin): (&Provider, &Arc<Origin>),
        request: &mut Request<Body>,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Response<Body>, Failure> {
        let settings = &provider.config;
        let upload = Progress::track(request.body_mut(), settings.idle_timeout, settings.response_timeout);
        // A body that streams moves the deadline along; without one the call's own deadline counts too.
        let end = deadline.min(now() + settings.response_timeout);
        let patience = || upload.as_ref().map_or(end, Progress::deadline);
        let mut pooled = self.pool.take(origin.id);
        // Why it is sent again, which happens once only: a provider that dies of a request would die of it again.
        let mut lost: Option<io::Error> = None;
        let is_repeatable = upload.is_none() && request.method().is_idempotent();
        loop {
            let reused = pooled.is_some();
            let mut connection = match pooled.take() {
                Some(connection) => connection,
                None => match Box::pin(self.connect(provider, origin, deadline)).await {
                    Ok(connection) => connection,
                    Err(failure) => return Err(lost.map_or(failure, Failure::Broken)),
                },
            };
            let answered = self.deadlines.within(patience, connection.exchange(request)).await;
            match answered.map_err(|_| overdue(upload.as_ref()))? {
                Ok(answer) => {
                    let (pool, origin, lifetime) = (self.pool.clone(), origin.id, settings.idle_timeout);
                    let home = Home { pool, origin, lifetime, permit };
                    return Ok(self.answer(answer, connection, upload, Some(home), lifetime));
                }
                Err(Broken::NotWritten(_)) if reused => pooled = self.pool.take(origin.id),
                Err(Broken::NoAnswer(error)) if reused && is_repeatable && lost.is_none() => {
                    lost = Some(error);
                }
                // What was sent before may have worked, whatever became of the second attempt.
                Err(Broken::NotWritten(error)) => {
                    return Err(lost.map_or(Failure::Unreachable(error), Failure::Broken));
                }
                Err(broken) => return Err(Failure::of(broken)),
            }
        }
    }

    async fn connect(
        &self,
        provider: &Provider,
        origin: &Origin,
        deadline: Instant,
    ) -> Result<Box<Connection>, Failure> {
        let end = deadline.min(now() + provider.config.connect_timeout);
        let tls = provider.tls(origin).map_err(Failure::Unreachable)?;
        let wire = self.deadlines.within(|| end, Wire::connect(origin, tls)).await;
        let wire = wire.map_err(|_| Failure::ConnectTimeout)?.map_err(Failure::Unreachable)?;
        Ok(Connection::new(wire, Some(provider.connections.open())))
    }

    /// The answer, and its connection when that has been read.
    fn answer(
        &self,
        answer: Answer,
        connection: Box<Connection>,
        upload: Option<Progress>,
        home: Option<Home>,
        idle: Duration,
    ) -> Response<Body> {
        let Answer { response, mut rest } = answer;
        if let Some(whole) = rest.whole() {
            match home.filter(|_| rest.leaves_reusable()) {
                Some(home) if connection.has_sent_all() => home.take(connection),
                home => Lease::new(connection, upload, home, (&self.deadlines, idle)).give_back(&rest),
            }
            return response.map(|()| Body::from(whole));
        }
        let lease = Lease::new(connection, upload, home, (&self.deadlines, idle));
        let deadlines = self.deadlines.clone();
        let download = Download { rest, lease: Some(lease), deadlines, idle, wait: None, broken: None };
        response.map(|()| Body::stream(download))
    }
}

/// Patience is over: a caller that stops sending is no fault of the provider's.
fn overdue(upload: Option<&Progress>) -> Failure {
    match upload.map(Progress::awaited) {
        Some(Awaited::Caller) => {
            let late = "no byte of the body came for the provider's idle_timeout";
            Failure::Upload(io::Error::new(io::ErrorKind::TimedOut, late).into())
        }
        Some(Awaited::Provider) | None => Failure::Timeout,
    }
}

/// The same request again, if all of it is here.
pub fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(Body::from(request.body().as_bytes()?.clone()));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}
