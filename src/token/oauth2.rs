//! `oauth2`: standpipe's own client credentials become a token (RFC 6749, section 4.4), one for all callers, renewed
//! ahead of its end whether or not anybody calls.

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Keeping, Problem, Problems, Result,
    Secrets,
};

use super::endpoint::{Form, TokenEndpoint};
use super::endpoint_keys::Keys;
use super::mappings::TokenMappings;

/// The `oauth2` strategy.
pub(super) struct OAuth2(pub(super) Arc<TokenMappings>);

struct ClientCredentials(TokenEndpoint);

impl CredentialStrategy for OAuth2 {
    fn kind(&self) -> &'static str {
        "oauth2"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let keys = Keys::read_plain(table)?;
        if !table.contains_key("client_secret") {
            return Err(vec![Problem::at("client_secret", "is missing: this grant is the client's own")]);
        }
        Ok(Arc::new(ClientCredentials(TokenEndpoint::new(&keys, secrets, &self.0)?)))
    }
}

#[async_trait(?Send)]
impl CredentialSource for ClientCredentials {
    fn keeping<'a>(&self, _request: &CredentialRequest<'a>) -> Keeping<'a> {
        Keeping::Everybody
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        // The grant is standpipe's own; whose call it is for is nobody's business there.
        let own = CredentialRequest { caller: None, head: None, ..*request };
        self.0.ask(&own, Form::of("client_credentials")).await
    }
}
