//! HTTP calls to addresses an operator configured that are no provider's. Asked for on any thread, made on one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response};
use standpipe_api::{Answer, Body, Error, ErrorKind, Fault, Outbound, Result};
use tokio::sync::{mpsc, oneshot};

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
    tell: oneshot::Sender<Result<Answer>>,
}

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
        let (tell, told) = oneshot::channel();
        let full = |_| failed("too many calls wait to be made".into());
        self.0.try_send(Outgoing { request, limit, tell }).map_err(full)?;
        told.await.unwrap_or_else(|_| Err(failed("standpipe is ending".into())))
    }

    async fn fetch_named(&self, request: Request<Bytes>, _limit: Duration) -> Result<Answer> {
        let public = format!("no address outside is allowed, so {} is not asked", request.uri());
        Err(Error::new(ErrorKind::Forbidden, Fault::Proxy, public))
    }
}

/// Makes calls as they are asked for.
pub async fn run(mut waiting: mpsc::Receiver<Outgoing>, engine: Arc<Engine>, forward: Forward) {
    while let Some(Outgoing { request, limit, tell }) = waiting.recv().await {
        let most = engine.running.load().config.limits.answer_buffer;
        let forward = forward.clone();
        tokio::task::spawn_local(async move {
            let end = now() + limit;
            let fetched = forward.deadlines().within(|| end, fetch(&forward, request, limit, most)).await;
            // Whoever asked may have left.
            let _left = tell.send(fetched.unwrap_or_else(|_| Err(late())));
        });
    }
}

async fn fetch(forward: &Forward, request: Request<Bytes>, limit: Duration, most: usize) -> Result<Answer> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let base = format!("{}://{authority}", parts.uri.scheme_str().unwrap_or_default());
    let origin = Origin::parse(&base).map_err(|error| failed(format!("{base} {error}")))?;
    let target = origin.target(parts.uri.path(), parts.uri.query());
    parts.uri = target.map_err(|error| failed(error.to_string()))?;
    parts.headers.insert(HOST, origin.authority.clone());
    let request = Request::from_parts(parts, Body::from(body));
    let sent = forward.send_once(&origin, request, limit).await;
    let (parts, mut body) =
        sent.map_err(|failure: Failure| unanswered(&base, &failure))?.into_parts();
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
