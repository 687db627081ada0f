//! Steps 6 to 8 once the provider is known: claim, forward, settle, respond.

use std::sync::Arc;

use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use standpipe_api::{
    Body, Credential, Dialect, Effect, Error, ErrorKind, Operation, Outcome, Resource, Result, Target,
    Verdict,
};

use super::Proxy;
use super::hooks::Heard;
use super::prepare::Asked;
use crate::call::Trail;
use crate::engine::Running;
use crate::fail_point::{FailPoint, reach};
use crate::forward::Replay;
use crate::forward::headers::{Outgoing, to_caller, to_provider};
use crate::learn::Held;
use crate::providers::{Destination, Provider};
use crate::resolve::{By, Place};
use crate::respond::PROVIDER;
use crate::route::FaceId;

/// A request with everything that is needed to send it.
pub(super) struct Exchange {
    pub(super) proxy: Proxy,
    pub(super) running: Arc<Running>,
    pub(super) dialect: Arc<dyn Dialect>,
    pub(super) asked: Asked,
    pub(super) place: Place,
    pub(super) credential: Credential,
}

/// A request as it leaves.
struct Leaving {
    request: Request<Body>,
    destination: Destination,
    replay: Option<Replay>,
    /// The target relative to any provider.
    relative: Uri,
    method: Method,
    heard: Heard,
}

impl Exchange {
    /// Runs the exchange. What changes state runs in a task of its own to its end, whether or not the caller stays:
    /// a creation that was sent must be confirmed.
    pub(super) async fn run(self, trail: &Trail) -> Result<Response<Body>> {
        if !self.operation().effect.changes_state(self.asked.request.method()) {
            return self.go(trail).await;
        }
        let trail = trail.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        let counted = self.proxy.engine.writing.begin();
        tokio::task::spawn_local(async move {
            let _counted = counted;
            // The caller may have left; the outcome has been settled all the same.
            let _left = tell.send(self.go(&trail).await);
        });
        told.await.unwrap_or_else(|_| Err(Error::internal("the call ended without an outcome")))
    }

    async fn go(mut self, trail: &Trail) -> Result<Response<Body>> {
        let held = self.claim(trail).await?;
        let target = self.place.target();
        let altered = self.proxy.before_forward(trail, &self.running, &mut self.asked, &target).await;
        let mut leaving = match altered.and_then(|()| self.leave(trail)) {
            Ok(leaving) => leaving,
            Err(error) => {
                self.settle(held, self.judge(&Outcome::NotSent)).await;
                return Err(error);
            }
        };
        let provider = self.place.provider.clone();
        let request = std::mem::take(&mut leaving.request);
        reach(FailPoint::SendBefore);
        let forward = &self.proxy.forward;
        let answered = forward
            .send(&provider, &leaving.destination, request, leaving.replay.as_ref(), trail.deadline)
            .await;
        reach(FailPoint::SendAfter);
        let response = match answered {
            Ok(response) => response,
            Err(failure) => {
                let outcome = if failure.may_have_arrived() { Outcome::Lost } else { Outcome::NotSent };
                self.settle(held, self.judge(&outcome)).await;
                return Err(failure.into_error(&provider.config, &leaving.method));
            }
        };
        let response = self.follow(trail, &leaving, response).await?;
        self.respond(trail, held, leaving.heard, response, &target).await
    }

    /// Lets hooks see the answer, writes down what it means, and makes it the caller's.
    async fn respond(
        &self,
        trail: &Trail,
        held: Option<Held>,
        mut heard: Heard,
        mut response: Response<Body>,
        target: &Target,
    ) -> Result<Response<Body>> {
        let verdict =
            self.judge(&Outcome::Answered { status: response.status(), headers: response.headers() });
        *response.version_mut() = Version::HTTP_11;
        to_caller(response.headers_mut(), &self.proxy.engine.hop);
        let proxy = &self.proxy;
        let after = proxy.after_forward(trail, &self.running, &mut heard, &mut response, target).await;
        self.settle(held, verdict).await;
        after?;
        self.name_provider(trail, &mut response);
        Ok(response)
    }

    fn operation(&self) -> Operation {
        self.asked.matched.as_ref().map_or(Operation::OTHER, |matched| matched.operation)
    }

    fn judge(&self, outcome: &Outcome<'_>) -> Verdict {
        self.dialect.judge(self.operation(), outcome)
    }

    async fn claim(&self, trail: &Trail) -> Result<Option<Held>> {
        let Some(resource) = &self.asked.creates else { return Ok(None) };
        let alias = self.place.credential.as_ref().or(self.place.provider.credentials.default_alias());
        let learner = &self.proxy.engine.learner;
        reach(FailPoint::ClaimBeforeWrite);
        let held =
            learner.claim(resource, &self.place, trail.caller.as_deref(), &self.asked.hints, alias).await?;
        reach(FailPoint::ClaimAfterWrite);
        Ok(Some(held))
    }

    /// Writes down what happened. The caller gets the provider's answer even if that fails: the claim is durable,
    /// and stays routable.
    async fn settle(&self, held: Option<Held>, verdict: Verdict) {
        let learner = &self.proxy.engine.learner;
        let settled = match (held, self.known_first()) {
            (Some(held), _) => held.settle(verdict).await,
            (None, Some(first)) => learner.settle(first, &self.place, verdict).await,
            (None, None) => Ok(()),
        };
        if let Err(error) = settled {
            tracing::error!(error = error.log_text(), "an outcome could not be written down");
        }
    }

    /// The resource named first, if there can be a mapping of it: on the way here all others were looked up in vain.
    fn known_first(&self) -> Option<&Resource> {
        let first = self.asked.resources.first()?;
        let followed = self.place.mapping.as_ref().is_some_and(|mapping| mapping.resource == *first);
        (followed || self.place.by == By::TakenOver).then_some(first)
    }

    /// Turns the caller's request into the provider's.
    fn leave(&mut self, trail: &Trail) -> Result<Leaving> {
        let mut request = std::mem::take(&mut self.asked.request);
        let relative = request.uri().clone();
        let (destination, target) = destination(&*self.dialect, &self.place, &relative)?;
        let hooked = self.asked.call.is_some();
        let heard = Heard {
            call: self.asked.call.take(),
            extensions: std::mem::take(&mut self.asked.extensions),
            headers: if hooked { request.headers().clone() } else { HeaderMap::new() },
        };
        to_provider(
            request.headers_mut(),
            &Outgoing {
                authority: destination.authority(),
                credential: &self.credential,
                hop: &self.proxy.engine.hop,
                hops: trail.hops,
                peer: trail.connection.peer,
                scheme: trail.connection.scheme,
                host: trail.host.as_ref().map(http::uri::Authority::as_str),
                trust: trail.trust,
            },
        );
        *request.uri_mut() = target;
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().clear();
        let replay = Replay::keep(&request);
        let method = request.method().clone();
        Ok(Leaving { request, destination, replay, relative, method, heard })
    }

    /// A mapped provider says it has none of it: perhaps the resource has moved, and the mapping is corrected.
    async fn follow(
        &self,
        trail: &Trail,
        leaving: &Leaving,
        response: Response<Body>,
    ) -> Result<Response<Body>> {
        let absent = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE);
        let reading = self.operation().effect == Effect::Read;
        let (true, true, By::Mapped, Some(replay)) = (absent, reading, self.place.by, &leaving.replay) else {
            return Ok(response);
        };
        let Some(mapping) = &self.place.mapping else { return Ok(response) };
        if mapping.state == standpipe_api::MappingState::Gone {
            return Ok(response);
        }
        let querier = self.proxy.querier(trail, &self.running, &leaving.heard.headers);
        let dialect = self.place.provider.dialect;
        let resolver = &self.proxy.engine.resolver;
        let moved = match resolver.moved(&mapping.resource, dialect, &querier).await {
            Ok(Some(place)) if place.provider.id() != &mapping.provider => place,
            Err(error) if error.kind() == ErrorKind::UnknownResource => {
                let gone = Verdict::Gone;
                let settled = self.proxy.engine.learner.settle(&mapping.resource, &self.place, gone).await;
                settled
                    .inspect_err(|error| tracing::error!(error = error.log_text(), "a stale mapping stays"))
                    .ok();
                return Ok(response);
            }
            // Others are silent, or two have it: the owner's word stands.
            Ok(_) | Err(_) => return Ok(response),
        };
        let credential = querier.credential(&moved.provider, &moved.target(), None).await?;
        let (destination, uri) = destination(&*self.dialect, &moved, &leaving.relative)?;
        let mut again = replay.clone();
        self.credential.headers.iter().for_each(|(name, _)| drop(again.headers.remove(name)));
        again.headers.insert(HOST, destination.authority().clone());
        credential.headers.into_iter().for_each(|(name, value)| drop(again.headers.insert(name, value)));
        again.uri = uri;
        let forward = &self.proxy.forward;
        let sent =
            forward.send(&moved.provider, &destination, again.request(), Some(&again), trail.deadline).await;
        sent.map_err(|failure| failure.into_error(&moved.provider.config, &leaving.method))
    }

    /// On a federated face with more than one provider, the answer says who gave it.
    fn name_provider(&self, trail: &Trail, response: &mut Response<Body>) {
        let alone = self.running.speaking(self.place.provider.dialect).nth(1).is_none();
        if trail.face == Some(FaceId::TRANSPARENT) || alone {
            return;
        }
        if let Ok(name) = HeaderValue::from_str(self.place.provider.id().as_str()) {
            response.headers_mut().insert(PROVIDER, name);
        }
    }
}

/// Where a relative target goes at a place.
fn destination(dialect: &dyn Dialect, place: &Place, relative: &Uri) -> Result<(Destination, Uri)> {
    let provider: &Provider = &place.provider;
    let address = dialect.address(&provider.public, relative.path());
    let base = place.endpoint.as_deref().unwrap_or(&address.base);
    let wrong = |cause: String| {
        Error::bad_request(format!("no request to {} can be made of this path", provider.id())).because(cause)
    };
    let destination = provider.destination(base).map_err(|error| wrong(error.to_string()))?;
    let target =
        destination.target(&address.path, relative.query()).map_err(|error| wrong(error.to_string()))?;
    Ok((destination, target))
}
