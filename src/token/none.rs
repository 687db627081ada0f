//! `none`: the provider wants no credential.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problems, Result, Secrets, Settings,
};

/// The `none` strategy.
pub(super) struct None;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

impl CredentialStrategy for None {
    fn kind(&self) -> &'static str {
        "none"
    }

    fn source(
        &self,
        table: &toml::Table,
        _secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        Settings::read::<NoKeys>(table)?;
        Ok(Arc::new(Self))
    }
}

#[async_trait(?Send)]
impl CredentialSource for None {
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        Some(Credential::none())
    }

    async fn obtain(&self, _request: &CredentialRequest<'_>) -> Result<Credential> {
        Ok(Credential::none())
    }
}
