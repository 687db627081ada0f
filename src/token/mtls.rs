//! `mtls`: the provider's client certificate (`tls.certificate`) is the credential; the request carries nothing.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problem, Problems, Result, Secrets,
    Settings,
};

use crate::config::{self, At};

/// The word in `kind`.
const KIND: &str = "mtls";

/// The `mtls` strategy.
pub(super) struct Mtls;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

impl CredentialStrategy for Mtls {
    fn kind(&self) -> &'static str {
        KIND
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
impl CredentialSource for Mtls {
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        Some(Credential::none())
    }

    async fn obtain(&self, _request: &CredentialRequest<'_>) -> Result<Credential> {
        Ok(Credential::none())
    }
}

/// Whether a provider has the certificate that a credential of this kind needs.
pub(super) fn check(credential: &config::Credential, provider: &config::Provider) -> Option<Problem> {
    if credential.kind != KIND {
        return None;
    }
    let certified = provider.tls.as_ref().is_some_and(|tls| tls.client.is_some());
    match &provider.at {
        At::Url(url) if !url.starts_with("https://") => {
            Some(Problem::at("kind", "`mtls` needs a provider with an https url"))
        }
        At::Url(_) if certified => None,
        At::Url(_) => {
            Some(Problem::at("kind", "`mtls` needs `tls.certificate` and `tls.key` at the provider"))
        }
        At::InProcess { .. } => Some(Problem::at("kind", "`mtls` is for providers with an https url")),
    }
}
