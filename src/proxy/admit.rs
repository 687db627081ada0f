//! Access rules on the way of one call: what it does not see, what it may not do, and what is its own.
//!
//! Most of it is in `resolve/`, which leaves out what a caller does not see. Here is what needs the call itself:
//! its method, its effect, and who created what it is about.

use std::sync::Arc;

use standpipe_api::{Effect, Error, ProviderId, RequestView, Result};

use super::Proxy;
use super::prepare::{Asked, scoped};
use crate::access::{Judgement, Refusal, Sight, method_refused, own_refused};
use crate::call::Trail;
use crate::engine::{Running, unknown_provider};
use crate::resolve::{Place, Purpose, Wanted};
use crate::route::FaceId;

impl Proxy {
    /// Before anything of a call to `/providers/{name}/` is read: a provider that the caller does not see is as
    /// unknown as any other name, unless the call is about something the caller created there.
    ///
    /// # Errors
    /// As for a name that nobody has; or the resource is the caller's own.
    pub(super) async fn enter(&self, trail: &mut Trail, running: &Running, asked: &Asked) -> Result<()> {
        let (true, Some(pin)) = (trail.face == Some(FaceId::TRANSPARENT), &asked.pinned) else {
            return Ok(());
        };
        if running.access.sees_provider(trail.caller.as_deref(), pin) {
            return Ok(());
        }
        let (Some(dialect), Some(id)) = (trail.dialect.clone(), trail.dialect_id) else { return Ok(()) };
        let names = asked.matched.as_ref().map_or_else(Vec::new, |matched| {
            // The body is not read for somebody who may not be here.
            let view = RequestView::of(&asked.request, &matched.params, None);
            scoped(&*dialect, trail.caller.as_deref(), dialect.names(matched.operation, &view))
        });
        let caller = trail.caller.clone();
        let sight = Sight::new(&running.access, caller.as_deref(), &names);
        let pinned = Some(pin);
        let wanted = Wanted {
            dialect: id,
            speaks: &*dialect,
            resources: &names,
            creates: None,
            purpose: Purpose::Known,
            hints: &[],
            pinned,
            sight: &sight,
        };
        if self.own_place(trail, running, asked, &wanted).await?.is_some() {
            return Ok(());
        }
        trail.refuse(Refusal::Unseen, Some(pin.clone()));
        trail.dialect = None;
        trail.operation = None;
        Err(unknown_provider(pin))
    }

    /// The place of a resource that the caller itself created and does not see any more. It can be polled and deleted
    /// (decision 22: a mistake in a rule must not make platforms forget records).
    ///
    /// # Errors
    /// Anything else is refused as what it is, never as if the resource did not exist.
    pub(super) async fn own_place(
        &self,
        trail: &mut Trail,
        running: &Running,
        asked: &Asked,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Place>> {
        let Some(caller) = trail.caller.clone() else { return Ok(None) };
        for (at, resource) in wanted.resources.iter().enumerate() {
            let mapping = self.engine.resolver.mappings().get(resource).await.map_err(Error::from)?;
            let Some(mapping) = mapping else { continue };
            let elsewhere = wanted.pinned.is_some_and(|pin| *pin != mapping.provider);
            if mapping.owner.as_ref() != Some(&caller.id) || elsewhere || wanted.sight.sees(&mapping.provider)
            {
                return Ok(None);
            }
            if at == 0 && matches!(asked.operation().effect, Effect::Poll | Effect::Delete) {
                return Place::of(mapping, running).map(Some);
            }
            trail.refuse(Refusal::Own, Some(mapping.provider.clone()));
            return Err(own_refused(resource));
        }
        Ok(None)
    }

    /// Whether a call may go where it was found to belong.
    ///
    /// # Errors
    /// The caller does not see it there, or may not use the method.
    pub(super) fn admit(
        &self,
        trail: &mut Trail,
        running: &Running,
        asked: &Asked,
        place: Place,
    ) -> Result<Place> {
        let (provider, method) = (place.provider.id(), asked.request.method());
        let caller = trail.caller.as_deref();
        match running.access.judge(caller, provider, &asked.resources, method) {
            Judgement::LetIn => Ok(place),
            Judgement::Seen => {
                trail.refuse(Refusal::Method, Some(provider.clone()));
                Err(method_refused(method, &asked.resources))
            }
            // An extension has led it there.
            Judgement::Unseen => {
                trail.refuse(Refusal::Unseen, Some(provider.clone()));
                Err(match asked.resources.last() {
                    Some(resource) => Error::unknown_resource(resource),
                    None => unknown_provider(provider),
                })
            }
        }
    }

    /// Notes that a search came to nothing because of what the caller does not see.
    pub(super) fn note_withheld<T>(trail: &mut Trail, sight: &Sight<'_>, outcome: Result<T>) -> Result<T> {
        let withheld: Option<ProviderId> = if outcome.is_err() { sight.withheld() } else { None };
        if withheld.is_some() {
            trail.refuse(Refusal::Unseen, withheld);
        }
        outcome
    }
}

/// Whether a caller sees more than one provider of a dialect, and so should be told which one answered.
pub(super) fn sees_several(trail: &Trail, running: &Running, dialect: crate::route::DialectId) -> bool {
    let caller = trail.caller.as_deref();
    let seen =
        |provider: &&Arc<crate::providers::Provider>| running.access.sees_provider(caller, provider.id());
    running.speaking(dialect).filter(seen).nth(1).is_some()
}
