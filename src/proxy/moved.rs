//! A mapped provider that has none of what it is asked for: perhaps the resource lives elsewhere by now.

use http::header::{AUTHORIZATION, HOST};
use http::{Request, Response, StatusCode};
use standpipe_api::{Body, CallerAuthorization, Effect, ErrorKind, Mapping, MappingState, Query, Result};

use super::exchange::{Exchange, Left, destination};
use crate::access::Sight;
use crate::call::{OnBehalf, Trail};
use crate::forward::copy;
use crate::learn::Truth;
use crate::query::Querier;
use crate::resolve::{By, Place, Wanted};

impl Exchange<'_> {
    /// Whether a mapped provider says that it has none of what it was asked for.
    pub(super) fn may_have_moved(&self, response: &Response<Body>) -> bool {
        matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE)
            && self.place.by == By::Mapped
            && self.operation().effect == Effect::Read
            && self.place.mapping.as_ref().is_some_and(|mapping| self.dialect.may_move(&mapping.resource))
    }

    /// A mapped provider says it has none of it: perhaps it has moved, and the mapping is corrected.
    pub(super) async fn follow(
        &mut self,
        trail: &Trail,
        left: &Left,
        response: &mut Response<Body>,
    ) -> Result<()> {
        let Some(mapping) = self.place.mapping.clone() else { return Ok(()) };
        let Some(again) = copy(&self.asked.request).filter(|_| left.is_whole) else { return Ok(()) };
        // Of what is about to be created, or was deleted, nobody else has anything. Nobody is asked for a stranger.
        if matches!(mapping.state, MappingState::Gone | MappingState::Intent) || self.asked.stranger.is_some()
        {
            return Ok(());
        }
        let mut on_behalf = OnBehalf::of(again.headers());
        if self.credential.authorization == CallerAuthorization::Removed {
            on_behalf.authorization.clone_from(&left.authorization);
        }
        let querier = self.proxy.querier(trail, self.running, on_behalf);
        match self.moved(&mapping, trail, left, &querier).await {
            Ok(Some(place)) if place.provider.id() != &mapping.provider => {
                // Of who is silent nothing is known: that another has it too would be hidden by a mapping.
                if place.by == By::Flood {
                    self.correct(&mapping, Truth::At(place.provider.id())).await;
                }
                // Its connection holds a turn that this one need not wait for.
                *response.body_mut() = Body::empty();
                *response = self.send_there(trail, left, &querier, &place, again).await?;
                self.place = place;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnknownResource => {
                self.correct(&mapping, Truth::Nowhere).await;
                Ok(())
            }
            // The provider's word stands.
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn correct(&self, stale: &Mapping, truth: Truth<'_>) {
        if let Err(error) = self.proxy.engine.learner.correct(stale, truth).await {
            tracing::error!(error = error.log_text(), "a stale mapping stays");
        }
    }

    /// Where it is by now.
    async fn moved(
        &self,
        mapping: &Mapping,
        trail: &Trail,
        left: &Left,
        querier: &Querier,
    ) -> Result<Option<Place>> {
        let asked = &self.asked;
        let (hints, purpose) = (asked.hints(self.dialect), asked.purpose(self.dialect));
        let sight = Sight::new(&self.running.access, trail.caller.as_deref(), &asked.resources);
        let wanted = Wanted {
            dialect: self.place.provider.dialect,
            speaks: self.dialect,
            resources: &asked.resources,
            creates: None,
            purpose,
            hints: &hints,
            pinned: None,
            sight: &sight,
        };
        let mut read = Query::default();
        read.method_mut().clone_from(asked.request.method());
        read.uri_mut().clone_from(left.relative.as_ref().unwrap_or(asked.request.uri()));
        self.proxy.engine.resolver.moved(mapping, &wanted, &read, querier).await
    }

    /// Sends the request once more, to another provider.
    async fn send_there(
        &self,
        trail: &Trail,
        left: &Left,
        querier: &Querier,
        place: &Place,
        mut again: Request<Body>,
    ) -> Result<Response<Body>> {
        let mut credential = querier.credential(&place.provider, &place.target(), None).await?;
        let relative = left.relative.as_ref().unwrap_or(again.uri()).clone();
        let (destination, target) = destination(self.dialect, place, &relative)?;
        *again.uri_mut() = target.unwrap_or(relative);
        let headers = again.headers_mut();
        self.credential.headers.iter().for_each(|(name, _)| drop(headers.remove(name)));
        // What the first provider took of the caller's is not the second one's.
        headers.remove(AUTHORIZATION);
        if credential.authorization == CallerAuthorization::PassedOn {
            headers.extend(querier.on_behalf.authorization.clone().map(|own| (AUTHORIZATION, own)));
        }
        headers.insert(HOST, destination.authority().clone());
        for (name, value) in &credential.headers {
            headers.insert(name.clone(), value.clone());
        }
        let (method, target) = (again.method().clone(), again.uri().clone());
        credential.complete(&method, &target, again.headers_mut());
        let sent = self.proxy.forward.send(&place.provider, &destination, &mut again, trail.deadline).await;
        sent.map_err(|failure| failure.into_error(&place.provider.config, &method))
    }
}
