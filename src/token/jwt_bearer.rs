//! `jwt-bearer`: the caller's token is the assertion for one of the provider (RFC 7523, section 2.1).

use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Keeping, Problems, Result, Secrets,
};

use super::endpoint::{Form, TokenEndpoint};
use super::endpoint_keys::Keys;
use super::mappings::TokenMappings;
use super::subject;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The `jwt-bearer` strategy.
pub(super) struct JwtBearer(pub(super) Arc<TokenMappings>);

struct Asserted(TokenEndpoint);

impl CredentialStrategy for JwtBearer {
    fn kind(&self) -> &'static str {
        "jwt-bearer"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        Ok(Arc::new(Asserted(TokenEndpoint::new(&Keys::read_plain(table)?, secrets, &self.0)?)))
    }
}

#[async_trait(?Send)]
impl CredentialSource for Asserted {
    fn keeping<'a>(&self, request: &CredentialRequest<'a>) -> Keeping<'a> {
        request.bearer_octets().map_or(Keeping::Nobody, Keeping::Token)
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let mut form = Form::of(GRANT);
        form.field("assertion", subject(request)?);
        self.0.ask(request, form).await
    }

    fn is_unattended(&self) -> bool {
        false
    }

    fn passes_on(&self) -> bool {
        false
    }

    fn is_bound_to_caller(&self) -> bool {
        true
    }
}
