//! Records as extensions see them.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{Change, Conflict, Error, Record, Resource, Result, State};

use super::{Mappings, Namespace};

/// The records of one namespace.
#[derive(Clone)]
pub struct Records {
    mappings: Arc<Mappings>,
    namespace: Namespace,
}

impl Records {
    /// The records of a namespace. Mappings changed together with them pass by the cache.
    pub fn new(mappings: Arc<Mappings>, namespace: Namespace) -> Self {
        Self { mappings, namespace }
    }
}

#[async_trait]
impl State for Records {
    async fn get(&self, key: &str) -> Result<Option<Record>> {
        self.mappings.store().record(&self.namespace, key).await.map_err(Error::from)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        self.mappings.store().records(&self.namespace, prefix, after, limit).await.map_err(Error::from)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Result<(), Conflict>> {
        let resources: Vec<Resource> = changes.iter().filter_map(resource).cloned().collect();
        let schedules = changes.iter().any(|change| matches!(change, Change::Schedule(_)));
        let committed = self.mappings.store().commit(&self.namespace, changes).await;
        resources.iter().for_each(|resource| self.mappings.written(resource));
        if schedules {
            self.mappings.scheduled().notify_one();
        }
        committed.map_err(Error::from)
    }
}

fn resource(change: &Change) -> Option<&Resource> {
    match change {
        Change::Learn(mapping) => Some(&mapping.resource),
        Change::Forget(resource) => Some(resource),
        Change::Put { .. } | Change::Remove { .. } | Change::Schedule(_) | Change::Cancel(_) => None,
    }
}
