//! The records of one extension, as it sees them: the contract's `State` over a store and a namespace.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    Change, Conflict, JobId, Kind, Mapping, Record, Resource, ResourceId, Result, State, Timestamp,
};

use super::{Filter, Mappings, Namespace, Purge};

/// What an extension (or one provider it serves in process) keeps.
#[derive(Clone)]
pub struct Records {
    mappings: Arc<Mappings>,
    namespace: Namespace,
}

impl Records {
    /// The records of one namespace.
    pub fn new(mappings: Arc<Mappings>, namespace: Namespace) -> Self {
        Self { mappings, namespace }
    }
}

#[async_trait]
impl State for Records {
    async fn get(&self, key: &str) -> Result<Option<Record>> {
        Ok(self.mappings.store().record(&self.namespace, key).await?)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        Ok(self.mappings.store().records(&self.namespace, prefix, after, limit).await?)
    }

    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>> {
        Ok(self.mappings.get(resource).await?.map(|mapping| (*mapping).clone()))
    }

    async fn within(
        &self,
        kind: &Kind,
        parent: &ResourceId,
        after: Option<&Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>> {
        let (kind, parent) = (Some(kind.clone()), Some(parent.clone()));
        let filter = Filter { kind, parent, ..Filter::default() };
        Ok(self.mappings.store().scan(filter, after.cloned(), limit).await?)
    }

    async fn purge(&self, kind: &Kind, before: Timestamp, limit: usize) -> Result<usize> {
        Ok(self.mappings.store().purge(Purge::Tombstones { kind: kind.clone(), before }, limit).await?)
    }

    async fn waits(&self, id: &JobId) -> Result<bool> {
        Ok(self.mappings.store().job_waits(&self.namespace, id).await?)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Result<(), Conflict>> {
        let schedules = changes.iter().any(|change| matches!(change, Change::Schedule(_)));
        let committed = self.mappings.store().commit(&self.namespace, changes).await?;
        if schedules && committed.is_ok() {
            self.mappings.scheduled().notify_one();
        }
        Ok(committed)
    }
}
