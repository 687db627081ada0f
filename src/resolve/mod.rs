//! Step 4: resource to provider. What a request names goes in, one provider comes out, or an error that says
//! why there is not exactly one.
//!
//! Order: pinned by path or header; a live or tombstoned mapping; a hint that one provider's index knows; the
//! only provider of the dialect; asking all of them. This step sends nothing but safe questions, and never
//! says "does not exist" unless everybody who could know was asked.

mod flood;
mod index;
mod moved;
mod place;

use std::sync::Arc;

use standpipe_api::{
    Availability, Dialect, Error, ErrorKind, Fault, Hint, Mapping, MappingState, Preference, ProviderId,
    Resource, Result, Timestamp,
};

pub use self::flood::Floods;
pub use self::index::Index;
pub use self::place::{By, Place};
use crate::access::Sight;
use crate::engine::{Running, unknown_provider};
use crate::providers::Provider;
use crate::query::Querier;
use crate::route::DialectId;
use crate::store::{Mappings, Write};

/// What is to be found.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The dialect of the face.
    pub dialect: DialectId,
    /// The same, to be asked.
    pub speaks: &'a dyn Dialect,
    /// The resources the request names, most specific first.
    pub resources: &'a [Resource],
    /// The one it brings into being, which nobody can be asked for yet.
    pub creates: Option<&'a Resource>,
    /// Whether it begins something new ([`Dialect::begins`]).
    pub purpose: Purpose,
    /// Ids that an index may know.
    pub hints: &'a [Hint],
    /// The provider the caller chose.
    pub pinned: Option<&'a ProviderId>,
    /// What the caller may see; the rest is as if it were not there.
    pub sight: &'a Sight<'a>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It begins something new: a provider that drains is chosen for it only by name.
    New,
    /// It is about what there is, and what is made within it.
    Known,
    /// It ends what there is, or asks how that goes: a tombstone leads to where it was.
    Ending,
}

/// Finds providers.
pub struct Resolver {
    mappings: Arc<Mappings>,
    index: Index,
    floods: Floods,
}

impl Resolver {
    /// A resolver over the mapping table.
    pub fn new(mappings: Arc<Mappings>, settings: &crate::config::Resolve) -> Self {
        Self { mappings, index: Index::default(), floods: Floods::new(settings) }
    }

    /// The mapping table.
    pub fn mappings(&self) -> &Arc<Mappings> {
        &self.mappings
    }

    /// Searches under way and remembered.
    pub fn floods(&self) -> &Floods {
        &self.floods
    }

    /// What providers say they have.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The provider that a mapping in memory names; `None` when the table or others have to be asked.
    ///
    /// # Errors
    /// The mapping's provider is not configured, or cannot be put to work.
    pub fn remembered(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Place>> {
        for resource in wanted.resources {
            match self.mappings.peek(resource) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(mapping)) if wanted.looks_past(&mapping) => return Ok(None),
                Some(Some(mapping)) => {
                    if let Some(place) = place(mapping, wanted, running)? {
                        return Ok(Some(place));
                    }
                    // It may be the caller's own, which is looked at with more care.
                    if wanted.sight.has_withheld() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Finds the provider without asking anybody; `None` when only asking can tell.
    ///
    /// # Errors
    /// Two indexes know it, a pin names nobody, or the store does not answer.
    pub async fn known(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Place>> {
        if let Some(pin) = wanted.pinned {
            return self.pinned(pin, wanted, running).await.map(Some);
        }
        if let Some(place) = self.mapped(wanted, running).await? {
            return Ok(Some(place));
        }
        if let Some(provider) = self.indexed(wanted, running)? {
            return Ok(Some(Place::at(provider, By::Index)));
        }
        let sees = |provider: &&Arc<Provider>| wanted.sight.sees(provider.id());
        let taking = |one: &&Arc<Provider>| sees(one) && wanted.may_take(one.public.availability);
        let mut seen = running.speaking(wanted.dialect).filter(taking);
        match (seen.next(), seen.next(), running.speaking(wanted.dialect).next()) {
            (None, _, Some(_)) if running.speaking(wanted.dialect).any(|one| sees(&one)) => {
                let draining = running.speaking(wanted.dialect).filter(sees);
                Err(draining_only(draining.map(|provider| provider.id().clone()).collect()))
            }
            // What cannot be put to work may have any resource, and counts as one more that is silent.
            (Some(only), None, _) if wanted.resources.is_empty() || !wanted.is_somebody_silent(running) => {
                Ok(Some(Place::at(only.clone(), By::Only)))
            }
            (Some(_), _, _) => Ok(None),
            // Nobody may be asked who could know, and so nobody has it.
            (None, _, Some(unseen)) => {
                wanted.sight.withhold(unseen.id());
                Ok(None)
            }
            (None, _, None) => match running.silent(wanted.dialect).find(|one| wanted.sight.sees(one)) {
                Some(left_out) => {
                    running.provider(left_out).cloned().map(|one| Some(Place::at(one, By::Only)))
                }
                None => Err(nobody()),
            },
        }
    }

    /// Finds the provider, asking all candidates where nothing else tells.
    ///
    /// # Errors
    /// As [`Resolver::known`]; nobody has it; several have it; somebody did not answer.
    pub async fn resolve(&self, wanted: &Wanted<'_>, querier: &Querier) -> Result<Place> {
        let running = &querier.running;
        if let Some(place) = self.known(wanted, running).await? {
            return Ok(place);
        }
        if !running.config.resolve.search {
            return local(wanted, running);
        }
        let Some(resource) = question_for(wanted.speaks, wanted) else {
            let seen = running.speaking(wanted.dialect).map(|provider| provider.id());
            let seen: Vec<_> = seen.filter(|provider| wanted.sight.sees(provider)).cloned().collect();
            return Err(match seen.is_empty() {
                true => unseen(wanted),
                false => Error::could_not_ask("a request that names no resource", seen),
            });
        };
        let place = self.floods.find(resource, wanted.dialect, wanted.sight, querier).await?;
        if !wanted.may_take(place.provider.public.availability) {
            return Err(draining_only(vec![place.provider.id().clone()]));
        }
        Ok(place)
    }

    /// Remembers what asking all candidates has found. Where callers choose ids, the place must be known not to be another
    /// tenant's.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn learn(&self, wanted: &Wanted<'_>, running: &Running, place: &Place) -> Result<()> {
        // Others may see a second provider that has it: what only some were asked must not decide for all.
        let counts = place.by == By::Flood && wanted.sight.is_whole(running, wanted.dialect);
        let Some(resource) = question_for(wanted.speaks, wanted).filter(|_| counts) else { return Ok(()) };
        let found = Mapping::learned(resource.clone(), place.provider.id().clone(), Timestamp::now());
        self.mappings.apply(vec![Write::Put(found)]).await.map_err(Error::from)
    }

    async fn pinned(&self, pin: &ProviderId, wanted: &Wanted<'_>, running: &Running) -> Result<Place> {
        let provider = running.named(wanted.sight.caller(), pin)?;
        if !wanted.sight.sees_provider(pin) {
            wanted.sight.withhold(pin);
            return Err(unknown_provider(pin));
        }
        if provider.dialect != wanted.dialect {
            return Err(Error::bad_request(format!("{pin} speaks another dialect than this path")));
        }
        if !wanted.sight.sees(pin) {
            wanted.sight.withhold(pin);
            return Err(unseen(wanted));
        }
        let mut place = Place::at(provider.clone(), By::Pinned);
        for resource in wanted.resources {
            let mapping = self.mappings.get(resource).await.map_err(Error::from)?;
            if let Some(mapping) = mapping.filter(|mapping| mapping.provider == *pin) {
                place.follow(mapping);
                break;
            }
        }
        Ok(place)
    }

    async fn mapped(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Place>> {
        let mut grave = None;
        for resource in wanted.resources {
            let Some(mapping) = self.mappings.get(resource).await.map_err(Error::from)? else { continue };
            if wanted.looks_past(&mapping) {
                grave.get_or_insert(mapping);
            } else if let Some(found) = place(mapping, wanted, running)? {
                return match grave {
                    Some(grave) => past(grave, found, wanted, running).map(Some),
                    None => Ok(Some(found)),
                };
            }
        }
        let Some(grave) = grave else { return Ok(None) };
        match self.indexed(wanted, running) {
            Ok(Some(provider)) => past(grave, Place::at(provider, By::Index), wanted, running).map(Some),
            Err(error) if !error.candidates().contains(&grave.provider) => Err(error),
            Ok(None) | Err(_) => place(grave, wanted, running),
        }
    }

    fn indexed(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Arc<Provider>>> {
        for hint in wanted.hints {
            // What is known to be of one that cannot be put to work is nobody else's meanwhile.
            let is_there = |id: &ProviderId| running.find(id).is_some() || running.is_left_out(id);
            let knowing = self.index.knowing(hint).into_iter().filter(is_there);
            let (seen, unseen): (Vec<_>, Vec<_>) = knowing.partition(|id| wanted.sight.sees(id));
            let may_take = |id: &&ProviderId| wanted.may_take(running.at_run_time.availability(id));
            let taking: Vec<ProviderId> = seen.iter().filter(may_take).cloned().collect();
            if taking.is_empty() && !seen.is_empty() {
                return Err(draining_only(seen));
            }
            let chosen = match taking.as_slice() {
                [] => {
                    unseen.iter().for_each(|id| wanted.sight.withhold(id));
                    None
                }
                [only] if wanted.purpose != Purpose::New => Some(only.clone()),
                candidates => {
                    let sees = |id: &ProviderId| is_there(id) && wanted.sight.sees(id);
                    preferred(wanted.speaks.prefer(hint, candidates, &sees), hint, (candidates, &seen))?
                }
            };
            if let Some(chosen) = chosen {
                return running.provider(&chosen).cloned().map(Some);
            }
        }
        Ok(None)
    }
}

impl Wanted<'_> {
    /// Whether a provider that nobody named may be chosen.
    fn may_take(&self, availability: Availability) -> bool {
        self.purpose != Purpose::New || availability == Availability::Active
    }

    /// Whether a tombstone only tells where it was: what may move is where the thing it is within is by now.
    fn looks_past(&self, mapping: &Mapping) -> bool {
        mapping.state == MappingState::Gone
            && self.purpose != Purpose::Ending
            && self.creates.is_none()
            && self.speaks.may_move(&mapping.resource)
    }

    /// Whether the caller sees a provider that cannot be put to work.
    fn is_somebody_silent(&self, running: &Running) -> bool {
        running.silent(self.dialect).any(|provider| self.sight.sees(provider))
    }
}

fn nobody() -> Error {
    let text = "no provider is configured that could be asked";
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, text)
        .advise("an operator adds one with [[provider]] in the configuration")
}

/// Something new is wanted, and only providers that take nothing new could have it.
fn draining_only(draining: Vec<ProviderId>) -> Error {
    let names: Vec<&str> = draining.iter().map(ProviderId::as_str).collect();
    let text = format!("nothing new is taken: {} is being drained", names.join(", "));
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, text)
        .advise("an operator lets it take new things again, or choose a provider with the header Standpipe-Provider")
        .with_candidates(draining)
}

/// Where a mapping leads, if the request follows it.
fn place(mapping: Arc<Mapping>, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Place>> {
    // A tombstone routes polls and repeated deletes; a new creation finds its own way.
    if mapping.state == MappingState::Gone && wanted.creates.is_some() {
        return Ok(None);
    }
    if !wanted.sight.sees(&mapping.provider) {
        wanted.sight.withhold(&mapping.provider);
        return Ok(None);
    }
    Place::of(mapping, running).map(Some)
}

/// Where something is by now that had a tombstone. At the provider where it was, all is as it was there.
fn past(grave: Arc<Mapping>, found: Place, wanted: &Wanted<'_>, running: &Running) -> Result<Place> {
    if grave.provider == *found.provider.id() {
        return Place::of(grave, running);
    }
    let teaches = wanted.sight.is_whole(running, wanted.dialect);
    Ok(Place { past: teaches.then_some(grave), ..found })
}

/// The provider that an id leads to in the dialect's eyes, of the candidates among those seen.
fn preferred(
    preference: Preference,
    hint: &Hint,
    (candidates, seen): (&[ProviderId], &[ProviderId]),
) -> Result<Option<ProviderId>> {
    match preference {
        Preference::One(id) if candidates.contains(&id) => Ok(Some(id)),
        // What a provider that drains has under an id is nobody else's meanwhile.
        Preference::One(id) if seen.contains(&id) => Err(draining_only(vec![id])),
        Preference::One(_) | Preference::Nobody => Ok(None),
        Preference::Ambiguous => {
            let resource = Resource::new(hint.kind.clone(), hint.value.clone());
            Err(Error::ambiguous(&resource, candidates.to_vec()))
        }
    }
}

/// What a caller is told of resources it does not see where it looks for them.
fn unseen(wanted: &Wanted<'_>) -> Error {
    match wanted.resources.last() {
        Some(resource) => Error::unknown_resource(resource),
        None => Error::new(ErrorKind::NoRoute, Fault::Caller, "nothing is served at this path"),
    }
}

/// The most specific resource that exists already and can be asked for.
fn question_for<'a>(dialect: &dyn Dialect, wanted: &Wanted<'a>) -> Option<&'a Resource> {
    let asked = wanted.resources.iter().filter(|resource| Some(*resource) != wanted.creates);
    asked.into_iter().find(|resource| dialect.question(resource).is_some())
}

fn local(wanted: &Wanted<'_>, running: &Running) -> Result<Place> {
    let seen = |provider: &&Arc<Provider>| provider.public.local && wanted.sight.sees(provider.id());
    let local = running.speaking(wanted.dialect).find(seen);
    if let Some(local) = local.filter(|local| !wanted.may_take(local.public.availability)) {
        return Err(draining_only(vec![local.id().clone()]));
    }
    local.map(|provider| Place::at(provider.clone(), By::Local)).ok_or_else(|| {
        Error::new(
            ErrorKind::CouldNotAsk,
            Fault::Proxy,
            "the resource is not known, and searching is switched off",
        )
        .advise("choose a provider with the header Standpipe-Provider, or use /providers/{name}/...")
    })
}
