//! Where something is by now, of which its mapped provider says that it has none.

use standpipe_api::{
    Error, ErrorKind, Mapping, MappingState, ProviderId, Query, Resource, Result, Timestamp,
};

use super::{By, Place, Resolver, Wanted, flood};
use crate::query::Querier;
use crate::store::Write;

impl Resolver {
    /// Asks again where something is, because its mapped provider said that it has none of it. What cannot be searched for
    /// is asked for with `read`, the caller's own question with a path as a provider sees it, wherever the thing that it is
    /// within may be. `None`: the provider's word stands, because nobody may be asked (again so soon) or others are silent.
    ///
    /// # Errors
    /// Nobody has it, and everybody who could know was asked: [`ErrorKind::UnknownResource`]. Of those that have what it is
    /// within, several have it, or somebody did not answer. The store does not answer.
    pub async fn moved(
        &self,
        mapping: &Mapping,
        wanted: &Wanted<'_>,
        read: &Query,
        querier: &Querier,
    ) -> Result<Option<Place>> {
        let resource = &mapping.resource;
        if wanted.speaks.question(resource).is_some() {
            return match self.found_again(resource, wanted, querier).await {
                Err(error) if matches!(error.kind(), ErrorKind::CouldNotAsk | ErrorKind::Ambiguous) => {
                    Ok(None)
                }
                found => found,
            };
        }
        let Some(homes) = self.homes(resource, wanted, querier).await? else { return Ok(None) };
        let others: Vec<ProviderId> = homes.into_iter().filter(|id| *id != mapping.provider).collect();
        if others.is_empty() {
            return Err(Error::unknown_resource(resource));
        }
        flood::ask_those(resource, others, read, wanted.speaks, querier).await.map(Some)
    }

    /// Who may have what a resource is within: those whose indexes know it, else whoever a search finds.
    /// `None`: nobody can tell.
    async fn homes(
        &self,
        resource: &Resource,
        wanted: &Wanted<'_>,
        querier: &Querier,
    ) -> Result<Option<Vec<ProviderId>>> {
        let running = &querier.running;
        let is_there = |id: &ProviderId| running.find(id).is_some() || running.is_left_out(id);
        let listed = wanted.hints.iter().map(|hint| {
            let knowing = self.index.knowing(hint).into_iter();
            knowing.filter(is_there).collect::<Vec<ProviderId>>()
        });
        if let Some(listed) = listed.into_iter().find(|listed| !listed.is_empty()) {
            return Ok(listed.iter().all(|id| wanted.sight.sees(id)).then_some(listed));
        }
        let mut wider = wanted.resources.iter().skip_while(|named| *named != resource).skip(1);
        let askable = wider.find(|named| wanted.speaks.question(named).is_some());
        let Some(parent) = askable.filter(|_| wanted.sight.is_whole(running, wanted.dialect)) else {
            return Ok(None);
        };
        match self.found_again(parent, wanted, querier).await {
            Ok(Some(place)) if place.by == By::PartialFlood => Ok(None),
            Ok(Some(place)) => Ok(Some(vec![place.provider.id().clone()])),
            Ok(None) => {
                let known = self.mappings.get(parent).await.map_err(Error::from)?;
                let known = known.filter(|known| known.state != MappingState::Gone);
                Ok(known.map(|known| vec![known.provider.clone()]))
            }
            Err(error) => match error.kind() {
                ErrorKind::UnknownResource => Ok(Some(Vec::new())),
                ErrorKind::Ambiguous => Ok(Some(error.candidates().to_vec())),
                ErrorKind::CouldNotAsk => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Searches for a resource and corrects its mapping. At most once per resource and negative-cache period, and only for
    /// callers that see everybody who could know.
    async fn found_again(
        &self,
        resource: &Resource,
        wanted: &Wanted<'_>,
        querier: &Querier,
    ) -> Result<Option<Place>> {
        let (running, dialect) = (&querier.running, wanted.dialect);
        if !running.config.resolve.search
            || !wanted.sight.is_whole(running, dialect)
            || !self.floods.may_ask_again(resource)
        {
            return Ok(None);
        }
        let place = self.floods.find(resource, dialect, wanted.sight, querier).await?;
        let known = self.mappings.get(resource).await.map_err(Error::from)?;
        let id = place.provider.id();
        if place.by == By::Flood && known.is_none_or(|known| known.provider != *id) {
            let found = Mapping::learned(resource.clone(), id.clone(), Timestamp::now());
            self.mappings.apply(vec![Write::Put(found)]).await.map_err(Error::from)?;
        }
        Ok(Some(place))
    }
}
