//! `passthrough`: the caller's own `Authorization` travels on. Such a provider is never asked in a search
//! together with others, because one provider's password must not visit the next.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    CallerAuthorization, Credential, CredentialRequest, CredentialSource, CredentialStrategy, Error,
    ErrorKind, Fault, Problems, Result, Secrets, Settings,
};

/// The `passthrough` strategy.
pub(super) struct Passthrough;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoKeys {}

impl CredentialStrategy for Passthrough {
    fn kind(&self) -> &'static str {
        "passthrough"
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
impl CredentialSource for Passthrough {
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        let passed = Credential { authorization: CallerAuthorization::PassedOn, ..Credential::none() };
        request.caller.map(|_| passed)
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let fault = Fault::Provider(request.provider.clone());
        let public =
            format!("{} takes only its callers' own credentials, and nobody is calling", request.provider);
        Err(Error::new(ErrorKind::CouldNotAsk, fault, public))
    }

    fn is_unattended(&self) -> bool {
        false
    }
}
