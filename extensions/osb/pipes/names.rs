//! Which resource a call is about: the root paths leave it out, and another broker may have one of the same name.

use percent_encoding::percent_decode_str;
use standpipe_api::{
    Call, Error, Federation, Mapping, MappingState, Provider, ProviderId, Resource, ResourceId,
};

use super::record::{Errand, name_prefix};
use super::serve::{Done, named};
use super::services::{Found, Services};
use crate::cloudpipe::broker::answer::Refusal;
use crate::cloudpipe::broker::pipe::PipeId;
use crate::cloudpipe::broker::serve::Place;
use crate::cloudpipe::{PIPE, RESOURCE};
use crate::osb::dialect::NAME;
use crate::osb::visibility::User;
use crate::path;

/// Pipes of one name that are looked at.
const NAMED: usize = 20;

/// What of a call's path is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours {
    /// The name of its resource.
    Name,
    /// The pipe itself, which says more.
    Pipe,
}

impl Services {
    /// The path with its resource: the root paths leave it out, or say it in the query.
    pub(super) async fn full_path(&self, call: &Call, fed: &dyn Federation) -> Done<Option<String>> {
        let path = call.uri.path();
        let (side, rest) = path::split_first(path);
        if side != "pipes" && side != "offers" {
            return Ok(Some(path.to_owned()));
        }
        let query = call.uri.query().unwrap_or_default();
        if let Some(named) = query.split('&').find_map(|pair| pair.strip_prefix("resource=")) {
            let named = percent_decode_str(&named.replace('+', " ")).decode_utf8_lossy().into_owned();
            return Ok(Some(format!("/{}{path}", path::encode(&named))));
        }
        let (name, _) = path::split_first(rest);
        let Some(name) = path::decode(name) else { return Ok(None) };
        let mut resources = match side {
            "pipes" => self.resources_of_pipe(&name, fed).await?,
            _ => self.resources_of_offer(&name, fed),
        };
        if resources.len() > 1 {
            let names = resources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", or of ");
            let text = format!("{name} could be that of {names}; choose with ?resource=");
            return Err(Refusal::conflict(text).into());
        }
        Ok(resources.pop().map(|resource| format!("/{}{path}", path::encode(resource.as_str()))))
    }

    /// The resources that have a pipe of a name, if one of them is ours.
    async fn resources_of_pipe(&self, name: &str, fed: &dyn Federation) -> Done<Vec<ResourceId>> {
        let Some(id) = PipeId::read(name) else { return Ok(Vec::new()) };
        let mut resources = Vec::new();
        for record in self.state()?.list(&name_prefix(&id), None, NAMED).await? {
            let resource = ResourceId::from(&*String::from_utf8_lossy(&record.value));
            let errand = Errand { resource, id: id.clone() };
            if self.load(&errand).await?.is_some_and(|stored| stored.bound.is_of(fed.caller())) {
                resources.push(errand.resource);
            }
        }
        if !resources.is_empty() {
            let others = self.pipes_of_others(fed, &name.into()).await?;
            resources.extend(others.into_iter().filter_map(|mapping| mapping.resource.parent));
        }
        Ok(resources)
    }

    fn resources_of_offer(&self, name: &str, fed: &dyn Federation) -> Vec<ResourceId> {
        let providers = fed.providers().into_iter().filter(|provider| provider.dialect == NAME);
        let has = |provider: &Provider| {
            let offers = self.offers(fed, &Found::Provider(provider.clone()), &User::default());
            offers.iter().any(|offer| offer.blueprint.name.0 == name)
        };
        providers.filter(has).map(|provider| provider.id.as_str().into()).collect()
    }

    /// Whether a call is about what a cloudpipe broker has under a name of ours. The caller's pin tells, else the pipe that is
    /// named, where only one of both has it.
    ///
    /// # Errors
    /// It could be about either.
    pub(super) async fn is_anothers(
        &self,
        fed: &dyn Federation,
        place: &Place,
        resource: &ResourceId,
        (ours, at): (Ours, &ProviderId),
    ) -> Done<bool> {
        if let Some(pinned) = fed.pinned() {
            return Ok(pinned != *at);
        }
        let mut pipes = Vec::new();
        if let Some(errand) = named(place) {
            pipes = self.pipes_of_others(fed, &errand.id.as_str().into()).await?;
            pipes.retain(|mapping| mapping.resource.parent.as_ref() == Some(resource));
        }
        let mut candidates = match (ours, &pipes[..]) {
            (Ours::Name, [_, ..]) => return Ok(true),
            (Ours::Name, []) => self.resources.owners(fed, resource).await?,
            (Ours::Pipe, _) => pipes.into_iter().map(|mapping| mapping.provider).collect(),
        };
        if candidates.is_empty() {
            return Ok(false);
        }
        candidates.push(at.clone());
        Err(Error::ambiguous(&Resource::new(RESOURCE, resource.clone()), candidates).into())
    }

    /// The pipes of a name that brokers have.
    async fn pipes_of_others(&self, fed: &dyn Federation, name: &ResourceId) -> Done<Vec<Mapping>> {
        let mut known = fed.mappings(&PIPE, name, NAMED).await?;
        known.retain(|mapping| mapping.state != MappingState::Gone);
        Ok(known)
    }
}
