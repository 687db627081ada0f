//! Issuers' keys in memory: fetched when first needed, again after a while, and at once, but not often, when a token
//! does not fit them. While an issuer is down its last keys stand in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::ACCEPT;
use moka::sync::Cache;
use serde::Deserialize;
use standpipe_api::{Answer, Outbound, Result};
use tokio::time::Instant;

use super::KeySet;
use crate::config::TrustedIssuer;
use crate::single_flight::{Join, SingleFlight};

/// Until then keys are used as they are.
const FRESH: Duration = Duration::from_secs(600);
/// Until then they stand in for an issuer that does not answer.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Between fetches that tokens cause: nobody makes us ask more often.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Issuers remembered, the configured ones and those that pipes name.
const MOST: u64 = 1000;
/// Fetches under way.
const FETCHES: usize = 64;

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// Its keys, where the operator said so; else its discovery document does.
    pub jwks_url: Option<String>,
    /// Who named it.
    pub reach: Reach,
}

impl Place {
    /// Where a trusted issuer's keys are.
    pub fn of(trusted: &TrustedIssuer) -> Self {
        let (issuer, jwks_url) = (trusted.issuer.clone(), trusted.jwks_url.clone());
        Self { issuer, jwks_url, reach: Reach::Configured }
    }

    /// Where the keys of an issuer are that a token or a user names.
    pub fn named(issuer: &str) -> Self {
        Self { issuer: issuer.to_owned(), jwks_url: None, reach: Reach::Named }
    }
}

/// Who named an address, and so which addresses are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The operator.
    Configured,
    /// A user or a broker.
    Named,
}

/// Keys that need not be fetched.
pub trait OwnKeys: Send + Sync {
    /// The issuer whose keys they are.
    fn issuer(&self) -> &str;

    /// The keys as they are now.
    fn keys(&self) -> Arc<KeySet>;
}

type Fetches = SingleFlight<Place, Result<Arc<KeySet>, String>>;

/// The keys of all issuers.
pub struct Issuers {
    own: Option<Arc<dyn OwnKeys>>,
    outbound: Arc<dyn Outbound>,
    rings: Cache<Place, Arc<Ring>>,
    fetches: Fetches,
    /// Those of issuers that others name: they keep nobody from the configured ones.
    named: Fetches,
}

/// What is known of one issuer.
#[derive(Default)]
struct Ring(Mutex<State>);

#[derive(Clone, Default)]
struct State {
    keys: Option<(Instant, Arc<KeySet>)>,
    asked: Option<Instant>,
    failure: String,
}

impl Issuers {
    /// Fetches over `outbound`; the keys of our own tokens are at hand where there are any.
    pub fn new(own: Option<Arc<dyn OwnKeys>>, outbound: Arc<dyn Outbound>) -> Arc<Self> {
        let rings = Cache::builder().max_capacity(MOST).time_to_idle(KEPT).build();
        Arc::new(Self {
            own,
            outbound,
            rings,
            fetches: SingleFlight::new(FETCHES),
            named: SingleFlight::new(FETCHES),
        })
    }

    /// The keys of an issuer.
    ///
    /// # Errors
    /// It could not be asked, as a sentence for the log.
    pub(super) async fn keys(self: &Arc<Self>, place: &Place) -> Result<Arc<KeySet>, String> {
        if let Some(own) = self.own(place) {
            return Ok(own.keys());
        }
        let ring = self.ring(place);
        let state = ring.state();
        match &state.keys {
            Some((read, keys)) if read.elapsed() < FRESH => return Ok(keys.clone()),
            Some((read, keys)) if read.elapsed() < KEPT && state.is_paused() => return Ok(keys.clone()),
            None if state.is_paused() => return Err(state.failure),
            _ => {}
        }
        match (self.fetch(place, &ring).await, state.keys) {
            (Ok(keys), _) => Ok(keys),
            (Err(_), Some((read, keys))) if read.elapsed() < KEPT => Ok(keys),
            (Err(failure), _) => Err(failure),
        }
    }

    /// Keys newer than those that did not fit a token; at most once in a while.
    pub(super) async fn newer(self: &Arc<Self>, place: &Place, than: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        if self.own(place).is_some() {
            return None;
        }
        let ring = self.ring(place);
        let state = ring.state();
        let known = state.keys.map(|(_, keys)| keys).filter(|keys| !Arc::ptr_eq(keys, than));
        match ring.state().is_paused() {
            true => known,
            false => self.fetch(place, &ring).await.ok(),
        }
    }

    fn own(&self, place: &Place) -> Option<&dyn OwnKeys> {
        self.own.as_deref().filter(|own| own.issuer() == place.issuer)
    }

    fn ring(&self, place: &Place) -> Arc<Ring> {
        self.rings.get_with_by_ref(place, Arc::default)
    }

    /// One fetch for all who wait, in a task of its own.
    async fn fetch(self: &Arc<Self>, place: &Place, ring: &Arc<Ring>) -> Result<Arc<KeySet>, String> {
        let fetches = match place.reach {
            Reach::Configured => &self.fetches,
            Reach::Named => &self.named,
        };
        let wait = match fetches.join(place) {
            Join::Lead(lead, wait) => {
                let (issuers, place, ring) = (self.clone(), place.clone(), ring.clone());
                tokio::spawn(async move {
                    let fetched = issuers.read(&place).await.map(Arc::new);
                    ring.keep(&fetched);
                    lead.tell(fetched);
                });
                wait
            }
            Join::Follow(wait) => wait,
            Join::Full => return Err("too many issuers are being asked for their keys".into()),
        };
        wait.value().await.unwrap_or_else(|| Err("asking was given up".into()))
    }

    async fn read(&self, place: &Place) -> Result<KeySet, String> {
        let jwks_url = match &place.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(place).await?,
        };
        KeySet::parse(&self.get(place, &jwks_url).await?)
    }

    /// Where the issuer says that its keys are (OpenID Connect Discovery 1.0, sections 4.1 and 4.3).
    async fn discover(&self, place: &Place) -> Result<String, String> {
        #[derive(Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
        }
        if place.issuer.contains(['?', '#']) {
            return Err(format!("{} cannot be an issuer: it has a query or fragment", place.issuer));
        }
        let url = format!("{}/.well-known/openid-configuration", place.issuer.trim_end_matches('/'));
        let document: Document = serde_json::from_slice(&self.get(place, &url).await?)
            .map_err(|error| format!("the discovery document cannot be read: {error}"))?;
        if document.issuer != place.issuer {
            return Err(format!("the discovery document is that of {:?}", document.issuer));
        }
        Ok(document.jwks_uri)
    }

    async fn get(&self, place: &Place, url: &str) -> Result<Bytes, String> {
        let request = Request::get(url).header(ACCEPT, "application/json").body(Bytes::new());
        let request = request.map_err(|error| format!("{url} is no address: {error}"))?;
        let answer: Result<Answer> = match place.reach {
            Reach::Configured => self.outbound.fetch(request, PATIENCE).await,
            Reach::Named => self.outbound.fetch_named(request, PATIENCE).await,
        };
        let answer = answer.map_err(|error| error.log_text().to_owned())?;
        if answer.status() == 200 {
            Ok(answer.into_body())
        } else {
            Err(format!("{url} answered {}", answer.status()))
        }
    }
}

impl Ring {
    fn state(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, fetched: &Result<Arc<KeySet>, String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.asked = Some(Instant::now());
        match fetched {
            Ok(keys) => state.keys = Some((Instant::now(), keys.clone())),
            Err(failure) => state.failure.clone_from(failure),
        }
    }
}

impl State {
    fn is_paused(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < PAUSE)
    }
}
