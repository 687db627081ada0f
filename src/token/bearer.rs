//! `bearer`: a fixed token of standpipe's own at the provider (RFC 6750).

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use secrecy::ExposeSecret as _;
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problem, Problems, Result, Secrets,
    Settings,
};
use zeroize::Zeroizing;

use super::secrets::resolve;

/// The `bearer` strategy.
pub(super) struct Bearer;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    token: String,
}

struct Fixed(HeaderValue);

impl CredentialStrategy for Bearer {
    fn kind(&self) -> &'static str {
        "bearer"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let keys: Keys = Settings::read(table)?;
        let token = resolve("token", &keys.token, secrets)?;
        let field = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let wrong = |_| vec![Problem::at("token", "holds characters that do not fit a header field")];
        Ok(Arc::new(Fixed(HeaderValue::from_str(&field).map_err(wrong)?)))
    }
}

#[async_trait(?Send)]
impl CredentialSource for Fixed {
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        Some(Credential::authorization(self.0.clone()))
    }

    async fn obtain(&self, _request: &CredentialRequest<'_>) -> Result<Credential> {
        Ok(Credential::authorization(self.0.clone()))
    }
}
