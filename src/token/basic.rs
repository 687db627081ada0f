//! `basic`: a name and a password of standpipe's own at the provider (RFC 7617).

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problem, Problems, Result, Secrets,
    Settings,
};
use zeroize::Zeroizing;

use super::follow::Live;

/// The `basic` strategy.
pub(super) struct Basic;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    username: String,
    password: String,
}

struct Own(Arc<Live<HeaderValue>>);

impl CredentialStrategy for Basic {
    fn kind(&self) -> &'static str {
        "basic"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let keys: Keys = Settings::read(table)?;
        if keys.username.contains(':') {
            return Err(vec![Problem::at("username", "must not hold a colon (RFC 7617)")]);
        }
        let reference = keys.password;
        let field = move |password: &SecretString| {
            let pair = Zeroizing::new(format!("{}:{}", keys.username, password.expose_secret()));
            let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
            HeaderValue::from_str(&field).map_err(|_| "does not fit a header field".to_owned())
        };
        Ok(Arc::new(Own(Live::of("password", &reference, secrets, field)?)))
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
