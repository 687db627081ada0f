//! READ FIRST: one request's way through the steps.
//!
//! [`Proxy::handle`] turns every outcome into an answer, one access event and one count. `Proxy::steps` is
//! the way itself: identify, route, take over, resolve, obtain a credential, claim, forward, settle, respond.
//! No step calls another; they meet here.

mod exchange;
mod hooks;
mod prepare;

use std::sync::Arc;

use http::{Method, Request, Response};
use standpipe_api::{Body, Connection, Error, ErrorKind, Flow, Result, Timestamp};

use self::exchange::Exchange;
use crate::call::Trail;
use crate::engine::{Engine, Running};
use crate::error::status;
use crate::forward::Forward;
use crate::forward::deadline::now;
use crate::forward::headers::Trust;
use crate::listener::{ListenerId, Service};
use crate::resolve::By;
use crate::respond::{self, Manner};
use crate::telemetry::{AccessEvent, CallOutcome};

/// One core's proxy: the shared engine and this core's connections.
#[derive(Clone)]
pub struct Proxy {
    engine: Arc<Engine>,
    forward: Forward,
}

impl Service for Proxy {
    fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        socket: ListenerId,
    ) -> impl Future<Output = Response<Body>> + 'static {
        let proxy = self.clone();
        async move { proxy.handle(request, connection, socket).await }
    }
}

impl Proxy {
    /// A proxy for one core.
    pub fn new(engine: Arc<Engine>, forward: Forward) -> Self {
        Self { engine, forward }
    }

    /// Answers a request. Whatever goes wrong becomes an answer here, and only here.
    pub async fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        door: ListenerId,
    ) -> Response<Body> {
        let running = self.engine.running.load_full();
        let trust = Trust::of(connection.peer, &running.config.trusted_proxies);
        let mut trail = Trail::new(connection, trust, running.config.limits.call);
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let outcome = self.steps(&mut trail, &running, request, door).await;
        let (response, told) = match outcome {
            Ok(response) => {
                let told = CallOutcome::answered(response.status());
                (response, told)
            }
            Err(error) => {
                let allowed = self.allowed(&error, &trail, uri.path());
                let manner = Manner {
                    dialect: trail.dialect.as_deref(),
                    operation: trail.operation,
                    challenges: running.challenges(door.0),
                    allowed: &allowed,
                };
                self.log(&error, &trail);
                trail.fault = Some(error.fault().clone());
                (respond::error(&error, trail.id, manner), CallOutcome::failed(&error))
            }
        };
        let duration = now().saturating_duration_since(trail.started);
        self.count(&trail, &running, told, duration);
        self.engine.access_log.record(|| AccessEvent {
            call: trail.id,
            at: Timestamp::now(),
            peer: trail.connection.peer,
            caller: trail.caller.as_ref().map(|caller| caller.id.clone()),
            face: trail.face.and_then(|face| self.engine.router.face_names().nth(face.0)),
            method,
            path: AccessEvent::path_of(&uri),
            provider: trail.provider.clone(),
            operation: trail.operation.map(|operation| operation.name),
            resolved_by: trail.by.map(By::as_str),
            status: response.status(),
            duration,
            bytes: http_body::Body::size_hint(response.body()).exact(),
            fault: trail.fault.clone(),
        });
        response
    }

    /// The eight steps.
    async fn steps(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        request: Request<Body>,
        door: ListenerId,
    ) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        trail.host = head.uri.authority().cloned();
        trail.hops = self.engine.hop.count(&head.headers, trail.trust, running.config.limits.hops)?;
        let stranger = self.identify(trail, running, &head, door).await?;
        let known = stranger.is_none();
        let outcome = self.onward(trail, running, Request::from_parts(head, body), stranger, door).await;
        // Until a provider that may know it was found, a stranger is told one thing only.
        if known || trail.provider.is_some() { outcome } else { outcome.map_err(|_| prepare::stranger()) }
    }

    /// The steps behind the second.
    async fn onward(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        request: Request<Body>,
        stranger: Option<Error>,
        door: ListenerId,
    ) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let found = self.route(trail, running, &head, door)?;
        let mut asked = self.asked(trail, head, body, stranger, found)?;
        let target = match self.take_over(trail, running, &mut asked).await? {
            Flow::Respond(response) => return Ok(response),
            Flow::To(target) => Some(target),
            Flow::Continue => None,
        };
        self.read_request(trail, running, &mut asked).await?;
        let place = match target {
            Some(target) => running.place(&target)?,
            None => self.resolve(trail, running, &asked).await?,
        };
        trail.provider = Some(place.provider.id().clone());
        trail.by = Some(place.by);
        let credential = self.credential(trail, &asked, &place).await?;
        let dialect = self.engine.router.dialect(place.provider.dialect).clone();
        let (proxy, running) = (self.clone(), running.clone());
        Exchange { proxy, running, dialect, asked, place, credential }.run(trail).await
    }

    /// The methods a 405 names.
    fn allowed(&self, error: &Error, trail: &Trail, path: &str) -> Vec<Method> {
        if error.kind() != ErrorKind::MethodNotAllowed {
            return Vec::new();
        }
        let Ok(mut way) = self.engine.router.way(path) else { return Vec::new() };
        way.dialect = way.dialect.or(trail.dialect_id);
        self.engine.router.methods_of(&way)
    }

    /// What is not the caller's own doing is worth a line; the access event has the rest.
    fn log(&self, error: &Error, trail: &Trail) {
        let (call, text) = (trail.id, error.log_text());
        if status(error).is_server_error() {
            tracing::warn!(%call, error = text, "call failed");
        } else {
            tracing::debug!(%call, error = text, "call refused");
        }
    }

    fn count(&self, trail: &Trail, running: &Running, outcome: CallOutcome, duration: std::time::Duration) {
        let provider = trail.provider.as_ref().and_then(|id| running.find(id));
        let metrics = provider.map_or(&self.engine.nowhere, |provider| &provider.metrics);
        metrics.at(trail.position).record(outcome, duration);
    }
}
