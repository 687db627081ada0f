//! Step 4 for one request: its resources to one provider, or the answer of those who could know.

use std::sync::Arc;

use http::Response;
use standpipe_api::{
    Body, Error, Mapping, MappingState, Origin, ProviderId, RequestView, Result, Unroutable,
};

use super::Proxy;
use super::prepare::{Asked, stranger};
use crate::access::Sight;
use crate::call::{OnBehalf, Trail};
use crate::engine::Running;
use crate::resolve::{Place, Wanted};
use crate::route::no_route;

/// Mappings of one id that are looked at, of all tenants.
const MOST_NAMED: usize = 256;

/// What step 4 comes to.
pub(super) enum Resolved {
    /// It goes here.
    At(Place),
    /// Nobody needs to be asked: the dialect has the answer.
    Answered(Response<Body>),
}

impl Proxy {
    /// Step 4.
    pub(super) async fn resolve(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        asked: &Asked,
    ) -> Result<Resolved> {
        let dialect = trail.dialect_id.ok_or_else(|| no_route(asked.request.uri().path()))?;
        // Without rules nobody is asked for.
        let caller = if running.access.is_open() { None } else { trail.caller.clone() };
        let sight = Sight::new(&running.access, caller.as_deref(), &asked.resources);
        let speaks = &**self.engine.router.dialect(dialect);
        let mut wanted = Wanted {
            dialect,
            speaks,
            resources: &asked.resources,
            creates: asked.creates.as_ref(),
            purpose: asked.purpose(speaks),
            hints: &[],
            pinned: asked.pinned.as_ref(),
            sight: &sight,
        };
        let resolver = &self.engine.resolver;
        if asked.pinned.is_none()
            && let Some(place) = resolver.remembered(&wanted, running)?
        {
            return self.admit(trail, running, asked, place).map(Resolved::At);
        }
        let hints = asked.hints(speaks);
        wanted.hints = &hints;
        if !running.access.is_open()
            && let Some(own) = Box::pin(self.own_place(trail, running, asked, &wanted)).await?
        {
            return Ok(Resolved::At(own));
        }
        let found = Box::pin(self.search(trail, running, asked, &wanted)).await;
        match Self::note_withheld(trail, &sight, found)? {
            Resolved::At(place) => self.admit(trail, running, asked, place).map(Resolved::At),
            answered => Ok(answered),
        }
    }

    async fn search(
        &self,
        trail: &Trail,
        running: &Arc<Running>,
        asked: &Asked,
        wanted: &Wanted<'_>,
    ) -> Result<Resolved> {
        let resolver = &self.engine.resolver;
        match (resolver.known(wanted, running).await, &asked.stranger) {
            (Ok(Some(place)), _) => Ok(Resolved::At(place)),
            // Nobody floods for a stranger, and what a stranger is told does not depend on what exists.
            (Ok(None) | Err(_), Some(_)) => Err(stranger()),
            (Err(error), None) => Err(error),
            (Ok(None), None) => {
                if let Some(answer) = unroutable(asked, wanted, running)? {
                    return Ok(Resolved::Answered(answer));
                }
                let querier = self.querier(trail, running, OnBehalf::of(asked.request.headers()));
                let place = resolver.resolve(wanted, &querier).await?;
                if wanted.speaks.callers_choose_ids() {
                    self.not_anothers(asked, &place).await?;
                }
                resolver.learn(wanted, running, &place).await?;
                Ok(Resolved::At(place))
            }
        }
    }

    /// Where callers choose ids, another tenant's resource at the place found is unknown to this caller: the provider has one
    /// room for all ids, and only the mappings tell whose is whose.
    ///
    /// # Errors
    /// It is another tenant's, or the store does not answer.
    pub(super) async fn not_anothers(&self, asked: &Asked, place: &Place) -> Result<()> {
        for resource in &asked.resources {
            let followed = place.mapping.as_ref().filter(|mapping| mapping.resource == *resource);
            if followed.is_some_and(|mapping| mapping.origin != Origin::Learned) {
                return Ok(());
            }
            let rows = self.engine.store.mappings_named(&resource.kind, &resource.id, MOST_NAMED).await?;
            let is_it = |row: &Mapping| {
                row.resource.parent == resource.parent
                    && row.provider == *place.provider.id()
                    && row.state != MappingState::Gone
            };
            let (own, others): (Vec<&Mapping>, Vec<&Mapping>) =
                rows.iter().filter(|row| is_it(row)).partition(|row| row.resource.scope == resource.scope);
            // Who only found it has no right against whoever made it.
            let is_found = |row: &&Mapping| row.origin == Origin::Learned;
            if !own.is_empty() && (!own.iter().all(is_found) || others.iter().all(is_found)) {
                return Ok(());
            }
            if !others.is_empty() {
                return Err(match &asked.creates {
                    Some(new) if new == resource => Error::conflict(format!("{resource} exists already")),
                    _ => Error::unknown_resource(resource),
                });
            }
        }
        Ok(())
    }
}

/// The dialect's own answer to a request that leads nowhere, if it has one.
fn unroutable(asked: &Asked, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Response<Body>>> {
    let Some(matched) = &asked.matched else { return Ok(None) };
    let speaking = running.speaking(wanted.dialect).map(|provider| provider.id());
    let all = speaking.chain(running.silent(wanted.dialect));
    let seen: Vec<ProviderId> = all.filter(|id| wanted.sight.sees(id)).cloned().collect();
    let body = asked.request.body().as_bytes().filter(|_| wanted.speaks.needs_body(matched.operation));
    let view = RequestView::of(&asked.request, &matched.params, body);
    match wanted.speaks.unroutable(matched.operation, &view, &seen) {
        Unroutable::Search => Ok(None),
        Unroutable::Answer(response) => Ok(Some(response)),
        Unroutable::Unheard(silent) => Err(match wanted.resources.first() {
            Some(resource) => Error::could_not_ask(resource, silent),
            None => Error::could_not_ask("a request that names no resource", silent),
        }),
    }
}
