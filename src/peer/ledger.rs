//! What peers gave and were given, as an operator sees it, and taking it back: here, or at the peer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use standpipe_api::{Answer, Error, Kind, Mapping, Outbound, PeerId, ProviderId, Result};

use super::{MAPPINGS, Peer, Peers, audience};
use crate::admin::{Parameters, page_after, read_cursor};
use crate::config::PeerTrust;
use crate::engine::Engine;
use crate::issuer::Issuer;
use crate::store::{Filter, Given, Store};

/// Mappings of a page, and removed in one transaction.
pub(super) const PAGE: usize = 500;

/// What is needed to call peers.
#[derive(Clone)]
pub struct Sender {
    outbound: Arc<dyn Outbound>,
    issuer: Arc<Issuer>,
}

/// A peer as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its name.
    pub name: PeerId,
    /// Its public url.
    pub url: String,
    /// How it is recognised: `issuer ...` or `certificate ...`.
    pub trusted_by: String,
    /// The providers it sits next to.
    pub beside: Vec<ProviderId>,
    /// Whether it is told of what is created there.
    pub inject: bool,
    /// Mappings it gave that still count.
    pub mappings: u64,
}

/// A page of what a peer gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Where resources live.
    pub mappings: Vec<Mapping>,
    /// What `after` must be for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Resource mappings.
    pub mappings: usize,
}

impl Sender {
    /// A sender with the engine's signature.
    pub fn of(engine: &Engine) -> Self {
        Self { outbound: engine.outbound.clone(), issuer: engine.issuer.clone() }
    }

    /// Calls a peer's page of mappings as this standpipe.
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
        let request =
            request.map_err(|error| Error::internal("no request to a peer can be made").because(error))?;
        self.outbound.fetch(request, limit).await
    }
}

/// The peers and what they gave.
pub struct Ledger<'a> {
    peers: &'a Peers,
    store: &'a dyn Store,
}

impl<'a> Ledger<'a> {
    /// The ledger of a store.
    pub fn new(peers: &'a Peers, store: &'a dyn Store) -> Self {
        Self { peers, store }
    }

    /// All peers.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn peers(&self) -> Result<Vec<PeerView>> {
        let mut views = Vec::new();
        for peer in self.peers.iter() {
            let config = &peer.config;
            let mappings = self.store.count_given(&config.id).await.map_err(Error::from)?;
            let trusted_by = match &config.trust {
                PeerTrust::Issuer(issuer) => format!("issuer {issuer}"),
                PeerTrust::Certificate(name) => format!("certificate {name}"),
            };
            let (name, url, beside) = (config.id.clone(), config.url.clone(), config.beside.clone());
            views.push(PeerView { name, url, trusted_by, beside, inject: config.inject, mappings });
        }
        Ok(views)
    }

    /// A page of what a peer gave, by the query of a request: `after`.
    ///
    /// # Errors
    /// The query is wrong, or the store does not answer.
    pub async fn page(&self, peer: &PeerId, query: Option<&str>) -> Result<Page> {
        let parameters = Parameters::read(query, &["after"])?;
        let after = parameters.get("after").map(read_cursor).transpose()?;
        let filter = Filter { peer: Some(peer.clone()), ..Filter::default() };
        let mappings = self.store.scan(filter, after, PAGE).await.map_err(Error::from)?;
        let next = mappings.get(PAGE - 1).map(|last| page_after(&last.resource));
        Ok(Page { mappings, next })
    }

    /// Takes back what a peer gave.
    ///
    /// # Errors
    /// The store does not answer; some may be taken back.
    pub async fn revoke(&self, which: &Given) -> Result<Revoked> {
        let mut revoked = Revoked::default();
        loop {
            let some = self.store.revoke(which.clone(), PAGE).await.map_err(Error::from)?;
            revoked.mappings += some;
            if some < PAGE {
                break;
            }
        }
        tracing::info!(peer = %which.peer, mappings = revoked.mappings, "what a peer gave is revoked");
        Ok(revoked)
    }
}

/// What is to be taken back of what a peer gave, by the query of a request: `provider`, `kind`, `id`.
///
/// # Errors
/// The query is wrong.
pub fn which(peer: &PeerId, query: Option<&str>) -> Result<Given> {
    let parameters = Parameters::read(query, &["provider", "kind", "id"])?;
    Ok(Given {
        peer: peer.clone(),
        provider: parameters.get("provider").map(Into::into),
        kind: parameters.get("kind").map(|kind| Kind::read(kind.to_owned())),
        id: parameters.get("id").map(Into::into),
    })
}

/// A query of the parameters that are given.
pub(super) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}
