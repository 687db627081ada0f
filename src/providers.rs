//! The providers as they run: configuration, credentials, health, and where they are.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::{HeaderValue, Uri};
use rustls::ClientConfig;
use standpipe_api::{Availability, Provider as Public, ProviderId, Timestamp, Upstream};
use tokio::sync::Semaphore;

use crate::config;
use crate::forward::breaker::Breaker;
use crate::forward::deadline::now;
use crate::forward::origin::{BadBase, Origin, target};
use crate::forward::tls::{client_config, unusable};
use crate::forward::{Failure, Tls};
use crate::registry::Registration;
use crate::route::DialectId;
use crate::telemetry::ProviderMetrics;
use crate::token::Credentials;

/// Base URLs beside its own that a provider may have at once; a template gives each resource one.
const MOST_BASES: usize = 4096;

/// One provider. What is shared by all cores is here; pools are per core. Clones share everything but how extensions
/// see it.
#[derive(Clone)]
pub struct Provider {
    /// As extensions see it.
    pub public: Public,
    /// Its dialect.
    pub dialect: DialectId,
    /// What the operator wrote; a reload that changes nothing keeps the provider as it is.
    pub config: config::Provider,
    /// What it was registered with at run time; `None` for one of the configuration.
    pub registration: Option<Arc<Registration>>,
    /// Where it is.
    pub place: Place,
    /// What lets standpipe in.
    pub credentials: Arc<Credentials>,
    /// The concurrency limit; a permit is held until an answer's body has ended.
    pub turns: Arc<Semaphore>,
    /// Half of these, for what is asked in the background: callers find room whatever it waits for.
    pub background_turns: Arc<Semaphore>,
    /// Its health.
    pub breaker: Arc<Breaker>,
    /// Open connections of all cores.
    pub connections: Connections,
    /// What is counted of its calls.
    pub metrics: ProviderMetrics,
    /// Its name as a field of answers.
    pub field: HeaderValue,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
    last_failure: Arc<Mutex<Option<(Timestamp, String)>>>,
}

/// Where a provider is.
#[derive(Clone)]
pub enum Place {
    /// Over TCP.
    Remote(Arc<Bases>),
    /// In this process.
    InProcess(Arc<dyn Upstream>),
}

/// Where one request goes.
pub enum Destination {
    /// Over TCP.
    Origin(Arc<Origin>),
    /// In this process.
    InProcess(Arc<dyn Upstream>),
}

impl Destination {
    /// The target of a request there, byte for byte behind the base's prefix.
    ///
    /// # Errors
    /// The bytes do not make a target.
    pub fn target(&self, path: &str, query: Option<&str>) -> Result<Uri, http::Error> {
        match self {
            Self::Origin(origin) => origin.target(path, query),
            Self::InProcess(_) => target("", path, query),
        }
    }

    /// What stands before every path there.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Origin(origin) => &origin.prefix,
            Self::InProcess(_) => "",
        }
    }

    /// What `Host` says there.
    pub fn authority(&self) -> &HeaderValue {
        static HERE: HeaderValue = HeaderValue::from_static("in-process");
        match self {
            Self::Origin(origin) => &origin.authority,
            Self::InProcess(_) => &HERE,
        }
    }
}

/// The base URLs of a provider, parsed.
pub struct Bases {
    own: Arc<Origin>,
    url: String,
    others: Mutex<HashMap<String, Arc<Origin>>>,
}

impl Bases {
    /// The provider's own base. A dialect's placeholder is left out; its requests all have bases of their own.
    ///
    /// # Errors
    /// Why it cannot be a base.
    pub fn new(url: &str) -> Result<Self, BadBase> {
        let plain = url.split_once('{').map_or(url, |(plain, _)| plain.trim_end_matches('.'));
        let plain = if plain.ends_with("://") { url.replace(['{', '}'], "") } else { plain.to_owned() };
        Ok(Self { own: Arc::new(Origin::parse(&plain)?), url: url.to_owned(), others: Mutex::default() })
    }

    /// The provider's own origin.
    pub fn own(&self) -> &Arc<Origin> {
        &self.own
    }

    fn origin(&self, base: &str) -> Result<Arc<Origin>, BadBase> {
        if base == self.url {
            return Ok(self.own.clone());
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(origin) = others.get(base) {
            return Ok(origin.clone());
        }
        let origin = Arc::new(Origin::parse(base)?);
        if others.len() >= MOST_BASES {
            others.clear();
        }
        others.insert(base.to_owned(), origin.clone());
        Ok(origin)
    }
}

impl Provider {
    /// Puts a provider together from checked parts.
    pub fn new(
        public: Public,
        dialect: DialectId,
        config: config::Provider,
        place: Place,
        credentials: Credentials,
        metrics: ProviderMetrics,
    ) -> Self {
        let limit = usize::try_from(config.concurrency.get()).unwrap_or(Semaphore::MAX_PERMITS);
        let turns = Arc::new(Semaphore::new(limit));
        let background_turns = Arc::new(Semaphore::new((limit / 2).max(1)));
        let breaker = Arc::new(Breaker::new(config.breaker, now()));
        let connections = Connections::default();
        // A configured name fits a field: the configuration has checked its characters.
        let field = HeaderValue::from_str(public.id.as_str()).unwrap_or(HeaderValue::from_static("unnamed"));
        Self {
            public,
            dialect,
            config,
            registration: None,
            place,
            credentials: Arc::new(credentials),
            turns,
            background_turns,
            breaker,
            connections,
            metrics,
            field,
            tls: Arc::default(),
            last_failure: Arc::default(),
        }
    }

    /// The same provider with another availability, its connections and health included.
    #[must_use]
    pub fn with_availability(&self, availability: Availability) -> Self {
        let mut same = self.clone();
        same.public.availability = availability;
        same
    }

    /// Its name.
    pub fn id(&self) -> &ProviderId {
        &self.public.id
    }

    /// Where a request with this base goes.
    ///
    /// # Errors
    /// The dialect made a base that cannot be one.
    pub fn destination(&self, base: &str) -> Result<Destination, BadBase> {
        match &self.place {
            Place::Remote(bases) => bases.origin(base).map(Destination::Origin),
            Place::InProcess(upstream) => Ok(Destination::InProcess(upstream.clone())),
        }
    }

    /// Notes a failure that was the provider's.
    pub fn failed(&self, failure: &Failure) {
        self.breaker.failed(now());
        let told = (Timestamp::now(), failure.to_string());
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// Its last failure, and when that was.
    pub fn last_failure(&self) -> Option<(Timestamp, String)> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        let limit = usize::try_from(self.config.concurrency.get()).unwrap_or(Semaphore::MAX_PERMITS);
        limit.saturating_sub(self.turns.available_permits())
    }

    /// What TLS to an origin needs, made when the first TLS connection is; `None` for plain HTTP.
    ///
    /// # Errors
    /// A file that was good at start no longer is.
    pub fn tls<'a>(&'a self, origin: &'a Origin) -> io::Result<Option<Tls<'a>>> {
        let Some(name) = &origin.server_name else { return Ok(None) };
        let config = match self.tls.get() {
            Some(config) => config,
            None => {
                let made = client_config(self.config.tls.as_ref()).map_err(unusable)?;
                self.tls.get_or_init(|| made)
            }
        };
        Ok(Some(Tls { name, config }))
    }
}

/// Counts open connections.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

/// One open connection; uncounted when dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<AtomicUsize>);

impl Connections {
    /// Counts a connection as open.
    pub fn open(&self) -> OpenConnection {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.0.clone())
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
