//! Steps 6 to 8 once the provider is known: claim, forward, settle, respond.

use std::sync::Arc;

use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use standpipe_api::{
    Body, CallerAuthorization, Credential, Dialect, Effect, Error, ErrorKind, Operation, Outcome, Resource,
    Result, Verdict,
};

use super::Proxy;
use super::admit::sees_several;
use super::audit::Ending;
use super::hooks::Heard;
use super::prepare::Asked;
use crate::access::{Sight, quota_needs_id};
use crate::call::{OnBehalf, Trail};
use crate::engine::Running;
use crate::fail_point::{FailPoint, reach};
use crate::forward::headers::{Outgoing, to_caller, to_provider};
use crate::forward::{Failure, Replay};
use crate::learn::Held;
use crate::providers::{Destination, Provider};
use crate::resolve::{By, Place};
use crate::respond::PROVIDER;
use crate::route::FaceId;

/// A request with everything that is needed to send it.
pub(super) struct Exchange<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) running: &'a Arc<Running>,
    pub(super) dialect: &'a dyn Dialect,
    pub(super) asked: Box<Asked>,
    pub(super) place: Place,
    pub(super) credential: Credential,
}

/// What is still needed of a request when it has been sent.
pub(super) struct Left {
    destination: Destination,
    pub(super) replay: Option<Replay>,
    /// The target relative to any provider, when the one sent is another.
    relative: Option<Uri>,
    /// The caller's own credential, where it did not travel on.
    pub(super) authorization: Option<HeaderValue>,
    heard: Option<Box<Heard>>,
}

impl Proxy {
    /// Runs the exchange. What changes state runs in a task of its own to its end, whether or not the caller stays:
    /// a creation that was sent must be confirmed.
    pub(super) async fn exchange(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        asked: Box<Asked>,
        place: Place,
        credential: Credential,
    ) -> Result<Response<Body>> {
        let dialect = self.engine.router.dialect(place.provider.dialect);
        let effect = asked.operation().effect;
        if !effect.changes_state(asked.request.method()) {
            let dialect = &**dialect;
            return Exchange { proxy: self, running, dialect, asked, place, credential }.go(trail).await;
        }
        let (proxy, running, dialect) = (self.clone(), running.clone(), dialect.clone());
        trail.audited_elsewhere = true;
        let mut ending = Ending::of(self, trail);
        let (tell, told) = tokio::sync::oneshot::channel();
        let counted = self.engine.writing.begin();
        tokio::task::spawn_local(async move {
            let _counted = counted;
            let (proxy, running, dialect) = (&proxy, &running, &*dialect);
            let exchange = Exchange { proxy, running, dialect, asked, place, credential };
            let outcome = exchange.go(&ending.trail).await;
            ending.told(&outcome);
            // The caller may have left; the outcome has been settled all the same.
            let _left = tell.send(outcome);
        });
        told.await.unwrap_or_else(|_| Err(Error::internal("the call ended without an outcome")))
    }
}

impl Exchange<'_> {
    async fn go(mut self, trail: &Trail) -> Result<Response<Body>> {
        let held = match self.asked.creates {
            Some(_) => Box::pin(self.claim(trail)).await?,
            None => self.unclaimed(trail)?,
        };
        let mut left = match self.prepare(trail).await {
            Ok(left) => left,
            Err(error) => {
                self.settle(held, self.judge(&Outcome::NotSent)).await;
                return Err(error);
            }
        };
        let request = std::mem::take(&mut self.asked.request);
        let method = request.method().clone();
        reach(FailPoint::SendBefore);
        let mut answered = self.send(trail, &left, request).await;
        if let Ok(refused) = &answered
            && refused.status() == StatusCode::UNAUTHORIZED
            && self.credential.is_renewable()
        {
            match Box::pin(self.renewed(trail, &left, refused)).await {
                Ok(None) => {}
                Ok(Some(again)) => answered = self.send(trail, &left, again).await,
                Err(error) => {
                    let outcome = Outcome::Answered { status: refused.status(), headers: refused.headers() };
                    self.settle(held, self.judge(&outcome)).await;
                    return Err(error);
                }
            }
        }
        reach(FailPoint::SendAfter);
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                let outcome = if failure.may_have_arrived() { Outcome::Lost } else { Outcome::NotSent };
                self.settle(held, self.judge(&outcome)).await;
                return Err(failure.into_error(&self.place.provider.config, &method));
            }
        };
        if self.may_have_moved(&response) {
            Box::pin(self.follow(trail, &left, &method, &mut response)).await?;
        }
        self.respond(trail, held, left.heard.take(), &mut response).await?;
        Ok(response)
    }

    async fn send(
        &self,
        trail: &Trail,
        left: &Left,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let provider = &self.place.provider;
        let replay = left.replay.as_ref().filter(|replay| replay.is_idempotent());
        self.proxy.forward.send(provider, &left.destination, request, replay, trail.deadline).await
    }

    /// Lets hooks see the request, and makes it the provider's.
    async fn prepare(&mut self, trail: &Trail) -> Result<Left> {
        if self.credential.is_renewable() && self.asked.request.body().as_bytes().is_none() {
            Box::pin(self.hold_body(trail)).await?;
        }
        if self.asked.call.is_some() {
            let target = self.place.target();
            Box::pin(self.proxy.before_forward(trail, self.running, &mut self.asked, &target)).await?;
        }
        self.leave(trail)
    }

    /// Lets hooks see the answer, writes down what it means, and makes it the caller's.
    async fn respond(
        &self,
        trail: &Trail,
        held: Option<Held>,
        heard: Option<Box<Heard>>,
        response: &mut Response<Body>,
    ) -> Result<()> {
        let verdict =
            self.judge(&Outcome::Answered { status: response.status(), headers: response.headers() });
        let created = match held {
            None => self.created(response),
            Some(_) => None,
        };
        *response.version_mut() = Version::HTTP_11;
        to_caller(response.headers_mut(), &self.proxy.engine.hop);
        let after = match heard {
            None => Ok(()),
            Some(mut heard) => {
                let target = self.place.target();
                Box::pin(self.proxy.after_forward(trail, self.running, &mut heard, response, &target)).await
            }
        };
        self.settle(held, verdict).await;
        if let Some(created) = created {
            Box::pin(self.learn_created(trail, &created)).await;
        }
        after?;
        self.name_provider(trail, response);
        Ok(())
    }

    fn operation(&self) -> Operation {
        self.asked.operation()
    }

    fn judge(&self, outcome: &Outcome<'_>) -> Verdict {
        self.dialect.judge(self.operation(), outcome)
    }

    async fn claim(&self, trail: &Trail) -> Result<Option<Held>> {
        let Some(resource) = &self.asked.creates else { return Ok(None) };
        let alias = self.place.credential.as_ref();
        let hints = self.asked.hints(self.dialect);
        let learner = &self.proxy.engine.learner;
        reach(FailPoint::ClaimBeforeWrite);
        let caller = trail.caller.as_deref();
        let quota = self.running.quotas.of(caller, &resource.kind);
        let held = learner.claim(resource, &self.place, caller, &hints, alias, quota).await?;
        reach(FailPoint::ClaimAfterWrite);
        Ok(Some(held))
    }

    /// What was created without a claim, because the provider chose its id.
    fn created(&self, response: &Response<Body>) -> Option<Resource> {
        let operation = self.operation();
        let is_creation = operation.effect == Effect::Create && response.status().is_success();
        let named = is_creation.then_some(&self.asked.resources)?;
        self.dialect.created(operation, named, response.headers())
    }

    /// Later calls on it need the provider and the credential it was created with. The caller gets its answer even if that
    /// cannot be written down.
    async fn learn_created(&self, trail: &Trail, resource: &Resource) {
        let (learner, alias) = (&self.proxy.engine.learner, self.place.credential.as_ref());
        let written = async {
            let held =
                learner.claim(resource, &self.place, trail.caller.as_deref(), &[], alias, None).await?;
            held.settle(Verdict::Live).await
        };
        if let Err(error) = written.await {
            tracing::error!(error = error.log_text(), "a creation could not be written down");
        }
    }

    /// What is created without a claim cannot be counted, so that no quota would ever be reached.
    fn unclaimed(&self, trail: &Trail) -> Result<Option<Held>> {
        let (caller, quotas) = (trail.caller.as_deref(), &self.running.quotas);
        if quotas.is_empty() {
            return Ok(None);
        }
        let kind = self.dialect.creates(self.operation());
        match kind.filter(|kind| quotas.of(caller, kind).is_some()) {
            Some(kind) => Err(quota_needs_id(caller, &kind)),
            None => Ok(None),
        }
    }

    /// Writes down what happened. The caller gets the provider's answer even if that fails: the claim is durable,
    /// and stays routable.
    async fn settle(&self, held: Option<Held>, verdict: Verdict) {
        if held.is_none() && verdict == Verdict::Keep {
            return;
        }
        let write = async {
            match (held, self.known_first()) {
                (Some(held), _) => held.settle(verdict).await,
                (None, Some(first)) => self.proxy.engine.learner.settle(first, &self.place, verdict).await,
                (None, None) => Ok(()),
            }
        };
        if let Err(error) = Box::pin(write).await {
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
    fn leave(&mut self, trail: &Trail) -> Result<Left> {
        let asked = &mut *self.asked;
        let heard = asked.call.take().map(|call| {
            let extensions = std::mem::take(&mut asked.extensions);
            Box::new(Heard { call, extensions, headers: asked.request.headers().clone() })
        });
        let request = &mut asked.request;
        let (destination, target) = destination(self.dialect, &self.place, request.uri())?;
        let outgoing = Outgoing {
            authority: destination.authority(),
            credential: &self.credential,
            hop: &self.proxy.engine.hop,
            hops: trail.hops,
            peer: trail.connection.peer,
            scheme: trail.connection.scheme,
            host: trail.host.as_ref().map(http::uri::Authority::as_str),
            trust: trail.trust,
        };
        let authorization = to_provider(request.headers_mut(), &outgoing);
        let relative = target.map(|target| std::mem::replace(request.uri_mut(), target));
        *request.version_mut() = Version::HTTP_11;
        request.extensions_mut().clear();
        let replay = match self.credential.is_renewable() {
            true => {
                if self.credential.stamp.is_some() {
                    let (method, target) = (request.method().clone(), request.uri().clone());
                    self.credential.complete(&method, &target, request.headers_mut());
                }
                Replay::keep_any(request)
            }
            false => Replay::keep(request),
        };
        Ok(Left { destination, replay, relative, authorization, heard })
    }

    /// Whether a mapped provider says that it has none of what it was asked for.
    fn may_have_moved(&self, response: &Response<Body>) -> bool {
        matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE)
            && self.place.by == By::Mapped
            && self.operation().effect == Effect::Read
    }

    /// A mapped provider says it has none of it: perhaps the resource has moved, and the mapping is corrected.
    async fn follow(
        &self,
        trail: &Trail,
        left: &Left,
        method: &Method,
        response: &mut Response<Body>,
    ) -> Result<()> {
        let (Some(replay), Some(mapping)) = (&left.replay, &self.place.mapping) else { return Ok(()) };
        if mapping.state == standpipe_api::MappingState::Gone {
            return Ok(());
        }
        let mut again = replay.request();
        let mut on_behalf = OnBehalf::of(again.headers());
        if self.credential.authorization == CallerAuthorization::Removed {
            on_behalf.authorization.clone_from(&left.authorization);
        }
        let querier = self.proxy.querier(trail, self.running, on_behalf);
        let dialect = self.place.provider.dialect;
        let resolver = &self.proxy.engine.resolver;
        let named = std::slice::from_ref(&mapping.resource);
        let sight = Sight::new(&self.running.access, trail.caller.as_deref(), named);
        let moved = match resolver.moved(&mapping.resource, dialect, &sight, &querier).await {
            Ok(Some(place)) if place.provider.id() != &mapping.provider => place,
            Err(error) if error.kind() == ErrorKind::UnknownResource => {
                let learner = &self.proxy.engine.learner;
                let settled = learner.settle(&mapping.resource, &self.place, Verdict::Gone).await;
                settled
                    .inspect_err(|error| tracing::error!(error = error.log_text(), "a stale mapping stays"))
                    .ok();
                return Ok(());
            }
            // Others are silent, or two have it: the owner's word stands.
            Ok(_) | Err(_) => return Ok(()),
        };
        let mut credential = querier.credential(&moved.provider, &moved.target(), None).await?;
        let relative = left.relative.as_ref().unwrap_or(again.uri()).clone();
        let (destination, target) = destination(self.dialect, &moved, &relative)?;
        *again.uri_mut() = target.unwrap_or(relative);
        let headers = again.headers_mut();
        self.credential.headers.iter().for_each(|(name, _)| drop(headers.remove(name)));
        headers.insert(HOST, destination.authority().clone());
        for (name, value) in &credential.headers {
            headers.insert(name.clone(), value.clone());
        }
        let (method_again, target) = (again.method().clone(), again.uri().clone());
        credential.complete(&method_again, &target, again.headers_mut());
        let replay = Replay::keep(&again);
        let forward = &self.proxy.forward;
        let sent = forward.send(&moved.provider, &destination, again, replay.as_ref(), trail.deadline).await;
        *response = sent.map_err(|failure| failure.into_error(&moved.provider.config, method))?;
        Ok(())
    }

    /// On a federated face with more than one provider, the answer says who gave it.
    fn name_provider(&self, trail: &Trail, response: &mut Response<Body>) {
        let several = sees_several(trail, self.running, self.place.provider.dialect);
        if trail.face == Some(FaceId::TRANSPARENT) || !several {
            return;
        }
        response.headers_mut().insert(PROVIDER, self.place.provider.field.clone());
    }
}

/// Where a relative target goes at a place, and the target there when it is another.
fn destination(dialect: &dyn Dialect, place: &Place, relative: &Uri) -> Result<(Destination, Option<Uri>)> {
    let provider: &Provider = &place.provider;
    let address = dialect.address(&provider.public, relative.path());
    let base = place.endpoint.as_deref().unwrap_or(&address.base);
    let wrong = |cause: String| {
        Error::bad_request(format!("no request to {} can be made of this path", provider.id())).because(cause)
    };
    let destination = provider.destination(base).map_err(|error| wrong(error.to_string()))?;
    let same = relative.authority().is_none() && address.path == relative.path();
    if same && destination.prefix().is_empty() && !address.path.is_empty() {
        return Ok((destination, None));
    }
    let target =
        destination.target(&address.path, relative.query()).map_err(|error| wrong(error.to_string()))?;
    Ok((destination, Some(target)))
}
