//! Calls to peers, as this standpipe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use standpipe_api::{Answer, Error, Outbound, Result};

use super::{MAPPINGS, Peer, audience};
use crate::engine::Engine;
use crate::issuer::Issuer;

/// Characters of a peer's reason that are kept.
const REASON: usize = 300;

/// What is needed to call peers.
#[derive(Clone)]
pub(super) struct Sender {
    outbound: Arc<dyn Outbound>,
    issuer: Arc<Issuer>,
}

impl Sender {
    /// A sender with the engine's signature.
    pub(super) fn of(engine: &Engine) -> Self {
        Self { outbound: engine.outbound.clone(), issuer: engine.issuer.clone() }
    }

    /// Calls a peer's page of mappings.
    ///
    /// # Errors
    /// No answer in time. What it answers is not judged.
    pub(super) async fn call(
        &self,
        peer: &Peer,
        (method, query): (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer> {
        let token = self.issuer.peer_token(&audience(&peer.config.url))?;
        let mut field = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::internal("a token does not fit a field"))?;
        field.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{MAPPINGS}{query}", peer.config.url))
            .header(AUTHORIZATION, field)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let wrong = |error| Error::internal("no request to a peer can be made").because(error);
        self.outbound.fetch(request.map_err(wrong)?, limit).await
    }
}

/// What a peer says is wrong: its status and the detail of its problem (RFC 9457).
pub(super) fn reason(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let detail = serde_json::from_slice(answer.body()).map(|problem: Problem| problem.detail);
    let detail: String = detail.unwrap_or_default().chars().take(REASON).collect();
    format!("{} {detail}", answer.status()).trim_end().to_owned()
}
