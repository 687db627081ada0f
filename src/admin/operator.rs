//! The mapping table as an operator reads and writes it: checked, in pages, in bounded memory.
//!
//! The admin listener and the command line share it, so that a row is good in one exactly if it is good in
//! the other.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use standpipe_api::{
    CallerId, CredentialAlias, Error, Mapping, MappingState, Origin, ProviderId, RemoteScope, Resource,
    Result, Timestamp,
};
use tokio::time::timeout;

use super::table::{Filter, Imported, KnownEndpoints, MappingTable};

/// Rows read or written at once.
pub(super) const BATCH: usize = 500;

/// How long the store may take over one batch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest id that can be written, in bytes.
const ID_LIMIT: usize = 4096;

/// What an operator says about a resource; the rest of the mapping follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingValue {
    /// Where it lives.
    pub provider: ProviderId,
    /// The base URL it answers under, when that is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The scope inside the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_scope: Option<RemoteScope>,
    /// The credential to use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialAlias>,
    /// The caller it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<CallerId>,
    /// When the mapping stops being used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl MappingValue {
    /// The live mapping of a resource that has this value.
    pub fn of(self, resource: Resource) -> Mapping {
        Mapping {
            endpoint: self.endpoint,
            remote_scope: self.remote_scope,
            credential: self.credential,
            owner: self.owner,
            expires_at: self.expires_at,
            ..Mapping::learned(resource, self.provider, Timestamp::now())
        }
    }
}

/// The table, behind the checks.
pub struct OperatorMappings {
    table: Arc<dyn MappingTable>,
    known: Arc<dyn KnownEndpoints>,
}

impl OperatorMappings {
    /// Puts the checks in front of a table.
    pub fn new(table: Arc<dyn MappingTable>, known: Arc<dyn KnownEndpoints>) -> Self {
        Self { table, known }
    }

    /// All rows that match, page by page.
    pub fn rows(self: &Arc<Self>, filter: Filter) -> Rows {
        Rows { mappings: self.clone(), filter, after: None, left: usize::MAX, page: BATCH }
    }

    /// The mapping of a resource, current or not.
    ///
    /// # Errors
    /// The store does not answer in time.
    pub async fn get(&self, resource: &Resource) -> Result<Option<Mapping>> {
        in_time(self.table.get(resource)).await
    }

    /// Writes one mapping.
    ///
    /// # Errors
    /// The row breaks a rule, a row of another origin is there, the store does not answer in time.
    pub async fn set(&self, mapping: Mapping) -> Result<()> {
        let name = mapping.resource.to_string();
        // An import may hold what an extension wrote for itself; nobody writes that by hand.
        self.known.known_kind(&mapping.resource.kind).map_err(Error::invalid)?;
        let row = self.check(mapping).map_err(Error::invalid)?;
        match self.import(vec![row]).await?.first() {
            Some(Imported::Kept(origin)) => Err(Error::conflict(kept(*origin))
                .advise(format!("forget {name} first, if you are sure that nobody uses it"))),
            Some(Imported::Written) => Ok(()),
            None => Err(Error::internal("the store said nothing about the row")),
        }
    }

    /// Removes a mapping, so that the resource is searched for anew. `false`: there was none.
    ///
    /// # Errors
    /// The store does not answer in time.
    pub async fn forget(&self, resource: &Resource) -> Result<bool> {
        in_time(self.table.remove(resource)).await
    }

    /// A row as it may be written, or why it may not.
    pub(super) fn check(&self, mapping: Mapping) -> Result<Mapping, String> {
        let Resource { kind, parent, id, .. } = &mapping.resource;
        let parent = parent.as_ref().map_or("x", |parent| parent.as_str());
        for (what, text) in [("kind", kind.as_str()), ("parent", parent), ("id", id.as_str())] {
            if text.is_empty() || text.len() > ID_LIMIT {
                return Err(format!("{what}: must have 1 to {ID_LIMIT} bytes"));
            }
        }
        self.known.known_endpoint(&mapping.provider, mapping.endpoint.as_deref())?;
        // A creation under way belongs to the process that claimed it; elsewhere its end is unknown.
        let state = if mapping.state == MappingState::Intent { MappingState::Maybe } else { mapping.state };
        Ok(Mapping { state, origin: Origin::Imported, peer: None, updated_at: Timestamp::now(), ..mapping })
    }

    /// Writes checked rows in one transaction.
    pub(super) async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>> {
        in_time(self.table.import(rows)).await
    }

    /// Asks whether the store works.
    pub(super) async fn probe(&self) -> Result<()> {
        self.table.probe().await
    }
}

/// Why a row was not written.
pub(super) fn kept(origin: Origin) -> String {
    format!("a mapping of origin {} is there and is not replaced", origin.as_str())
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|late| Err(Error::store(late)))
}

/// A walk through the table that holds one page at a time.
pub struct Rows {
    mappings: Arc<OperatorMappings>,
    filter: Filter,
    after: Option<Resource>,
    left: usize,
    page: usize,
}

impl Rows {
    /// Begins behind a key.
    #[must_use]
    pub fn after(mut self, key: Option<Resource>) -> Self {
        self.after = key;
        self
    }

    /// Ends after so many rows.
    #[must_use]
    pub fn at_most(mut self, rows: usize) -> Self {
        self.left = rows;
        self
    }

    /// The next rows; empty at the end.
    ///
    /// # Errors
    /// The store does not answer in time.
    pub async fn next(&mut self) -> Result<Vec<Mapping>> {
        let wanted = self.left.min(self.page);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let page = in_time(self.mappings.table.page(&self.filter, self.after.as_ref(), wanted)).await?;
        self.left = if page.len() < wanted { 0 } else { self.left - wanted };
        if let Some(last) = page.last() {
            self.after = Some(last.resource.clone());
        }
        Ok(page)
    }

    /// The key behind which the next page would begin; `None` when there are no more rows.
    ///
    /// # Errors
    /// The store does not answer in time.
    pub async fn more_behind(&self, last: &Resource) -> Result<Option<Resource>> {
        let next = in_time(self.mappings.table.page(&self.filter, Some(last), 1)).await?;
        Ok((!next.is_empty()).then(|| last.clone()))
    }
}
