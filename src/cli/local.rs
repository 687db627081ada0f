//! Mappings in the file itself, while no server holds it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{StreamExt, TryStreamExt};
use standpipe_api::{Mapping, Resource};

use super::mappings::{Failure, MappingAccess};
use super::source::Chunks;
use crate::admin::{
    Filter, Import, ImportReport, KnownEndpoints, MappingTable, MappingValue, OperatorMappings,
};

/// The open file, behind the same checks as the admin listener's.
pub struct LocalMappings(Arc<OperatorMappings>);

impl LocalMappings {
    /// Takes a table whose data directory this process has locked, and what the configuration says of providers.
    pub fn new(table: Arc<dyn MappingTable>, known: Arc<dyn KnownEndpoints>) -> Self {
        Self(Arc::new(OperatorMappings::new(table, known)))
    }
}

#[async_trait(?Send)]
impl MappingAccess for LocalMappings {
    async fn rows(
        &self,
        filter: Filter,
    ) -> Result<LocalBoxStream<'static, Result<Mapping, Failure>>, Failure> {
        let pages = stream::try_unfold(self.0.rows(filter), |mut rows| async move {
            let page = rows.next().await?;
            Ok::<_, Failure>((!page.is_empty()).then(|| (stream::iter(page).map(Ok), rows)))
        });
        Ok(pages.try_flatten().boxed_local())
    }

    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>, Failure> {
        Ok(self.0.get(resource).await?)
    }

    async fn set(&self, resource: Resource, value: MappingValue) -> Result<(), Failure> {
        Ok(self.0.set(value.of(resource)).await?)
    }

    async fn forget(&self, resource: &Resource) -> Result<bool, Failure> {
        Ok(self.0.forget(resource).await?)
    }

    async fn import(&self, mut chunks: Chunks) -> Result<ImportReport, Failure> {
        let mut import = Import::into(&self.0);
        while let Some(chunk) = chunks.recv().await {
            import.push(&chunk.map_err(Failure::Input)?).await?;
        }
        Ok(import.end().await?)
    }
}
