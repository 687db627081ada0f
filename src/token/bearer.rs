//! `bearer`: a fixed token of standpipe's own at the provider (RFC 6750).

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problems, Result, Secrets, Settings,
};
use zeroize::Zeroizing;

use super::follow::Live;

/// The `bearer` strategy.
pub(super) struct Bearer;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    token: String,
}

struct Own(Arc<Live<HeaderValue>>);

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
        let field = |token: &SecretString| {
            let field = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            let wrong = |_| "holds characters that do not fit a header field".to_owned();
            HeaderValue::from_str(&field).map_err(wrong)
        };
        Ok(Arc::new(Own(Live::of("token", &keys.token, secrets, field)?)))
    }
}

#[async_trait(?Send)]
impl CredentialSource for Own {
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        Some(Credential::authorization(HeaderValue::clone(&self.0.get())))
    }

    async fn obtain(&self, _request: &CredentialRequest<'_>) -> Result<Credential> {
        Ok(Credential::authorization(HeaderValue::clone(&self.0.get())))
    }
}
