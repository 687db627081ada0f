//! A mapped provider that has none of what it is asked for: perhaps the resource lives elsewhere by now.

use http::header::HOST;
use http::{Method, Response, StatusCode};
use standpipe_api::{Body, CallerAuthorization, Effect, ErrorKind, MappingState, Result, Verdict};

use super::exchange::{Exchange, Left, destination};
use crate::access::Sight;
use crate::call::{OnBehalf, Trail};
use crate::forward::copy;
use crate::resolve::By;

impl Exchange<'_> {
    /// Whether a mapped provider says that it has none of what it was asked for.
    pub(super) fn may_have_moved(&self, response: &Response<Body>) -> bool {
        matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE)
            && self.place.by == By::Mapped
            && self.operation().effect == Effect::Read
            && self.place.mapping.as_ref().is_some_and(|mapping| self.dialect.may_move(&mapping.resource))
    }

    /// A mapped provider says it has none of it: perhaps the resource has moved, and the mapping is corrected.
    pub(super) async fn follow(
        &self,
        trail: &Trail,
        left: &Left,
        method: &Method,
        response: &mut Response<Body>,
    ) -> Result<()> {
        let Some(mapping) = &self.place.mapping else { return Ok(()) };
        let Some(mut again) = copy(&self.asked.request).filter(|_| left.is_whole) else { return Ok(()) };
        // Of what is about to be created, or was deleted, nobody else has anything.
        if matches!(mapping.state, MappingState::Gone | MappingState::Intent) {
            return Ok(());
        }
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
        let forward = &self.proxy.forward;
        // Its connection holds a turn that this one need not wait for.
        *response.body_mut() = Body::empty();
        let sent = forward.send(&moved.provider, &destination, &mut again, trail.deadline).await;
        *response = sent.map_err(|failure| failure.into_error(&moved.provider.config, method))?;
        Ok(())
    }
}
