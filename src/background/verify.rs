//! Tokens that brokers sign for each other, on any thread.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{Error, ErrorKind, Fault, Result, Verifier};

use crate::engine::Engine;
use crate::jwt::{Algorithm, Expected, Place, Reach, Rejection, Token};

/// What they may be signed with.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];
/// How far brokers' clocks may differ from ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// Verifies with the keys of the issuer a token names: our own, a trusted one's, or one that the guard lets us ask.
pub(super) struct Verifying(pub(super) Arc<Engine>);

impl Verifying {
    async fn claims(&self, token: Token<'_>, place: &Place) -> Result<serde_json::Value> {
        let expected = Expected { algorithms: &ALGORITHMS, audience: None, kind: None, leeway: LEEWAY };
        match token.verify(&self.0.issuers, place, &expected).await {
            Ok(claims) => Ok(claims.into()),
            Err(Rejection::Bad(why)) => Err(bad(why)),
            Err(Rejection::CouldNotCheck(why)) => {
                let public = format!("the keys of {} could not be had", token.issuer());
                Err(Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).because(why))
            }
        }
    }
}

fn bad(why: String) -> Error {
    Error::new(ErrorKind::Unauthenticated, Fault::Caller, "the token is not good").because(why)
}

fn parsed(token: &SecretString) -> Result<Token<'_>> {
    Token::parse(token.expose_secret()).ok_or_else(|| bad("it is no JWT".into()))
}

#[async_trait]
impl Verifier for Verifying {
    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value> {
        let token = parsed(token)?;
        let running = self.0.running.load_full();
        let trusted = running.config.trusted_issuers.iter().find(|trusted| trusted.issuer == token.issuer());
        let place = trusted.map_or_else(|| Place::named(token.issuer()), Place::of);
        self.claims(token, &place).await
    }

    async fn verify_at(&self, token: &SecretString, jwks_url: &str) -> Result<serde_json::Value> {
        let token = parsed(token)?;
        let (issuer, jwks_url) = (token.issuer().to_owned(), Some(jwks_url.to_owned()));
        self.claims(token, &Place { issuer, jwks_url, reach: Reach::Configured }).await
    }
}
