//! Records, mappings and jobs without a disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Change, Conflict, JobId, Mapping, NewJob, Record, Resource, Result, State};

/// Records in memory, with the same compare-and-set rules as the real store.
#[derive(Default)]
pub struct MemoryState(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    records: BTreeMap<String, Record>,
    mappings: BTreeMap<Resource, Mapping>,
    jobs: BTreeMap<crate::JobId, NewJob>,
    writes: u64,
}

impl MemoryState {
    pub(super) fn apply(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(change);
    }

    /// The mappings learned and not forgotten.
    pub fn mappings(&self) -> Vec<Mapping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).mappings.values().cloned().collect()
    }

    /// The jobs in the queue.
    pub fn jobs(&self) -> Vec<NewJob> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).jobs.values().cloned().collect()
    }
}

impl Memory {
    fn conflict(&self, change: &Change) -> Option<Conflict> {
        let (key, expected) = match change {
            Change::Put { key, expected, .. } => (key, *expected),
            Change::Remove { key, expected } => (key, Some(*expected)),
            Change::Learn(_) | Change::Forget(_) | Change::Schedule(_) | Change::Cancel(_) => return None,
        };
        let current = self.records.get(key).map(|record| record.revision);
        (current != expected).then(|| Conflict { key: key.clone() })
    }

    fn apply(&mut self, change: Change) {
        self.writes += 1;
        match change {
            Change::Put { key, value, .. } => {
                let record = Record { key: key.clone(), value, revision: self.writes };
                self.records.insert(key, record);
            }
            Change::Remove { key, .. } => drop(self.records.remove(&key)),
            Change::Learn(mapping) => drop(self.mappings.insert(mapping.resource.clone(), mapping)),
            Change::Forget(resource) => drop(self.mappings.remove(&resource)),
            Change::Schedule(job) => drop(self.jobs.insert(job.id.clone(), job)),
            Change::Cancel(job) => drop(self.jobs.remove(&job)),
        }
    }
}

#[async_trait]
impl State for MemoryState {
    async fn get(&self, key: &str) -> Result<Option<Record>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).records.get(key).cloned())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = memory.records.range(prefix.to_owned()..);
        let group = from.take_while(|(key, _)| key.starts_with(prefix));
        let rest = group.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        Ok(rest.take(limit).map(|(_, record)| record.clone()).collect())
    }

    async fn waits(&self, id: &JobId) -> Result<bool> {
        Ok(self.jobs().iter().any(|job| job.id == *id))
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Result<(), Conflict>> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(conflict) = changes.iter().find_map(|change| memory.conflict(change)) {
            return Ok(Err(conflict));
        }
        changes.into_iter().for_each(|change| memory.apply(change));
        Ok(Ok(()))
    }
}
