//! What peers gave and were given, as an operator and the peers themselves see it, and taking it back: here, or there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use standpipe_api::{Error, ErrorKind, Fault, JobId, Kind, Mapping, PeerId, ProviderId, Result};

use super::send::{Sender, reason};
use super::{Peers, namespace};
use crate::admin::{Parameters, page_after, read_cursor};
use crate::config::PeerTrust;
use crate::engine::Engine;
use crate::store::{Amount, Filter, Given, QueuedJob, Store, TokenFilter};
use crate::token::TokenMappings;
use crate::vault::TokenView;

/// Mappings of a page, and removed in one transaction.
const PAGE: usize = 500;
/// How long a peer may take to answer an operator.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// What it gave that still counts.
    pub gave: Amount,
}

/// A page of what a peer gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Where resources live.
    pub mappings: Vec<Mapping>,
    /// Tokens, without their values; the first 500, on the first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenView>,
    /// What `after` must be for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The peers, and what they gave.
pub struct Ledger {
    peers: Arc<Peers>,
    store: Arc<dyn Store>,
    /// Tokens in memory, and how to call peers; `None` where nothing is served.
    serving: Option<(Arc<TokenMappings>, Sender)>,
}

impl Ledger {
    /// The ledger of a process that serves.
    pub fn of(engine: &Engine) -> Self {
        let serving = Some((engine.tokens.clone(), Sender::of(engine)));
        Self { peers: engine.running.load().peers.clone(), store: engine.store.clone(), serving }
    }

    /// The ledger in a file that no process serves: peers are not called.
    pub fn in_file(peers: Arc<Peers>, store: Arc<dyn Store>) -> Self {
        Self { peers, store, serving: None }
    }

    /// All peers.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn peers(&self) -> Result<Vec<PeerView>> {
        let mut views = Vec::new();
        for peer in self.peers.iter() {
            let config = &peer.config;
            let trusted_by = match &config.trust {
                PeerTrust::Issuer(issuer) => format!("issuer {issuer}"),
                PeerTrust::Certificate(name) => format!("certificate {name}"),
            };
            views.push(PeerView {
                name: config.id.clone(),
                url: config.url.clone(),
                trusted_by,
                beside: config.beside.clone(),
                inject: config.inject,
                gave: self.store.count_given(&config.id).await.map_err(Error::from)?,
            });
        }
        Ok(views)
    }

    /// A page of what a peer gave, by the query of a request: `after`. Also of a peer that is configured no more.
    ///
    /// # Errors
    /// The query is wrong, there is no such peer, or the store does not answer.
    pub async fn gave(&self, peer: &PeerId, query: Option<&str>) -> Result<Page> {
        let parameters = Parameters::read(query, &["after"])?;
        let after = parameters.get("after").map(read_cursor).transpose()?;
        let filter = TokenFilter { peer: Some(peer.clone()), ..TokenFilter::default() };
        let tokens = match after {
            None => self.store.tokens(filter, None, PAGE).await.map_err(Error::from)?,
            Some(_) => Vec::new(),
        };
        let filter = Filter { peer: Some(peer.clone()), ..Filter::default() };
        let mappings = self.store.scan(filter, after, PAGE).await.map_err(Error::from)?;
        if mappings.is_empty() && tokens.is_empty() {
            self.peers.named(peer)?;
        }
        let next = mappings.get(PAGE - 1).map(|last| page_after(&last.resource));
        Ok(Page { mappings, tokens: tokens.iter().map(TokenView::from).collect(), next })
    }

    /// Takes back what a peer gave, by the query of a request: `provider`, `kind`, `id`.
    ///
    /// # Errors
    /// The query is wrong, there is no such peer, or the store does not answer; some may be taken back.
    pub async fn revoke(&self, peer: &PeerId, query: Option<&str>) -> Result<Amount> {
        let parameters = Parameters::read(query, &["provider", "kind", "id"])?;
        let which = Given {
            peer: peer.clone(),
            provider: parameters.get("provider").map(Into::into),
            kind: parameters.get("kind").map(|kind| Kind::read(kind.to_owned())),
            id: parameters.get("id").map(Into::into),
        };
        let mut revoked = Amount::default();
        loop {
            let some = self.store.revoke(which.clone(), PAGE).await.map_err(Error::from)?;
            revoked.mappings += some.mappings;
            revoked.tokens += some.tokens;
            if some.mappings.max(some.tokens) < PAGE as u64 {
                break;
            }
        }
        if let (Some((tokens, _)), true) = (&self.serving, revoked.tokens > 0) {
            tokens.forget();
        }
        if revoked == Amount::default() {
            self.peers.named(peer)?;
        }
        let Amount { mappings, tokens } = revoked;
        tracing::info!(%peer, mappings, tokens, "what a peer gave is revoked");
        Ok(revoked)
    }

    /// A page of what a peer was given, as it says itself.
    ///
    /// # Errors
    /// There is no such peer, or it does not say.
    pub async fn given(&self, peer: &PeerId, query: Option<&str>) -> Result<Page> {
        self.ask(peer, Method::GET, query).await
    }

    /// Takes back what a peer was given; without a choice, also what still waits to be given to it.
    ///
    /// # Errors
    /// There is no such peer, or it does not do it.
    pub async fn revoke_given(&self, peer: &PeerId, query: Option<&str>) -> Result<Amount> {
        if query.unwrap_or_default().is_empty() {
            self.drop_waiting(peer).await?;
        }
        self.ask(peer, Method::DELETE, query).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        peer: &PeerId,
        method: Method,
        query: Option<&str>,
    ) -> Result<T> {
        let peer = self.peers.named(peer)?;
        let Some((_, sender)) = &self.serving else {
            let public = "only a running standpipe calls its peers";
            return Err(Error::new(ErrorKind::CouldNotAsk, Fault::Caller, public).advise("start it first"));
        };
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let answer = sender.call(peer, (method, &query), Bytes::new(), PATIENCE).await?;
        let failed = |why: String| {
            let public = format!("the peer {} answered {why}", peer.id());
            Error::new(ErrorKind::Nonsense, Fault::Proxy, public)
        };
        if !answer.status().is_success() {
            return Err(failed(reason(&answer)));
        }
        serde_json::from_slice(answer.body()).map_err(|_| failed("something else than was asked for".into()))
    }

    async fn drop_waiting(&self, peer: &PeerId) -> Result<()> {
        let prefix = format!("{peer}/");
        // Those that were dropped are gone, so that the first page is always the next.
        let before_all = (namespace(), JobId(prefix.clone()));
        loop {
            let jobs = self.store.jobs(Some(&before_all), PAGE).await.map_err(Error::from)?;
            let own = |job: &&QueuedJob| job.namespace == namespace() && job.id.0.starts_with(&prefix);
            let waiting: Vec<&QueuedJob> = jobs.iter().take_while(own).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            for job in waiting {
                self.store.drop_job(&job.namespace, &job.id).await.map_err(Error::from)?;
            }
        }
    }
}

/// A query of the parameters that are given.
pub fn query(parameters: &[(&str, Option<&str>)]) -> Option<String> {
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let pairs: Vec<String> = given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}
