//! HTTP calls to addresses that are no provider's. Asked for on any thread, made on one.
//!
//! An address an operator configured is asked as it is; one that a user or broker named only if the guard lets it pass.
//! Redirects are never followed.

mod guard;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use rustls::ClientConfig;
use standpipe_api::{Answer, Body, Error, ErrorKind, Fault, Outbound, Result};
use tokio::sync::{mpsc, oneshot};

use self::guard::Address;
use crate::config::Config;
use crate::engine::Engine;
use crate::forward::deadline::now;
use crate::forward::origin::Origin;
use crate::forward::{Failure, Forward};

/// Calls waiting to be made.
const WAITING: usize = 256;

/// A call to be made.
pub struct Outgoing {
    request: Request<Bytes>,
    limit: Duration,
    named: Named,
    tell: oneshot::Sender<Result<Answer>>,
}

/// Who named the address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    ByOperator,
    ByOthers,
}

/// Bytes of an answer from an address that others named.
const SMALL: usize = 1 << 20;

/// Hands calls to the thread that makes them.
pub struct Caller(mpsc::Sender<Outgoing>);

/// The two ends of the queue.
pub fn queue() -> (Caller, mpsc::Receiver<Outgoing>) {
    let (calls, waiting) = mpsc::channel(WAITING);
    (Caller(calls), waiting)
}

#[async_trait]
impl Outbound for Caller {
    async fn fetch(&self, request: Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.send(request, limit, Named::ByOperator).await
    }

    async fn fetch_named(&self, request: Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.send(request, limit, Named::ByOthers).await
    }
}

impl Caller {
    async fn send(&self, request: Request<Bytes>, limit: Duration, named: Named) -> Result<Answer> {
        let (tell, told) = oneshot::channel();
        let full = |_| failed("too many calls wait to be made".into());
        self.0.try_send(Outgoing { request, limit, named, tell }).map_err(full)?;
        told.await.unwrap_or_else(|_| Err(failed("standpipe is ending".into())))
    }
}

/// Makes calls as they are asked for.
pub async fn run(mut waiting: mpsc::Receiver<Outgoing>, engine: Arc<Engine>, forward: Forward) {
    while let Some(Outgoing { request, limit, named, tell }) = waiting.recv().await {
        let running = engine.running.load_full();
        let forward = forward.clone();
        tokio::task::spawn_local(async move {
            let end = now() + limit;
            let fetch = async {
                let at = match named {
                    Named::ByOperator => None,
                    Named::ByOthers if is_here(request.uri(), &running.config) => None,
                    Named::ByOthers => Some(checked(request.uri(), &running.config.outbound).await?),
                };
                let most = running.config.limits.answer_buffer;
                let most = if named == Named::ByOthers { most.min(SMALL) } else { most };
                // Only an operator's own requests carry the certificate that a peer knows us by.
                let tls = running.peers.tls_for(request.uri()).filter(|_| named == Named::ByOperator);
                fetch(&forward, request, limit, (at, tls), most).await
            };
            let fetched = forward.deadlines().within(|| end, fetch).await;
            // Whoever asked may have left.
            let _left = tell.send(fetched.unwrap_or_else(|_| Err(late())));
        });
    }
}

/// Whether an address is that of a pipe here: a mediated end, or a pipe of a provider in this process. Who comes there is
/// asked who he is like everybody else.
fn is_here(uri: &Uri, config: &Config) -> bool {
    let Ok(own) = config.public_url.parse::<Uri>() else { return false };
    let (Ok(known), Ok(asked)) = (Address::of(&own), Address::of(uri)) else { return false };
    let path = uri.path().strip_prefix(own.path().trim_end_matches('/'));
    let is_pipe = path.is_some_and(|path| path.starts_with("/ends/") || path.starts_with("/providers/"));
    known.is_origin_of(&asked) && is_pipe && uri.query().is_none()
}

/// The address to connect to, and no other: a name that is looked up again may lead elsewhere.
async fn checked(uri: &Uri, rules: &crate::config::Outbound) -> Result<IpAddr> {
    let refused = |why: String| {
        Error::new(ErrorKind::Forbidden, Fault::Proxy, format!("{} is not asked: {why}", shown(uri)))
            .advise("an operator can allow it with outbound.allow")
    };
    let address = Address::of(uri).map_err(refused)?;
    let found = tokio::net::lookup_host((address.host, address.port)).await;
    let found = found.map_err(|error| failed(format!("{} cannot be found: {error}", address.host)))?;
    let mut last = format!("{} has no address", address.host);
    for ip in found.map(|found| found.ip()) {
        match address.check(ip, rules) {
            Ok(()) => return Ok(ip),
            Err(why) => last = why,
        }
    }
    Err(refused(last))
}

/// An address without what may be secret in it.
fn shown(uri: &Uri) -> String {
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default())
}

async fn fetch(
    forward: &Forward,
    request: Request<Bytes>,
    limit: Duration,
    (at, tls): (Option<IpAddr>, Option<&Arc<ClientConfig>>),
    most: usize,
) -> Result<Answer> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let base = format!("{}://{authority}", parts.uri.scheme_str().unwrap_or_default());
    let mut origin = Origin::parse(&base).map_err(|error| failed(format!("{base} {error}")))?;
    if let Some(ip) = at {
        origin.host = ip.to_string();
    }
    let target = origin.target(parts.uri.path(), parts.uri.query());
    parts.uri = target.map_err(|error| failed(error.to_string()))?;
    parts.headers.insert(HOST, origin.authority.clone());
    let request = Request::from_parts(parts, Body::from(body));
    let sent = forward.send_once(&origin, tls, request, limit).await;
    let (parts, mut body) = sent.map_err(|failure: Failure| unanswered(&base, &failure))?.into_parts();
    Ok(Response::from_parts(parts, body.bytes(most).await?))
}

fn late() -> Error {
    Error::new(ErrorKind::Timeout, Fault::Proxy, "no answer in time")
}

fn unanswered(base: &str, failure: &Failure) -> Error {
    let kind = match failure {
        Failure::Timeout | Failure::ConnectTimeout => ErrorKind::Timeout,
        Failure::Broken(_) => ErrorKind::Nonsense,
        _ => ErrorKind::CouldNotAsk,
    };
    Error::new(kind, Fault::Proxy, format!("{base}: {failure}"))
}

fn failed(public: String) -> Error {
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public)
}
