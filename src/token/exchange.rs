//! `exchange`: the caller's bearer token becomes one for the provider (RFC 8693), at the endpoint configured for this
//! very exchange and nowhere else.

use std::sync::Arc;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{
    Credential, CredentialRequest, CredentialSource, CredentialStrategy, Keeping, Problem, Problems, Result,
    Secrets,
};

use super::endpoint::{Form, TokenEndpoint};
use super::endpoint_keys::Keys;
use super::follow::Live;
use super::mappings::TokenMappings;
use super::subject;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TYPES: &str = "urn:ietf:params:oauth:token-type:";

/// The `exchange` strategy.
pub(super) struct Exchange(pub(super) Arc<TokenMappings>);

struct Exchanged {
    endpoint: TokenEndpoint,
    requested_type: Option<String>,
    subject_type: String,
    actor: Option<(Arc<Live<SecretString>>, String)>,
}

impl CredentialStrategy for Exchange {
    fn kind(&self) -> &'static str {
        "exchange"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let keys = Keys::read(table)?;
        let actor_type = keys.actor_token_type.as_deref();
        let actor = match &keys.actor_token {
            Some(reference) => {
                let live = Live::of("actor_token", reference, secrets, |token| Ok(token.clone()))?;
                Some((live, token_type(actor_type.unwrap_or("access_token"))))
            }
            None if actor_type.is_some() => {
                return Err(vec![Problem::at("actor_token", "is required with `actor_token_type`")]);
            }
            None => None,
        };
        Ok(Arc::new(Exchanged {
            endpoint: TokenEndpoint::new(&keys, secrets, &self.0)?,
            requested_type: keys.requested_token_type.as_deref().map(token_type),
            subject_type: token_type(keys.subject_token_type.as_deref().unwrap_or("access_token")),
            actor,
        }))
    }
}

/// The short words stand for the identifiers of RFC 8693, section 3.
fn token_type(word: &str) -> String {
    match word {
        "access_token" | "refresh_token" | "id_token" | "saml1" | "saml2" | "jwt" => format!("{TYPES}{word}"),
        other => other.to_owned(),
    }
}

#[async_trait(?Send)]
impl CredentialSource for Exchanged {
    fn keeping<'a>(&self, request: &CredentialRequest<'a>) -> Keeping<'a> {
        request.bearer_octets().map_or(Keeping::Nobody, Keeping::Token)
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let mut form = Form::of(GRANT);
        form.field("subject_token", subject(request)?);
        form.field("subject_token_type", &self.subject_type);
        self.requested_type.iter().for_each(|wanted| form.field("requested_token_type", wanted));
        if let Some((actor, actor_type)) = &self.actor {
            form.field("actor_token", actor.get().expose_secret());
            form.field("actor_token_type", actor_type);
        }
        self.endpoint.ask(request, form).await
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
