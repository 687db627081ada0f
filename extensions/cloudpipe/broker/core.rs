//! The broker of one provider: its settings, its records, and what orders the work on them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use standpipe_api::{Error, Outbound, ProviderId, Record, ResourceId, Revision, State, Verifier};
use tokio::sync::Notify;

use super::answer::Refusal;
use super::lock::{Locks, Turnstile};
use super::pipe::{Pipe, PipeId, pipe_key, pipe_prefix};
use super::settings::BrokerSettings;
use super::wire::Setup;
use super::wish::within_limits;

/// Bytes of a request body, and of a pipe's record.
pub(super) const PIPE_BYTES: usize = 1024 * 1024;
/// Pipes of one resource.
const PIPES: usize = 10_000;
/// Records read at a time.
pub(super) const PAGE: usize = 100;
/// How often a compare-and-set that lost is tried again.
pub(super) const TRIES: usize = 16;
/// How long an answer waits for the first attempt of a sink, or of a rotation.
pub(super) const CATCH_UP: Duration = Duration::from_secs(5);

/// A broker.
pub(super) struct Broker {
    pub(super) name: ProviderId,
    settings: RwLock<Arc<BrokerSettings>>,
    engine: OnceLock<Engine>,
    /// One change at a time per pipe.
    pub(super) locks: Locks,
    sinks: Mutex<BTreeMap<ResourceId, Arc<Turnstile>>>,
    /// Orders requests to rotate all pipes of a resource and the sweeps that do it.
    pub(super) rotations: Turnstile,
    counts: Mutex<BTreeMap<String, usize>>,
    /// Settings changed, or a rotation was asked for: there may be data to be made anew.
    pub(super) stale: Notify,
    /// Whether these settings have not been carried to the sinks yet.
    pub(super) unsettled: AtomicBool,
}

/// What the engine lends.
pub(super) struct Engine {
    pub(super) state: Arc<dyn State>,
    pub(super) outbound: Arc<dyn Outbound>,
    /// Where the broker is reached, when its settings do not say.
    pub(super) url: String,
    /// Who signs for it, when its settings do not say.
    pub(super) issuer: String,
    /// Reads what other brokers sign.
    pub(super) verifier: Arc<dyn Verifier>,
}

/// A pipe with the revision it was read at.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) pipe: Pipe,
    pub(super) revision: Revision,
}

impl Broker {
    pub(super) fn new(name: ProviderId, settings: BrokerSettings) -> Self {
        Self {
            name,
            settings: RwLock::new(Arc::new(settings)),
            engine: OnceLock::new(),
            locks: Locks::default(),
            sinks: Mutex::default(),
            rotations: Turnstile::default(),
            counts: Mutex::default(),
            stale: Notify::new(),
            unsettled: AtomicBool::new(true),
        }
    }

    /// Takes the engine's handles and counts what is there.
    pub(super) async fn open(&self, engine: Engine) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let page = engine.state.list("pipe/", after.as_deref(), PAGE).await?;
            for record in &page {
                let resource = record.key.rsplit_once('/').map_or("", |(resource, _)| resource);
                *self.counts().entry(format!("{resource}/")).or_default() += 1;
            }
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => break,
            }
        }
        // A second start would be the engine's mistake; the first one's handles stay.
        self.engine.get_or_init(|| engine);
        Ok(())
    }

    pub(super) fn replace_settings(&self, settings: BrokerSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.unsettled.store(true, Ordering::Release);
        self.stale.notify_one();
    }

    pub(super) fn engine(&self) -> Result<&Engine, Refusal> {
        self.engine.get().ok_or_else(|| Refusal::busy("the broker has not started yet"))
    }

    pub(super) fn state(&self) -> Result<&Arc<dyn State>, Refusal> {
        self.engine().map(|engine| &engine.state)
    }

    /// The settings as they are now; a request keeps to them.
    pub(super) fn setup(&self) -> Result<Setup, Refusal> {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        let engine = self.engine()?;
        let base = settings.url.clone().unwrap_or_else(|| engine.url.clone());
        let issuer = settings.issuer.clone().unwrap_or_else(|| engine.issuer.clone());
        Ok(Setup { settings, base, issuer })
    }

    pub(super) fn sink_turnstile(&self, resource: &ResourceId) -> Arc<Turnstile> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(sinks.entry(resource.clone()).or_default())
    }

    /// Reads a pipe.
    pub(super) async fn find(&self, resource: &ResourceId, id: &PipeId) -> Result<Option<Stored>, Refusal> {
        let record = self.state()?.get(&pipe_key(resource, id)).await?;
        Ok(record.map(|record| stored(&record)).transpose()?)
    }

    /// Reads a pipe that the caller says exists.
    pub(super) async fn get(&self, resource: &ResourceId, id: &PipeId) -> Result<Stored, Refusal> {
        let found = self.find(resource, id).await?;
        found.ok_or_else(|| Refusal::unknown(format!("{resource} has no pipe {id}")))
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps room for one more pipe of a resource until it is there, or given up.
    pub(super) fn room(&self, resource: &ResourceId) -> Result<Room<'_>, Refusal> {
        let key = pipe_prefix(resource);
        let mut counts = self.counts();
        let count = counts.entry(key.clone()).or_default();
        if *count >= PIPES {
            return Err(Refusal::conflict(format!("{resource} has {PIPES} pipes, which is the limit")));
        }
        *count += 1;
        Ok(Room { broker: self, key: Some(key) })
    }

    /// A pipe of a resource is gone.
    pub(super) fn removed(&self, resource: &ResourceId) {
        self.give_back(&pipe_prefix(resource));
    }

    fn give_back(&self, key: &str) {
        if let Some(count) = self.counts().get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Room for one pipe; given back unless it is used.
pub(super) struct Room<'a> {
    broker: &'a Broker,
    key: Option<String>,
}

impl Room<'_> {
    /// The pipe is there.
    pub(super) fn used(mut self) {
        self.key = None;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.broker.give_back(&key);
        }
    }
}

/// A record's content as it was written.
pub(super) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, Error> {
    serde_json::from_slice(&record.value)
        .map_err(|error| Error::internal("a record of the broker cannot be read").because(error))
}

pub(super) fn stored(record: &Record) -> Result<Stored, Error> {
    Ok(Stored { pipe: decode(record)?, revision: record.revision })
}

/// A pipe's record, within its bounds.
pub(super) fn encode(pipe: &Pipe) -> Result<Bytes, Refusal> {
    let bytes = serde_json::to_vec(pipe)
        .map_err(|error| Error::internal("a pipe cannot be written").because(error))?;
    within_limits(pipe, bytes.len(), PIPE_BYTES)?;
    Ok(Bytes::from(bytes))
}
