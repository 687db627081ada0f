//! Which resource has what a root path names: what the mappings know, and what safe questions find out.
//!
//! Equal names under different resources are ordinary, so that the mapping of one says nothing of the others: all are asked,
//! the mapped one too. A read goes to the only one that has it, whoever is silent (decision 13). A change goes there only if
//! nobody is silent: who does not answer may have the one that is meant. A deletion may be a repeated one (decision 15): where
//! the pipe was deleted, or is not any more, may be meant as well as where there is one now, and alone it is no guess.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use standpipe_api::{
    Answer, Error, ErrorKind, Fault, Federation, Mapping, MappingState, Provider, ProviderId, Query,
    Resource, ResourceId, Result, Target, Vote,
};

use crate::cloudpipe::dialect::{NAME, PIPE, RESOURCE};
use crate::cloudpipe::resources::{Found, Resources};
use crate::path;

/// Resources asked for one name; more need `?resource=`.
const MOST_QUESTIONS: usize = 1000;

/// What a root path names.
pub(super) struct Sought<'a> {
    pub(super) method: &'a Method,
    /// The path within a resource: `/pipes/web`.
    pub(super) under: String,
    /// The id, when it is a pipe's.
    pub(super) pipe: Option<&'a str>,
    /// As callers read it: `pipe web`.
    pub(super) what: String,
}

/// A resource that may have it.
pub(super) struct Place {
    pub(super) target: Target,
    pub(super) resource: ResourceId,
    /// What a mapping says of it there.
    pub(super) mapped: Option<MappingState>,
}

/// Who may have it.
#[derive(Default)]
struct Candidates {
    asked: Vec<Place>,
    /// Where a mapping says it is or was, and nobody is asked.
    unasked: Vec<Place>,
    /// Those with more resources than are known.
    silent: Vec<ProviderId>,
}

impl Sought<'_> {
    /// The one place that is meant.
    ///
    /// # Errors
    /// Nobody has it, several may be meant, or somebody who may have it did not answer.
    pub(super) async fn find(&self, resources: &Resources, fed: &dyn Federation) -> Result<Place> {
        let Candidates { mut asked, unasked, mut silent } = self.candidates(resources, fed).await?;
        let is_only = asked.len() == 1 && unasked.is_empty() && silent.is_empty();
        if let Some(only) = asked.pop_if(|only| is_only && only.is_alive()) {
            return Ok(only);
        }
        let votes = self.ask(&asked, fed).await?;
        let unheard = unasked.into_iter().map(|place| (place, Vote::Unknown));
        let (mut has, mut had) = (Vec::new(), Vec::new());
        for (place, vote) in asked.into_iter().zip(votes).chain(unheard) {
            match (vote, place.mapped) {
                (Vote::Yes, _) => has.push(place),
                (Vote::Unknown, _) if place.is_alive() => has.push(place),
                (Vote::Unknown, Some(MappingState::Gone)) => had.push(place),
                (Vote::Unknown, _) => silent.push(place.target.provider),
                // The answer to an earlier deletion may have been lost.
                (Vote::No, _) if self.deletes() && (place.is_alive() || place.is_gone()) => had.push(place),
                (Vote::No, _) => {}
            }
        }
        let all_told = silent.is_empty();
        match (has.len(), had.len()) {
            (1, 0) if all_told || self.method.is_safe() => has.pop().ok_or_else(|| self.nowhere()),
            (0, 1) => had.pop().ok_or_else(|| self.nowhere()),
            (0, _) if all_told => Err(self.nowhere()),
            (0, _) | (1, 0) => Err(self.could_not_ask(silent)),
            _ => Err(self.ambiguous(has.into_iter().chain(had).collect())),
        }
    }

    fn deletes(&self) -> bool {
        self.method == Method::DELETE
    }

    /// Every resource there is, and those that mappings name besides.
    async fn candidates(&self, resources: &Resources, fed: &dyn Federation) -> Result<Candidates> {
        let (pinned, known) = (fed.pinned(), self.known(fed).await?);
        let mut found = Candidates::default();
        for provider in speaking(fed).filter(|one| pinned.as_ref().is_none_or(|pinned| *pinned == one.id)) {
            if !may_ask(&provider.id, &known, fed) {
                found.silent.push(provider.id);
                continue;
            }
            let (learned, extent) = resources.learned(fed, &provider).await?;
            if extent == Found::Some || !resources.are_known(&provider) {
                found.silent.push(provider.id.clone());
            }
            let mut ids = resources.ids(&provider);
            ids.extend(learned);
            ids.retain(|id| self.is_seen(&provider.id, id, fed));
            ids.sort_unstable();
            ids.dedup();
            let target = Target::from(&provider);
            let place = |resource| Place { target: target.clone(), resource, mapped: None };
            found.asked.extend(ids.into_iter().map(place));
        }
        if pinned.is_none() {
            found.silent.extend(fed.left_out(NAME));
        }
        for place in known.iter().filter_map(Place::of) {
            let provider = &place.target.provider;
            found.asked.retain(|other| !other.is_at(&place));
            let speaks = speaking(fed).any(|one| one.id == *provider);
            match speaks && may_ask(provider, &known, fed) && self.is_seen(provider, &place.resource, fed) {
                true => found.asked.push(place),
                false => found.unasked.push(place),
            }
        }
        match found.asked.len() {
            ..=MOST_QUESTIONS => Ok(found),
            many => Err(Error::bad_request(format!("{many} resources could be meant"))
                .advise("name one with ?resource=, or use its own path")),
        }
    }

    /// The mappings of its name that count.
    async fn known(&self, fed: &dyn Federation) -> Result<Vec<Mapping>> {
        let Some(pipe) = self.pipe else { return Ok(Vec::new()) };
        let mut known = fed.mappings(&PIPE, &pipe.into(), MOST_QUESTIONS + 1).await?;
        let pinned = fed.pinned();
        known.retain(|row| pinned.as_ref().is_none_or(|pinned| *pinned == row.provider));
        // A tombstone routes repeated deletions, and nothing else.
        known.retain(|row| row.state != MappingState::Gone || self.deletes());
        Ok(known)
    }

    fn is_seen(&self, provider: &ProviderId, resource: &ResourceId, fed: &dyn Federation) -> bool {
        let pipe = |id| Resource::new(PIPE, id).within(resource.clone());
        let itself = Resource::new(RESOURCE, resource.clone());
        fed.may_see(provider, &itself) && self.pipe.is_none_or(|id| fed.may_see(provider, &pipe(id)))
    }

    /// Asks all places; one vote each, in their order.
    async fn ask(&self, places: &[Place], fed: &dyn Federation) -> Result<Vec<Vote>> {
        let question = |place: &Place| -> Result<(Target, Query)> {
            let path = format!("/{}{}", path::encode(place.resource.as_str()), self.under);
            let query = Request::get(path).body(Bytes::new());
            Ok((place.target.clone(), query.map_err(|_| Error::bad_request("the path cannot be read"))?))
        };
        let answers = fed.query_each(places.iter().map(question).collect::<Result<_>>()?).await;
        let vote = |(_, answer): (Target, Result<Answer>)| match answer.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => Vote::Yes,
            Ok(StatusCode::NOT_FOUND | StatusCode::GONE) => Vote::No,
            Ok(_) | Err(_) => Vote::Unknown,
        };
        Ok(answers.into_iter().map(vote).collect())
    }

    fn nowhere(&self) -> Error {
        let text = format!("no resource has {}", self.what);
        Error::new(ErrorKind::UnknownResource, Fault::Caller, text)
    }

    fn could_not_ask(&self, mut silent: Vec<ProviderId>) -> Error {
        silent.sort_unstable();
        silent.dedup();
        Error::could_not_ask(&self.what, silent)
            .advise("try again later, or name the resource: ?resource=, or /{resource}/...")
    }

    fn ambiguous(&self, mut found: Vec<Place>) -> Error {
        let key = |place: &Place| (place.target.provider.clone(), place.resource.clone());
        found.sort_unstable_by_key(key);
        let name = |place: &Place| format!("{} at {}", place.resource, place.target.provider);
        let places: Vec<String> = found.iter().map(name).collect();
        let mut candidates: Vec<ProviderId> = found.into_iter().map(|place| place.target.provider).collect();
        candidates.dedup();
        let public = format!("{} could be that of {}", self.what, places.join(", or of "));
        Error::new(ErrorKind::Ambiguous, Fault::Caller, public)
            .advise("choose with ?resource= or the header Standpipe-Provider, or use /{resource}/...")
            .with_candidates(candidates)
    }
}

impl Place {
    fn of(row: &Mapping) -> Option<Self> {
        let target = Target {
            provider: row.provider.clone(),
            remote_scope: row.remote_scope.clone(),
            endpoint: row.endpoint.clone(),
        };
        Some(Self { target, resource: row.resource.parent.clone()?, mapped: Some(row.state) })
    }

    fn is_at(&self, other: &Self) -> bool {
        self.target.provider == other.target.provider && self.resource == other.resource
    }

    /// Whether a mapping proves that it is here; one that is open, as after a creation that was lost or refused, does not.
    fn is_alive(&self) -> bool {
        matches!(self.mapped, Some(MappingState::Live | MappingState::Deleting))
    }

    fn is_gone(&self) -> bool {
        self.mapped == Some(MappingState::Gone)
    }
}

fn speaking(fed: &dyn Federation) -> impl Iterator<Item = Provider> {
    fed.providers().into_iter().filter(|provider| provider.dialect == NAME)
}

/// Whether a provider may be asked: the caller's own credential goes to nobody but whom the caller or the only mapping
/// names (decision 16).
fn may_ask(provider: &ProviderId, known: &[Mapping], fed: &dyn Federation) -> bool {
    let is_named = !known.is_empty() && known.iter().all(|row| row.provider == *provider);
    fed.pinned().is_some() || is_named || fed.may_visit(provider)
}
