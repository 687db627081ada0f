//! Mappings in memory, in front of the store: what a plain forward reads.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;
use standpipe_api::{Mapping, Resource, Timestamp};
use tokio::sync::Notify;

use super::{Claim, Imported, Store, StoreError, Write};
use crate::single_flight::{Join, SingleFlight};

/// Locks that order loads and writes of one key; more than cores, so that they are rarely met.
const STRIPES: usize = 64;
/// Loads under way at once.
const LOADS: usize = 8192;

type Row = Option<Arc<Mapping>>;

/// The mapping table as calls see it. Absence is remembered too. Shared by all cores.
pub struct Mappings {
    store: Arc<dyn Store>,
    inner: Arc<Inner>,
    loads: SingleFlight<Resource, Result<Row, Arc<StoreError>>>,
    hits: AtomicU64,
    misses: AtomicU64,
    scheduled: Arc<Notify>,
}

struct Inner {
    rows: Cache<Resource, Row>,
    /// Counts the writes of a stripe's keys. A load that began before a write must not end after it.
    writes: Vec<Mutex<u64>>,
    hasher: RandomState,
}

impl Inner {
    fn stripe(&self, resource: &Resource) -> Option<&Mutex<u64>> {
        let at = self.hasher.hash_one(resource) % STRIPES as u64;
        usize::try_from(at).ok().and_then(|at| self.writes.get(at))
    }

    fn writes(&self, resource: &Resource) -> u64 {
        self.stripe(resource).map_or(0, |stripe| *stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what a load found, unless the key was written since the load began.
    fn loaded(&self, resource: &Resource, row: Row, since: u64) {
        let Some(stripe) = self.stripe(resource) else { return };
        let writes = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        if *writes == since {
            self.rows.insert(resource.clone(), row);
        }
    }

    /// Drops what is known of a key, because it was written.
    fn written(&self, resource: &Resource) {
        let Some(stripe) = self.stripe(resource) else { return };
        let mut writes = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        *writes += 1;
        self.rows.invalidate(resource);
    }
}

impl Mappings {
    /// At most `capacity` rows of a store in memory.
    pub fn new(store: Arc<dyn Store>, capacity: u64) -> Self {
        let inner = Inner {
            rows: Cache::new(capacity),
            writes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        };
        let (hits, misses) = (AtomicU64::new(0), AtomicU64::new(0));
        let scheduled = Arc::new(Notify::new());
        Self { store, inner: Arc::new(inner), loads: SingleFlight::new(LOADS), hits, misses, scheduled }
    }

    /// The store behind.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What memory knows of a resource: nothing (`None`), that there is no row, or the row.
    pub fn peek(&self, resource: &Resource) -> Option<Row> {
        let row = self.inner.rows.get(resource)?;
        let expired =
            row.as_ref().is_some_and(|row| row.expires_at.is_some() && !row.is_current(Timestamp::now()));
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(if expired { None } else { row })
    }

    /// The current row of a resource.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get(&self, resource: &Resource) -> Result<Row, StoreError> {
        if let Some(row) = self.peek(resource) {
            return Ok(row);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let wait = match self.loads.join(resource) {
            Join::Lead(lead, wait) => {
                let (store, inner, resource) = (self.store.clone(), self.inner.clone(), resource.clone());
                tokio::spawn(async move {
                    let since = inner.writes(&resource);
                    let row = store.mapping(&resource).await.map(|row| row.map(Arc::new)).map_err(Arc::new);
                    if let Ok(row) = &row {
                        inner.loaded(&resource, row.clone(), since);
                    }
                    lead.tell(row);
                });
                wait
            }
            Join::Follow(wait) => wait,
            Join::Full => return Err(StoreError::Unavailable("overloaded: too many lookups wait")),
        };
        match wait.value().await {
            Some(Ok(row)) => Ok(row),
            Some(Err(error)) => Err(StoreError::Commit(error.to_string())),
            None => Err(StoreError::Unavailable("closed")),
        }
    }

    /// As [`Store::claim`].
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn claim(&self, mapping: Mapping) -> Result<Claim, StoreError> {
        let resource = mapping.resource.clone();
        let claimed = self.store.claim(mapping).await;
        self.inner.written(&resource);
        claimed
    }

    /// As [`Store::apply`].
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let resources: Vec<Resource> = writes.iter().map(|write| write.resource().clone()).collect();
        let applied = self.store.apply(writes).await;
        resources.iter().for_each(|resource| self.inner.written(resource));
        applied
    }

    /// As [`Store::import`].
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError> {
        let resources: Vec<Resource> = rows.iter().map(|row| row.resource.clone()).collect();
        let imported = self.store.import(rows).await;
        resources.iter().for_each(|resource| self.inner.written(resource));
        imported
    }

    /// Drops what is known of a resource, because it was written by another way.
    pub fn written(&self, resource: &Resource) {
        self.inner.written(resource);
    }

    /// Rings when a job was scheduled.
    pub fn scheduled(&self) -> &Arc<Notify> {
        &self.scheduled
    }

    /// Lookups answered from memory, and those that asked the store.
    pub fn lookups(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}
