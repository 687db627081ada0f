//! The cache in front of the store: a bounded copy of rows, and of their absence, shared by all cores.
//!
//! The store is the truth and tells the cache, in the order of its commits, what changed. A change empties the
//! row's slot and disowns a load that is under way, so that whoever read the row before the change can no longer
//! put it back. The next reader loads what is true.

mod lists;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use moka::sync::Cache;
use standpipe_api::{Kind, Mapping, ProviderId, Resource, Timestamp};
use tokio::sync::Notify;

use self::lists::Lists;
use super::{Claim, Imported, Observer, Store, StoreError, Write};
use crate::single_flight::{Join, SingleFlight};

/// Loads under way at once.
const LOADS: usize = 8192;
/// A load is tried anew when the core that ran it has stopped; more often than this something else is wrong.
const ATTEMPTS: usize = 3;

type Row = Option<Arc<Mapping>>;

/// Mappings by resource: from memory if possible, else from the store. One for the whole process.
pub struct Mappings {
    store: Arc<dyn Store>,
    copies: Arc<Copies>,
    hits: AtomicU64,
    misses: AtomicU64,
    scheduled: Arc<Notify>,
}

/// What is in memory, or on its way there.
struct Copies {
    /// Ids come from strangers: the hash is keyed, and cheaper than the standard one.
    rows: Cache<Resource, Row, RandomState>,
    loads: SingleFlight<Resource, Result<Row, StoreError>>,
    lists: Lists,
}

impl Mappings {
    /// A cache of at most `entries` rows (absent ones count) over a store.
    pub fn new(store: Arc<dyn Store>, entries: u64) -> Self {
        let rows = Cache::builder().max_capacity(entries).build_with_hasher(RandomState::new());
        let copies = Arc::new(Copies { rows, loads: SingleFlight::new(LOADS), lists: Lists::default() });
        let observer: Arc<dyn Observer> = copies.clone();
        store.observe(Arc::downgrade(&observer));
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { store, copies, hits, misses, scheduled: Arc::default() }
    }

    /// What is in memory: `None` if nothing is known, `Some(None)` if there is no row.
    pub fn peek(&self, resource: &Resource) -> Option<Option<Arc<Mapping>>> {
        let row = self.copies.rows.get(resource)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(row.filter(is_current))
    }

    /// The row of a resource, loaded if it is not in memory. Many callers at once cause one load, which runs in a task
    /// of its own: a caller that leaves does not end it (decision 18).
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get(&self, resource: &Resource) -> Result<Option<Arc<Mapping>>, StoreError> {
        if let Some(row) = self.peek(resource) {
            return Ok(row);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        for _ in 0..ATTEMPTS {
            let wait = match self.copies.loads.join(resource) {
                Join::Lead(lead, wait) => {
                    let (store, copies, resource) =
                        (self.store.clone(), self.copies.clone(), resource.clone());
                    tokio::spawn(async move {
                        let loaded = store.mapping(&resource).await.map(|row| row.map(Arc::new));
                        lead.tell_and_keep(loaded, |loaded| copies.keep(resource, loaded));
                    });
                    wait
                }
                Join::Follow(wait) => wait,
                Join::Full => return Err(StoreError::Overloaded { limit: LOADS }),
            };
            if let Some(loaded) = wait.value().await {
                return Ok(loaded?.filter(is_current));
            }
        }
        Err(StoreError::Closed)
    }

    /// Rows of a kind at a provider, tombstones and expired ones among them, at most `most`, in the order of their keys.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn at(
        &self,
        provider: &ProviderId,
        kind: &Kind,
        most: usize,
    ) -> Result<Arc<[Mapping]>, StoreError> {
        self.copies.lists.of(&*self.store, provider, kind, most).await
    }

    /// Claims a resource; see [`Store::claim`].
    ///
    /// # Errors
    /// The store does not answer; the claim may yet be written.
    pub async fn claim(&self, mapping: Mapping, quota: Option<u32>) -> Result<Claim, StoreError> {
        self.store.claim(mapping, quota).await
    }

    /// Writes in one durable transaction; see [`Store::apply`].
    ///
    /// # Errors
    /// The store does not answer; the writes may yet happen.
    pub async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.store.apply(writes).await
    }

    /// Imports rows; see [`Store::import`].
    ///
    /// # Errors
    /// The store does not answer; the rows may yet be written.
    pub async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError> {
        self.store.import(rows).await
    }

    /// The store behind the cache. Writing there directly is safe: the cache hears of it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Rings when a job was scheduled.
    pub fn scheduled(&self) -> &Arc<Notify> {
        &self.scheduled
    }

    /// Lookups answered from memory, and those that asked the store or waited for one that did.
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

impl Copies {
    fn keep(&self, resource: Resource, loaded: &Result<Row, StoreError>) {
        if let Ok(row) = loaded {
            self.rows.insert(resource, row.clone());
        }
    }
}

impl Observer for Copies {
    fn changed(&self, resources: &[Resource]) {
        self.lists.changed(resources);
        for resource in resources {
            // In this order: a load has either filled the slot already, which is now emptied, or will not.
            self.loads.disown(resource);
            self.rows.invalidate(resource);
        }
    }
}

/// The clock is read only for rows that end.
fn is_current(mapping: &Arc<Mapping>) -> bool {
    mapping.expires_at.is_none() || mapping.is_current(Timestamp::now())
}

#[cfg(test)]
mod tests;
