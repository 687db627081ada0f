//! READ FIRST: one request's way through the steps.
//!
//! [`Proxy::handle`] turns every outcome into an answer, one access event and one count. `Proxy::steps` is
//! the way itself: identify, route, take over, resolve, obtain a credential, claim, forward, settle, respond.
//! No step calls another; they meet here.

mod admit;
mod audit;
mod exchange;
mod find;
mod hooks;
mod issuer;
mod moved;
mod peer;
mod prepare;
mod renew;

use std::sync::Arc;

use http::{Request, Response};
use standpipe_api::{Body, Connection, Error, Flow, Result, Timestamp};

use self::find::Resolved;
use self::prepare::Asked;
use crate::call::Trail;
use crate::engine::{Engine, Running};
use crate::error::status;
use crate::forward::Forward;
use crate::forward::deadline::now;
use crate::forward::headers::Trust;
use crate::listener::{ListenerId, Service};
use crate::rate_limit::until_read;
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
    /// Answers a request. Whatever goes wrong becomes an answer here, and only here.
    async fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        door: ListenerId,
    ) -> Response<Body> {
        let running = self.engine.running.load_full();
        let trust = Trust::of(connection.peer, &running.config.trusted_proxies);
        let sent = (request.method().clone(), request.uri().clone());
        let mut trail = Trail::new(connection, trust, running.config.limits.call, sent);
        let outcome = self.steps(&mut trail, &running, request, door).await;
        let (response, told) = match outcome {
            Ok(response) => {
                let told = CallOutcome::answered(response.status());
                (response, told)
            }
            Err(error) => {
                let manner = Manner {
                    dialect: trail.dialect.as_deref(),
                    operation: trail.operation,
                    challenges: running.challenges(door.0, trail.shown),
                    allowed: &trail.allowed,
                };
                self.log(&error, &trail);
                trail.fault = Some(error.fault().clone());
                let mut response = respond::error(&error, trail.id, manner);
                respond::echo(&trail.echoed, &mut response);
                (response, CallOutcome::failed(&error))
            }
        };
        let duration = now().saturating_duration_since(trail.started);
        let metrics = trail.provider.as_ref().map_or(&self.engine.nowhere, |provider| &provider.metrics);
        metrics.at(trail.position).record(told, duration);
        self.audit(&trail, response.status());
        let admitted = trail.admitted.take();
        self.record(&trail, &response, duration);
        match admitted {
            Some(admitted) => until_read(response, admitted),
            None => response,
        }
    }
}

impl Proxy {
    /// A proxy for one core.
    pub fn new(engine: Arc<Engine>, forward: Forward) -> Self {
        Self { engine, forward }
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
        if issuer::is_own(head.uri.path()) {
            let door = running.doors.get(door.0);
            return Box::pin(self.own(trail, running, door, head, body)).await;
        }
        if peer::is_own(head.uri.path()) {
            let door = running.doors.get(door.0);
            return Box::pin(self.peer(trail, running, door, head, body)).await;
        }
        trail.host = head.uri.authority().cloned();
        trail.hops = self.engine.hop.count(&head.headers, trail.trust, running.config.limits.hops)?;
        let stranger = if self.engine.router.is_open(head.uri.path()) {
            trail.caller = Some(prepare::whoever());
            None
        } else {
            self.identify(trail, running, &head, door).await?
        };
        trail.admit(running)?;
        let known = stranger.is_none();
        let outcome = match self.route(trail, running, &head, door) {
            Ok(found) => match self.asked(trail, head, body, stranger, found) {
                Ok(asked) => self.onward(trail, running, asked).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        // Until a provider that may know it was found, a stranger is told one thing only.
        if known || trail.provider.is_some() { outcome } else { outcome.map_err(|_| prepare::stranger()) }
    }

    /// The steps behind the third.
    async fn onward(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        mut asked: Box<Asked>,
    ) -> Result<Response<Body>> {
        let mut target = None;
        if asked.call.is_some() {
            match Box::pin(self.take_over(trail, running, &mut asked)).await? {
                Flow::Respond(mut response) => {
                    respond::echo(&trail.echoed, &mut response);
                    return Ok(response);
                }
                Flow::To(chosen) => target = Some(chosen),
                Flow::Continue => {}
            }
        }
        if !running.access.is_open() {
            Box::pin(self.enter(trail, running, &asked)).await?;
        }
        self.read_request(trail, running, &mut asked).await?;
        let mut place = match target {
            Some(target) => self.admit(trail, running, &asked, running.place(&target)?)?,
            None => match self.resolve(trail, running, &asked).await? {
                Resolved::At(place) => place,
                Resolved::Answered(mut response) => {
                    respond::echo(&trail.echoed, &mut response);
                    return Ok(response);
                }
            },
        };
        if self.engine.router.dialect(place.provider.dialect).callers_choose_ids() {
            Box::pin(self.not_anothers(&asked, &place)).await?;
        }
        trail.provider = Some(place.provider.clone());
        trail.by = Some(place.by);
        let credential = self.credential(trail, running, &mut asked, &mut place).await?;
        self.exchange(trail, running, asked, place, credential).await
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

    fn record(&self, trail: &Trail, response: &Response<Body>, duration: std::time::Duration) {
        self.engine.access_log.record(|| AccessEvent {
            call: trail.id,
            at: Timestamp::now(),
            peer: trail.connection.peer,
            caller: trail.caller.as_ref().map(|caller| caller.id.clone()),
            face: trail.face.and_then(|face| self.engine.router.face_names().nth(face.0)),
            method: trail.sent.0.clone(),
            path: AccessEvent::path_of(&trail.sent.1),
            provider: trail.provider.as_ref().map(|provider| provider.id().clone()),
            operation: trail.operation.map(|operation| operation.name),
            resolved_by: trail.by.map(By::as_str),
            status: response.status(),
            duration,
            bytes: http_body::Body::size_hint(response.body()).exact(),
            fault: trail.fault.clone(),
        });
    }
}
