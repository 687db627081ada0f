//! What other extensions bring into the lists: resources that no cloudpipe provider has.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Federation, Provider, ProviderId, ResourceId, Result};

use super::filter::Filter;
use super::{Aggregate, Missing, Part, Wanted};

/// Whether a list is wanted.
pub type Takes<'a> = dyn Fn(&ProviderId, &ResourceId) -> bool + 'a;

/// Brings blueprints and pipes of resources that no cloudpipe provider has.
#[async_trait(?Send)]
pub trait Besides: Send + Sync + 'static {
    /// The lists of a side (`offers`, `needs`, `pipes`) of the resources that are taken, as far as the caller may see them, and
    /// the providers whose lists are missing.
    ///
    /// # Errors
    /// The store does not answer.
    async fn list(
        &self,
        fed: &dyn Federation,
        side: &str,
        takes: &Takes<'_>,
    ) -> Result<(Vec<Listed>, Vec<ProviderId>)>;
}

/// The list of one resource.
pub struct Listed {
    /// The provider it is at.
    pub provider: Provider,
    /// Its place among the caller's providers.
    pub at: usize,
    /// The resource.
    pub resource: ResourceId,
    /// What the list holds.
    pub items: Vec<Map<String, Value>>,
}

impl Aggregate {
    /// What others bring, from memory: at once and whole.
    pub(super) async fn brought(
        &self,
        fed: &dyn Federation,
        side: &'static str,
        filter: &Filter,
        left_out: &mut Vec<(ProviderId, Missing)>,
    ) -> Result<Vec<Part>> {
        let pinned = fed.pinned();
        let chosen = filter.provider.as_deref().or(pinned.as_ref().map(ProviderId::as_str));
        let is_chosen = |id: &ProviderId| chosen.is_none_or(|chosen| chosen == id.as_str());
        let takes = |id: &ProviderId, resource: &ResourceId| {
            is_chosen(id) && filter.takes_resource(resource.as_str())
        };
        let mut parts = Vec::new();
        for besides in &self.besides {
            let (lists, missing) = besides.list(fed, side, &takes).await?;
            let unknown = |provider| (provider, Missing { reason: "unreachable", stale: None });
            left_out.extend(missing.into_iter().filter(|id| is_chosen(id)).map(unknown));
            parts.extend(lists.into_iter().map(|Listed { provider, at, resource, items }| Part {
                wanted: Wanted { provider, at, resource, side },
                items: Arc::new(items),
                missing: None,
            }));
        }
        Ok(parts)
    }
}
