//! `/peers`: what other standpipes gave and were given, and taking it back.

use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use standpipe_api::{Body, PeerId, Result};

use super::answer;
use crate::peer::Ledger;

/// Whose side of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the peer gave, here.
    Gave,
    /// What the peer was given, there.
    Given,
}

/// `/peers`
pub(super) async fn list(ledger: &Ledger) -> Result<Response<Body>> {
    Ok(answer::json(StatusCode::OK, &json!({ "peers": ledger.peers().await? })))
}

/// `/peers/{name}/gave` and `/peers/{name}/given`: a page, or taking back all that match.
pub(super) async fn mappings(
    ledger: &Ledger,
    peer: &PeerId,
    side: Side,
    request: &Request<Body>,
) -> Result<Response<Body>> {
    let query = request.uri().query();
    Ok(match (request.method() == Method::DELETE, side) {
        (false, Side::Gave) => answer::json(StatusCode::OK, &ledger.gave(peer, query).await?),
        (false, Side::Given) => answer::json(StatusCode::OK, &ledger.given(peer, query).await?),
        (true, Side::Gave) => answer::json(StatusCode::OK, &ledger.revoke(peer, query).await?),
        (true, Side::Given) => answer::json(StatusCode::OK, &ledger.revoke_given(peer, query).await?),
    })
}
