//! Which peer is calling: by its own token, or by a client certificate. Never by what lets callers in.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use standpipe_api::{Connection, Error, ErrorKind, Fault, Result, bearer};

use super::{Peer, Peers, audience};
use crate::config::PeerTrust;
use crate::engine::Running;
use crate::identify::certificate_name;
use crate::jwt::{Algorithm, Expected, Issuers, PEER, Place, Reach, Rejection, Token};

/// What peers' tokens may be signed with: what standpipes sign with.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::ES256, Algorithm::RS256];
/// How far peers' clocks may differ from ours.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// The peer that sends a request.
///
/// # Errors
/// Nobody we know, or its keys could not be had.
pub async fn identify(
    running: &Running,
    issuers: &Arc<Issuers>,
    head: &Parts,
    connection: &Connection,
) -> Result<Arc<Peer>> {
    if let Some(certificate) = &connection.client_certificate
        && let Ok(name) = certificate_name(certificate)
        && let Some(peer) = running.peers.with_certificate(&name)
    {
        return Ok(peer.clone());
    }
    let text =
        bearer(&head.headers).ok_or_else(|| unknown("neither a certificate nor a token is a peer's"))?;
    let token = Token::parse(text).ok_or_else(|| unknown("the token is no JWT"))?;
    let peer = running.peers.with_issuer(token.issuer()).ok_or_else(|| unknown("the issuer is no peer"))?;
    let place = Place {
        issuer: token.issuer().to_owned(),
        jwks_url: Some(format!("{}/.well-known/jwks.json", peer.config.url)),
        reach: Reach::Configured,
    };
    let own = audience(&running.config.public_url);
    let expected =
        Expected { algorithms: &ALGORITHMS, audience: Some(&own), kind: Some(PEER), leeway: LEEWAY };
    let claims = match token.verify(issuers, &place, &expected).await {
        Ok(claims) => claims,
        Err(Rejection::Bad(why)) => return Err(unknown(why)),
        Err(Rejection::CouldNotCheck(why)) => return Err(could_not_check(peer, why)),
    };
    if claims.get("sub").and_then(serde_json::Value::as_str) != Some(&place.issuer) {
        return Err(unknown("its sub is not its issuer"));
    }
    Ok(peer.clone())
}

impl Peers {
    fn with_issuer(&self, issuer: &str) -> Option<&Arc<Peer>> {
        self.0.iter().find(|peer| matches!(&peer.config.trust, PeerTrust::Issuer(own) if own == issuer))
    }

    fn with_certificate(&self, name: &str) -> Option<&Arc<Peer>> {
        self.0.iter().find(|peer| matches!(&peer.config.trust, PeerTrust::Certificate(own) if own == name))
    }
}

/// Why is for the log.
fn unknown(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unauthenticated, Fault::Caller, "the credential is no peer's")
        .advise("peers come with a token of their own issuer, or a client certificate, as [[peer]] here says")
        .because(why.into())
}

fn could_not_check(peer: &Peer, why: String) -> Error {
    let public = format!("the keys of the peer {} could not be had", peer.id());
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).retry_after(Duration::from_secs(10)).because(why)
}
