//! Records, mappings and jobs without a disk.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;

use crate::{
    Change, Conflict, Event, EventPage, JobId, Kind, Mapping, MappingState, NewJob, Outdated, Record,
    Resource, ResourceId, Result, State, Timestamp,
};

/// Records in memory, with the same compare-and-set rules as the real store.
#[derive(Default)]
pub struct MemoryState(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    records: BTreeMap<String, Record>,
    mappings: BTreeMap<Resource, Mapping>,
    jobs: BTreeMap<crate::JobId, NewJob>,
    writes: u64,
    /// Their revisions are their places, from 1.
    events: Vec<Event>,
    following: Vec<Waker>,
}

impl MemoryState {
    pub(super) fn apply(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(change);
    }

    /// The mappings learned and not forgotten.
    pub fn mappings(&self) -> Vec<Mapping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).mappings.values().cloned().collect()
    }

    /// The events written, in order.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    pub(super) fn page(&self, after: u64, limit: usize) -> Result<EventPage, Outdated> {
        let events = self.events();
        let last = events.len() as u64;
        if after > last {
            return Err(Outdated { oldest: 1, last });
        }
        let page: Vec<Event> =
            events.into_iter().filter(|event| event.revision > after).take(limit).collect();
        Ok(EventPage { next: page.last().map_or(after, |event| event.revision), events: page, oldest: 1 })
    }

    pub(super) fn poll_behind(&self, revision: u64, cx: &Context<'_>) -> Poll<()> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.events.len() as u64 > revision {
            return Poll::Ready(());
        }
        memory.following.push(cx.waker().clone());
        Poll::Pending
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
            Change::Learn(_)
            | Change::Claim(..)
            | Change::Unclaim(_)
            | Change::Forget(_)
            | Change::Move(..)
            | Change::Hint(..)
            | Change::Schedule(_)
            | Change::Cancel(_)
            | Change::Event(_) => return None,
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
            // Nobody has a quota here.
            Change::Claim(mapping, _) => {
                self.mappings.entry(mapping.resource.clone()).or_insert(mapping);
            }
            Change::Unclaim(resource) => {
                self.mappings.retain(|known, row| *known != resource || row.state != MappingState::Intent);
            }
            Change::Forget(resource) => drop(self.mappings.remove(&resource)),
            Change::Move(resource, provider, MappingState::Gone) => {
                if self.mappings.get(&resource).is_some_and(|mapping| mapping.provider == provider) {
                    self.mappings.remove(&resource);
                }
            }
            Change::Move(resource, provider, state) => {
                if let Some(mapping) = self.mappings.get_mut(&resource)
                    && mapping.provider == provider
                {
                    mapping.state = state;
                }
            }
            Change::Hint(resource, provider, hints) => {
                let known = self.mappings.get_mut(&resource).filter(|mapping| mapping.provider == provider);
                known.into_iter().for_each(|mapping| mapping.hints.clone_from(&hints));
            }
            Change::Schedule(job) => drop(self.jobs.insert(job.id.clone(), job)),
            Change::Cancel(job) => drop(self.jobs.remove(&job)),
            Change::Event(event) => {
                let revision = self.events.len() as u64 + 1;
                self.events.push(event.written(revision, Timestamp::now()));
                self.following.drain(..).for_each(Waker::wake);
            }
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

    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>> {
        Ok(self.mappings().into_iter().find(|mapping| mapping.resource == *resource))
    }

    async fn within(
        &self,
        kind: &Kind,
        parent: &ResourceId,
        after: Option<&Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>> {
        let is_within = |mapping: &Mapping| {
            let resource = &mapping.resource;
            let follows = after.is_none_or(|after| resource > after);
            resource.kind == *kind && resource.parent.as_ref() == Some(parent) && follows
        };
        Ok(self.mappings().into_iter().filter(is_within).take(limit).collect())
    }

    async fn purge(&self, kind: &Kind, before: Timestamp, limit: usize) -> Result<usize> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |row: &&Mapping| {
            row.state == MappingState::Gone && row.resource.kind == *kind && row.updated_at < before
        };
        let old: Vec<Resource> =
            memory.mappings.values().filter(old).take(limit).map(|row| row.resource.clone()).collect();
        old.iter().for_each(|resource| drop(memory.mappings.remove(resource)));
        Ok(old.len())
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
