//! Steps 6 to 8 once the provider is known: claim, forward, settle, respond.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Response, StatusCode, Uri, Version};
use standpipe_api::{
    Body, Challenged, Credential, Dialect, Effect, Error, ErrorKind, Fault, Judged, Operation, Outcome,
    Resource, Result, Sent, Verdict,
};

use super::Proxy;
use super::admit::sees_several;
use super::audit::Ending;
use super::hooks::Heard;
use super::prepare::Asked;
use crate::access::quota_needs_id;
use crate::call::Trail;
use crate::engine::Running;
use crate::fail_point::{FailPoint, reach};
use crate::forward::Failure;
use crate::forward::headers::{Outgoing, to_caller, to_provider};
use crate::learn::{Hold, Truth, intent};
use crate::providers::{Destination, Provider};
use crate::resolve::{By, Place};
use crate::respond::PROVIDER;
use crate::route::FaceId;

/// Bytes of an answer that a dialect reads to tell what it means; a longer one is passed on unread.
const SMALL_ANSWER: usize = 64 << 10;

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
    pub(super) destination: Destination,
    /// Whether all of the body was here, so that the request can be sent again.
    pub(super) is_whole: bool,
    /// The target relative to any provider, when the one sent is another.
    pub(super) relative: Option<Uri>,
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
            let mut exchange = Exchange { proxy: self, running, dialect, asked, place, credential };
            return exchange.go(trail).await;
        }
        let (proxy, running, dialect) = (self.clone(), running.clone(), dialect.clone());
        trail.audited_elsewhere = true;
        let mut ending = Ending::of(self, trail);
        let (tell, told) = tokio::sync::oneshot::channel();
        let counted = self.engine.writing.begin();
        tokio::task::spawn_local(async move {
            let _counted = counted;
            let (proxy, running, dialect) = (&proxy, &running, &*dialect);
            let mut exchange = Exchange { proxy, running, dialect, asked, place, credential };
            let outcome = exchange.go(&ending.trail).await;
            ending.told(&outcome);
            // The caller may have left; the outcome has been settled all the same.
            let _left = tell.send(outcome);
        });
        told.await.unwrap_or_else(|_| Err(Error::internal("the call ended without an outcome")))
    }
}

impl Exchange<'_> {
    async fn go(&mut self, trail: &Trail) -> Result<Response<Body>> {
        let held = match self.asked.creates {
            Some(_) => Box::pin(self.claim(trail)).await?,
            None => {
                self.unclaimed(trail)?;
                self.leaving()
            }
        };
        let mut left = match self.prepare(trail).await.and_then(|()| self.leave(trail)) {
            Ok(left) => left,
            Err(error) => {
                let heard = self.heard();
                Box::pin(self.unanswered(trail, held, heard, Outcome::NotSent)).await;
                return Err(error);
            }
        };
        let method = self.asked.request.method().clone();
        reach(FailPoint::SendBefore);
        let mut answered = self.send(trail, &left).await;
        if let Ok(refused) = &answered
            && refused.status() == StatusCode::UNAUTHORIZED
            && self.credential.is_renewable()
        {
            match Box::pin(self.renew(trail, &left, refused)).await {
                Ok(Challenged::Final) => {}
                Ok(Challenged::Renewable) => {
                    // Its connection holds a turn that the second attempt may have to wait for.
                    drop(answered);
                    answered = self.send(trail, &left).await;
                }
                Err(error) => {
                    let (status, headers) = (refused.status(), refused.headers());
                    let outcome = Outcome::Answered { status, headers, body: None };
                    Box::pin(self.unanswered(trail, held, left.heard, outcome)).await;
                    return Err(error);
                }
            }
        }
        reach(FailPoint::SendAfter);
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                let outcome = if failure.may_have_arrived() { Outcome::Lost } else { Outcome::NotSent };
                Box::pin(self.unanswered(trail, held, left.heard, outcome)).await;
                return Err(failure.into_error(&self.place.provider.config, &method));
            }
        };
        if self.may_have_moved(&response) {
            Box::pin(self.follow(trail, &left, &mut response)).await?;
        }
        self.respond(trail, held, left.heard.take(), &mut response).await?;
        Ok(response)
    }

    async fn send(&mut self, trail: &Trail, left: &Left) -> Result<Response<Body>, Failure> {
        let (provider, request) = (&self.place.provider, &mut self.asked.request);
        self.proxy.forward.send(provider, &left.destination, request, trail.deadline).await
    }

    /// Lets hooks see the request.
    async fn prepare(&mut self, trail: &Trail) -> Result<()> {
        if self.credential.is_renewable() && self.asked.request.body().as_bytes().is_none() {
            Box::pin(self.hold_body(trail)).await?;
        }
        if self.asked.call.is_some() {
            let target = self.place.target();
            Box::pin(self.proxy.before_forward(trail, self.running, &mut self.asked, &target)).await?;
        }
        Ok(())
    }

    /// Lets hooks see the answer, writes down what it means, and makes it the caller's.
    async fn respond(
        &self,
        trail: &Trail,
        held: Hold,
        heard: Option<Box<Heard>>,
        response: &mut Response<Body>,
    ) -> Result<()> {
        let status = response.status();
        let mut body = None;
        if self.dialect.reads_answer(self.operation(), status) {
            match Box::pin(self.small_answer(trail, response)).await {
                Ok(read) => body = read,
                Err(error) => {
                    let outcome = Outcome::Answered { status, headers: response.headers(), body: None };
                    Box::pin(self.unanswered(trail, held, heard, outcome)).await;
                    return Err(error);
                }
            }
        }
        let verdict =
            self.judge(&Outcome::Answered { status, headers: response.headers(), body: body.as_ref() });
        let created = match held {
            Hold::Creating(_) => None,
            Hold::Deleting(_) | Hold::Nothing => self.created(response),
        };
        *response.version_mut() = Version::HTTP_11;
        to_caller(response.headers_mut(), &self.proxy.engine.hop);
        let (after, verdict) = match heard {
            None => (Ok(()), verdict),
            Some(mut heard) => {
                let target = self.place.target();
                let hooks = self.proxy.after_forward(trail, self.running, &mut heard, response, &target);
                let after = Box::pin(hooks).await;
                (after, if heard.call.notes.get::<Judged>().is_some() { Verdict::Keep } else { verdict })
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

    /// An answer that the dialect wants to read, unless it is long.
    async fn small_answer(&self, trail: &Trail, response: &mut Response<Body>) -> Result<Option<Bytes>> {
        let read = response.body_mut().bytes_within(SMALL_ANSWER);
        let read = self.proxy.forward.deadlines().within(|| trail.deadline, read).await;
        let slow = || {
            let public = format!("the answer of {} did not end in time", self.place.provider.id());
            Error::new(ErrorKind::Timeout, Fault::Provider(self.place.provider.id().clone()), public)
        };
        let broken = |error| {
            let id = self.place.provider.id();
            Error::nonsense(id.clone(), format!("the answer of {id} broke off")).because(error)
        };
        read.map_err(|_| slow())?.map_err(broken)
    }

    /// No answer came that a hook could see: writes down what that means, and lets hooks know.
    async fn unanswered(&self, trail: &Trail, held: Hold, heard: Option<Box<Heard>>, outcome: Outcome<'_>) {
        self.settle(held, self.judge(&outcome)).await;
        let sent = if matches!(outcome, Outcome::Lost) { Sent::Perhaps } else { Sent::No };
        if let Some(mut heard) = heard {
            let target = self.place.target();
            self.proxy.after_failure(trail, self.running, &mut heard, sent, &target).await;
        }
    }

    pub(super) fn operation(&self) -> Operation {
        self.asked.operation()
    }

    fn judge(&self, outcome: &Outcome<'_>) -> Verdict {
        self.dialect.judge(self.operation(), outcome)
    }

    async fn claim(&self, trail: &Trail) -> Result<Hold> {
        let Some(resource) = &self.asked.creates else { return Ok(Hold::Nothing) };
        let alias = self.place.credential.as_ref();
        let hints = self.asked.hints(self.dialect);
        let learner = &self.proxy.engine.learner;
        reach(FailPoint::ClaimBeforeWrite);
        let caller = trail.caller.as_deref();
        let quota = self.running.quotas.of(caller, &resource.kind);
        let held = learner.claim(intent(resource.clone(), &self.place, caller, hints, alias), quota).await?;
        reach(FailPoint::ClaimAfterWrite);
        Ok(Hold::Creating(held))
    }

    fn leaving(&self) -> Hold {
        match self.known_first() {
            Some(first) if self.operation().effect == Effect::Delete => {
                Hold::Deleting(self.proxy.engine.learner.leaving(first.clone()))
            }
            _ => Hold::Nothing,
        }
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
            let (resource, caller) = (resource.clone(), trail.caller.as_deref());
            let created = intent(resource, &self.place, caller, Vec::new(), alias);
            let held = learner.claim(created, None).await?;
            held.settle(Verdict::Live).await
        };
        if let Err(error) = written.await {
            tracing::error!(error = error.log_text(), "a creation could not be written down");
        }
    }

    /// What is created without a claim cannot be counted, so that no quota would ever be reached.
    fn unclaimed(&self, trail: &Trail) -> Result<()> {
        let (caller, quotas) = (trail.caller.as_deref(), &self.running.quotas);
        if quotas.is_empty() {
            return Ok(());
        }
        let kind = self.dialect.creates(self.operation());
        match kind.filter(|kind| quotas.of(caller, kind).is_some()) {
            Some(kind) => Err(quota_needs_id(caller, &kind)),
            None => Ok(()),
        }
    }

    /// Writes down what happened. The caller gets the provider's answer even if that fails: the claim is durable,
    /// and stays routable.
    async fn settle(&self, held: Hold, verdict: Verdict) {
        if verdict == Verdict::Keep && !matches!(held, Hold::Creating(_)) {
            return;
        }
        let learner = &self.proxy.engine.learner;
        let write = async {
            match (held, self.known_first()) {
                (Hold::Creating(held), _) => held.settle(verdict).await,
                (Hold::Deleting(leaving), _) => leaving.settle(&self.place, verdict).await,
                (Hold::Nothing, Some(first)) => learner.settle(first, &self.place, verdict).await,
                (Hold::Nothing, None) => match &self.place.past {
                    Some(past) if verdict == Verdict::Live => {
                        learner.correct(past, Truth::At(self.place.provider.id())).await
                    }
                    _ => Ok(()),
                },
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

    /// What hooks are shown once the request is gone; only once.
    fn heard(&mut self) -> Option<Box<Heard>> {
        let asked = &mut *self.asked;
        asked.call.take().map(|call| {
            let extensions = std::mem::take(&mut asked.extensions);
            Box::new(Heard { call, extensions, headers: asked.request.headers().clone() })
        })
    }

    /// Turns the caller's request into the provider's.
    fn leave(&mut self, trail: &Trail) -> Result<Left> {
        let heard = self.heard();
        let request = &mut self.asked.request;
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
        if self.credential.stamp.is_some() {
            let (method, target) = (request.method().clone(), request.uri().clone());
            self.credential.complete(&method, &target, request.headers_mut());
        }
        let is_whole = request.body().as_bytes().is_some();
        Ok(Left { destination, is_whole, relative, authorization, heard })
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
pub(super) fn destination(
    dialect: &dyn Dialect,
    place: &Place,
    relative: &Uri,
) -> Result<(Destination, Option<Uri>)> {
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
