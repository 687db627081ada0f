//! Step 4: resource to provider. What a request names goes in, one provider comes out, or an error that says
//! why there is not exactly one.
//!
//! Order: pinned by path or header; a live or tombstoned mapping; a hint that one provider's index knows; the
//! only provider of the dialect; asking all of them. This step sends nothing but safe questions, and never
//! says "does not exist" unless everybody who could know was asked.

mod flood;
mod index;

use std::sync::Arc;

use standpipe_api::{
    CredentialAlias, Dialect, Error, ErrorKind, Fault, Hint, Mapping, MappingState, ProviderId, RemoteScope,
    Resource, Result, Target, Timestamp,
};

pub use self::flood::Floods;
pub use self::index::Index;
use crate::engine::Running;
use crate::providers::Provider;
use crate::query::Querier;
use crate::route::DialectId;
use crate::store::{Mappings, Write};

/// What is to be found.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The dialect of the face.
    pub dialect: DialectId,
    /// The resources the request names, most specific first.
    pub resources: &'a [Resource],
    /// The one it brings into being, which nobody can be asked for yet.
    pub creates: Option<&'a Resource>,
    /// Ids that an index may know.
    pub hints: &'a [Hint],
    /// The provider the caller chose.
    pub pinned: Option<&'a ProviderId>,
}

/// Where a request goes.
#[derive(Clone)]
pub struct Place {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The base URL, when it is not the one the dialect makes.
    pub endpoint: Option<String>,
    /// The scope inside the provider.
    pub remote_scope: Option<RemoteScope>,
    /// The credential the resource was created with.
    pub credential: Option<CredentialAlias>,
    /// The mapping that was followed.
    pub mapping: Option<Arc<Mapping>>,
    /// How it was found.
    pub by: By,
}

/// How a provider was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The caller chose it, by path or header.
    Pinned,
    /// An extension chose it.
    TakenOver,
    /// A mapping names it.
    Mapped,
    /// Its index knows an id of the request.
    Index,
    /// There is no other of its dialect.
    Only,
    /// Searching is off, and it is the local one.
    Local,
    /// It alone said yes.
    Flood,
}

impl By {
    /// The word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::TakenOver => "extension",
            Self::Mapped => "mapped",
            Self::Index => "index",
            Self::Only => "only",
            Self::Local => "local",
            Self::Flood => "flood",
        }
    }
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
    /// The mapping's provider is not configured.
    pub fn remembered(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Place>> {
        for resource in wanted.resources {
            match self.mappings.peek(resource) {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(mapping)) => {
                    if let Some(place) = place(resource, mapping, wanted, running)? {
                        return Ok(Some(place));
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
        for resource in wanted.resources {
            if let Some(place) = self.mapped(resource, wanted, running).await? {
                return Ok(Some(place));
            }
        }
        if let Some(provider) = self.indexed(wanted, running)? {
            return Ok(Some(Place::at(provider, By::Index)));
        }
        let mut speaking = running.speaking(wanted.dialect);
        match (speaking.next(), speaking.next()) {
            (Some(only), None) => Ok(Some(Place::at(only.clone(), By::Only))),
            (Some(_), Some(_)) => Ok(None),
            (None, _) => Err(Error::new(
                ErrorKind::CouldNotAsk,
                Fault::Proxy,
                "no provider is configured that could be asked",
            )
            .advise("an operator adds one with [[provider]] in the configuration")),
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
        let dialect = querier.engine.router.dialect(wanted.dialect);
        let Some(resource) = question_for(&**dialect, wanted) else {
            let all = running.speaking(wanted.dialect).map(|provider| provider.id().clone()).collect();
            return Err(Error::could_not_ask("a request that names no resource", all));
        };
        let provider = self.floods.find(resource, wanted.dialect, querier).await?;
        let found = Mapping::learned(resource.clone(), provider.id().clone(), Timestamp::now());
        self.mappings.apply(vec![Write::Put(found)]).await.map_err(Error::from)?;
        Ok(Place::at(provider, By::Flood))
    }

    /// Asks again where a resource is, because its mapped provider said that it has none of it.
    /// At most once per resource and negative-cache period.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn moved(
        &self,
        resource: &Resource,
        dialect: DialectId,
        querier: &Querier,
    ) -> Result<Option<Place>> {
        if !querier.running.config.resolve.search || !self.floods.may_ask_again(resource) {
            return Ok(None);
        }
        let provider = self.floods.find(resource, dialect, querier).await?;
        let known = self.mappings.get(resource).await.map_err(Error::from)?;
        if known.is_none_or(|known| known.provider != *provider.id()) {
            let found = Mapping::learned(resource.clone(), provider.id().clone(), Timestamp::now());
            self.mappings.apply(vec![Write::Put(found)]).await.map_err(Error::from)?;
        }
        Ok(Some(Place::at(provider, By::Flood)))
    }

    async fn pinned(&self, pin: &ProviderId, wanted: &Wanted<'_>, running: &Running) -> Result<Place> {
        let provider = running.provider(pin)?;
        if provider.dialect != wanted.dialect {
            return Err(Error::bad_request(format!("{pin} speaks another dialect than this path")));
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

    async fn mapped(
        &self,
        resource: &Resource,
        wanted: &Wanted<'_>,
        running: &Running,
    ) -> Result<Option<Place>> {
        let mapping = self.mappings.get(resource).await.map_err(Error::from)?;
        mapping.map_or(Ok(None), |mapping| place(resource, mapping, wanted, running))
    }

    fn indexed(&self, wanted: &Wanted<'_>, running: &Running) -> Result<Option<Arc<Provider>>> {
        for hint in wanted.hints {
            let knowing = self.index.knowing(hint);
            let mut configured = knowing.iter().filter_map(|id| running.find(id));
            match (configured.next(), configured.next()) {
                (None, _) => {}
                (Some(provider), None) => return Ok(Some(provider.clone())),
                (Some(_), Some(_)) => {
                    let resource = Resource::new(hint.kind.clone(), hint.value.clone());
                    return Err(Error::ambiguous(&resource, knowing.to_vec()));
                }
            }
        }
        Ok(None)
    }
}

impl Place {
    /// A provider, found somehow.
    pub fn at(provider: Arc<Provider>, by: By) -> Self {
        Self { provider, endpoint: None, remote_scope: None, credential: None, mapping: None, by }
    }

    fn follow(&mut self, mapping: Arc<Mapping>) {
        self.endpoint.clone_from(&mapping.endpoint);
        self.remote_scope.clone_from(&mapping.remote_scope);
        self.credential.clone_from(&mapping.credential);
        self.mapping = Some(mapping);
    }

    /// As extensions name it.
    pub fn target(&self) -> Target {
        Target {
            provider: self.provider.id().clone(),
            remote_scope: self.remote_scope.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

/// Where a mapping leads, if the request follows it.
fn place(
    resource: &Resource,
    mapping: Arc<Mapping>,
    wanted: &Wanted<'_>,
    running: &Running,
) -> Result<Option<Place>> {
    // A tombstone routes polls and repeated deletes; a new creation finds its own way.
    if mapping.state == MappingState::Gone && wanted.creates.is_some() {
        return Ok(None);
    }
    let Some(provider) = running.find(&mapping.provider) else {
        let public = format!("{resource} lives at {}, which is not configured", mapping.provider);
        let fault = Fault::Provider(mapping.provider.clone());
        return Err(Error::new(ErrorKind::CouldNotAsk, fault, public)
            .advise("an operator configures the provider again, or forgets the mapping"));
    };
    let mut place = Place::at(provider.clone(), By::Mapped);
    place.follow(mapping);
    Ok(Some(place))
}

/// The most specific resource that exists already and can be asked for.
fn question_for<'a>(dialect: &dyn Dialect, wanted: &Wanted<'a>) -> Option<&'a Resource> {
    let asked = wanted.resources.iter().filter(|resource| Some(*resource) != wanted.creates);
    asked.into_iter().find(|resource| dialect.question(resource).is_some())
}

fn local(wanted: &Wanted<'_>, running: &Running) -> Result<Place> {
    let local = running.speaking(wanted.dialect).find(|provider| provider.public.local);
    local.map(|provider| Place::at(provider.clone(), By::Local)).ok_or_else(|| {
        Error::new(
            ErrorKind::CouldNotAsk,
            Fault::Proxy,
            "the resource is not known, and searching is switched off",
        )
        .advise("choose a provider with the header Standpipe-Provider, or use /providers/{name}/...")
    })
}
