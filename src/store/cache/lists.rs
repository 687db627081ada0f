//! Mappings of one kind at one provider, remembered until one of that kind changes anywhere. A list over many brokers asks for
//! them of each, and they hardly ever change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;
use standpipe_api::{Kind, Mapping, ProviderId, Resource};

use super::super::{Filter, Store, StoreError};

/// Rows remembered in all lists together; the lists not used for longest go first.
const ROWS: u64 = 200_000;

type Key = (ProviderId, Kind, usize);

/// The lists, each with the count of changes it was read at.
pub(super) struct Lists {
    read: Cache<Key, (u64, Arc<[Mapping]>)>,
    changes: Mutex<HashMap<Kind, u64>>,
}

impl Default for Lists {
    fn default() -> Self {
        let weigh =
            |_: &Key, (_, rows): &(u64, Arc<[Mapping]>)| u32::try_from(rows.len()).unwrap_or(u32::MAX).max(1);
        Self { read: Cache::builder().max_capacity(ROWS).weigher(weigh).build(), changes: Mutex::default() }
    }
}

impl Lists {
    /// Notes changes, on a thread of the store, before whoever made them is told.
    pub(super) fn changed(&self, resources: &[Resource]) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        for resource in resources {
            match changes.get_mut(&resource.kind) {
                Some(count) => *count += 1,
                None => drop(changes.insert(resource.kind.clone(), 1)),
            }
        }
    }

    /// At most `most` rows, in the order of the store.
    pub(super) async fn of(
        &self,
        store: &dyn Store,
        provider: &ProviderId,
        kind: &Kind,
        most: usize,
    ) -> Result<Arc<[Mapping]>, StoreError> {
        let key = (provider.clone(), kind.clone(), most);
        // Counted before it is read: a change meanwhile makes the list old, and not the other way round.
        let now = self.changes.lock().unwrap_or_else(PoisonError::into_inner).get(kind).copied().unwrap_or(0);
        if let Some((then, rows)) = self.read.get(&key)
            && then == now
        {
            return Ok(rows);
        }
        let (provider, kind) = (Some(provider.clone()), Some(kind.clone()));
        let rows: Arc<[Mapping]> =
            store.scan(Filter { provider, kind, ..Filter::default() }, None, most).await?.into();
        self.read.insert(key, (now, rows.clone()));
        Ok(rows)
    }
}
