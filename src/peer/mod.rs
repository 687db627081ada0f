//! Other standpipes: what they give this one, and what this one gives them.
//!
//! In: batches of mappings from a recognised peer, and what extensions want given to one. Out: rows that name the
//! peer and end, or the reason why not; batches on their way to a peer, at once or through durable jobs. It never
//! replaces what was learned here, never takes more than the peer's grant, and never lets a caller's token out.

mod batch;
mod give;
mod identify;
mod ledger;
mod send;
mod take;

use std::sync::Arc;

use http::{HeaderValue, Uri};
use rustls::ClientConfig;
use standpipe_api::{Error, ErrorKind, Fault, PeerId, Problems, ProviderId, Result};
use tokio::sync::Semaphore;

pub use self::batch::MOST_BYTES;
pub use self::give::{deliver, give};
pub use self::identify::identify;
pub use self::ledger::{Ledger, Page, PeerView, query};
pub use self::take::{Taken, take};
use crate::config;
use crate::store::Namespace;

/// Where mappings are given, revoked and shown.
pub const MAPPINGS: &str = "/peer/v1/mappings";
/// What follows a standpipe's url in the audience of tokens for it (decision 33).
const AUDIENCE: &str = "/peer/v1";
/// What somebody who is no peer is told to show.
pub const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"standpipe peers\"");
/// Deliveries to one peer at once: one that is slow does not take the place of everybody else's work.
const AT_ONCE: usize = 4;

/// Another standpipe, ready to be called.
pub struct Peer {
    /// Its configuration.
    pub config: config::Peer,
    /// TLS towards it; `None` when its url is plain http.
    tls: Option<Arc<ClientConfig>>,
    turns: Arc<Semaphore>,
}

/// The way that a peer's request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// TLS, or no network at all: nobody else can read it.
    Private,
    /// Anybody on the way can read it.
    Open,
}

/// All other standpipes, in configured order.
#[derive(Default)]
pub struct Peers(Vec<Arc<Peer>>);

impl Peers {
    /// Reads the certificates that peers are called with.
    ///
    /// # Errors
    /// Every file that cannot be used, with its key path.
    pub fn new(configured: &[config::Peer]) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut peers = Vec::with_capacity(configured.len());
        for (at, config) in configured.iter().enumerate() {
            match Peer::new(config.clone()) {
                Ok(peer) => peers.push(Arc::new(peer)),
                Err(found) => {
                    let under = format!("peer[{at}]");
                    problems.extend(found.into_iter().map(|problem| problem.under(&under)));
                }
            }
        }
        if problems.is_empty() { Ok(Self(peers)) } else { Err(problems) }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A peer by name.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn named(&self, id: &PeerId) -> Result<&Arc<Peer>> {
        let found = self.0.iter().find(|peer| peer.config.id == *id);
        found.ok_or_else(|| {
            Error::new(ErrorKind::UnknownResource, Fault::Caller, format!("no peer is named {id}"))
                .advise("the names of the peers stand in [[peer]] of the configuration")
        })
    }

    /// Those that sit next to a provider and are told of what is created there.
    pub fn told_beside(&self, provider: &ProviderId) -> Vec<PeerId> {
        let told = |peer: &&Arc<Peer>| peer.config.inject && peer.config.beside.contains(provider);
        self.0.iter().filter(told).map(|peer| peer.config.id.clone()).collect()
    }

    /// The TLS settings for an address, when it is a peer's.
    pub fn tls_for(&self, uri: &Uri) -> Option<&Arc<ClientConfig>> {
        let at = |url: &str| {
            let known = url.parse::<Uri>().ok()?;
            Some(known.scheme() == uri.scheme() && known.authority() == uri.authority())
        };
        let peer = self.0.iter().find(|peer| at(&peer.config.url) == Some(true))?;
        peer.tls.as_ref()
    }
}

impl Peer {
    fn new(config: config::Peer) -> Result<Self, Problems> {
        let secure = config.url.starts_with("https://");
        let tls = secure.then(|| crate::forward::tls::client_config(config.tls.as_ref())).transpose()?;
        Ok(Self { config, tls, turns: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Its name.
    pub fn id(&self) -> &PeerId {
        &self.config.id
    }

    /// Whether nobody can listen on the way to it: TLS, or the way does not leave this machine.
    fn is_private(&self) -> bool {
        let uri = self.config.url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.tls.is_some() || loopback || host == "localhost"
    }
}

/// Where batches for peers wait.
pub fn namespace() -> Namespace {
    Namespace::engine("peers")
}

/// The audience of tokens for a standpipe.
fn audience(url: &str) -> String {
    format!("{url}{AUDIENCE}")
}
