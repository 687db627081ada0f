//! What an operator's commands need of the mapping table and of the configuration.

use async_trait::async_trait;
use standpipe_api::{Error, Kind, Mapping, ProviderId, Resource, Result};

pub use crate::store::{Filter, Imported};
use crate::store::{Mappings, Write};

/// The resource mapping table: over the cores' cache while serving, over the file otherwise.
#[async_trait]
pub trait MappingTable: Send + Sync + 'static {
    /// Up to `limit` rows that match, behind the key `after`, in one fixed order of keys. Fewer than `limit`
    /// means that there are no more.
    ///
    /// # Errors
    /// The store does not answer.
    async fn page(&self, filter: &Filter, after: Option<&Resource>, limit: usize) -> Result<Vec<Mapping>>;

    /// The row of a resource, expired or not.
    ///
    /// # Errors
    /// The store does not answer.
    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>>;

    /// Writes rows of origin `imported` in one transaction, durable on return; one answer per row, in order. A row
    /// that exists with another origin and is no tombstone stays.
    ///
    /// # Errors
    /// The store does not answer; nothing is written then.
    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>>;

    /// Removes the row itself, without a tombstone, so that the resource is searched for anew. `false`: there was none.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remove(&self, resource: &Resource) -> Result<bool>;

    /// Asks whether the store reads and writes.
    ///
    /// # Errors
    /// It does not.
    async fn probe(&self) -> Result<()>;
}

/// What a row may name: where credentials may be sent, and what is ever asked for.
pub trait KnownEndpoints: Send + Sync + 'static {
    /// Whether the provider is configured and the endpoint lies under one of its bases.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String>;

    /// Whether a dialect has resources of this kind.
    ///
    /// # Errors
    /// Why not, as a sentence.
    fn known_kind(&self, kind: &Kind) -> Result<(), String>;
}

#[async_trait]
impl MappingTable for Mappings {
    async fn page(&self, filter: &Filter, after: Option<&Resource>, limit: usize) -> Result<Vec<Mapping>> {
        self.store().scan(filter.clone(), after.cloned(), limit).await.map_err(Error::from)
    }

    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>> {
        self.store().mapping(resource).await.map_err(Error::from)
    }

    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>> {
        self.import(rows).await.map_err(Error::from)
    }

    async fn remove(&self, resource: &Resource) -> Result<bool> {
        let known = self.store().mapping(resource).await.map_err(Error::from)?.is_some();
        self.apply(vec![Write::Remove { resource: resource.clone() }]).await.map_err(Error::from)?;
        Ok(known)
    }

    async fn probe(&self) -> Result<()> {
        self.store().health().await.map_err(Error::from)
    }
}
