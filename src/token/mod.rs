//! Step 5: (caller, provider) to credential. One file per strategy.
//!
//! A caller's own `Authorization` goes to nobody, except where `passthrough` says so, and to the token endpoint that
//! was configured for exchanging it (decision 31). What is obtained is kept in the token mappings ([`TokenMappings`]).
//! Which of a provider's credentials is used was decided when the resource was created; its alias stands in the
//! mapping.

mod basic;
mod bearer;
mod choice;
mod credentials;
mod digest;
mod document;
mod endpoint;
mod endpoint_keys;
mod exchange;
mod failed;
mod fields;
mod follow;
mod issued;
mod jwt_bearer;
mod kept;
mod mappings;
mod mtls;
mod none;
mod oauth2;
mod passthrough;
mod secrets;
mod selector;

use std::sync::Arc;

use standpipe_api::{CredentialRequest, CredentialStrategy, Error, ErrorKind, Fault, Result, Signer};

pub use self::choice::Chosen;
pub use self::credentials::{Credentials, Site};
pub use self::document::{DocumentPlace, DocumentSource, Take};
pub use self::follow::{EVERY, SecretFiles};
pub use self::kept::Foreign;
pub use self::mappings::TokenMappings;
pub use self::secrets::{FollowedSecrets, ProcessSecrets, Sealed};
pub use self::selector::select;

/// The built-in strategies; without a signer nothing is issued.
pub fn strategies(
    signer: Option<Arc<dyn Signer>>,
    mappings: &Arc<TokenMappings>,
) -> Vec<Arc<dyn CredentialStrategy>> {
    vec![
        Arc::new(none::None),
        Arc::new(basic::Basic),
        Arc::new(bearer::Bearer),
        Arc::new(passthrough::Passthrough),
        Arc::new(mtls::Mtls),
        Arc::new(digest::Digest),
        Arc::new(oauth2::OAuth2(mappings.clone())),
        Arc::new(exchange::Exchange(mappings.clone())),
        Arc::new(jwt_bearer::JwtBearer(mappings.clone())),
        Arc::new(issued::Issued(signer)),
    ]
}

/// The caller's token, as the subject of an exchange.
fn subject<'a>(request: &CredentialRequest<'a>) -> Result<&'a str> {
    request.bearer().ok_or_else(|| {
        let public =
            format!("{} is reached with what a caller's bearer token is exchanged for", request.provider);
        match request.caller {
            Some(_) => Error::new(ErrorKind::Forbidden, Fault::Caller, public)
                .advise("come with a bearer token instead of another credential"),
            None => Error::new(ErrorKind::CouldNotAsk, Fault::Provider(request.provider.clone()), public),
        }
    })
}
