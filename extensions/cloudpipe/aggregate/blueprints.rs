//! Blueprints in memory: fresh for a while, refreshed in the background, last known good while a provider is down.
//!
//! Lists are read in tasks of their own, one for all callers that want the same list: a caller that leaves does not
//! end what others wait for (decision 18).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use serde_json::{Map, Value};
use standpipe_api::{ProviderId, ResourceId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Wanted;

/// Until then a list is used without a question.
const FRESH: Duration = Duration::from_secs(30);
/// Until then it is used, and refreshed in the background.
const AGING: Duration = Duration::from_secs(300);
/// Until then it stands in for a provider that is down.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a provider that did not answer is waited for, when there is a list to stand in.
pub(super) const GLANCE: Duration = Duration::from_millis(250);
/// How long one reading may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of lists kept, as brokers sent them; the ones not used for longest go first.
const MOST: u64 = 64 << 20;

/// Lists differ by what the credential that was used may see.
pub(super) type Key = (&'static str, ProviderId, ResourceId, Arc<str>);
/// A list.
pub(super) type Items = Arc<Vec<Map<String, Value>>>;
/// A list that was read, or the word for why it was not.
pub(super) type Read = Result<Items, &'static str>;

/// The lists read last.
pub(super) struct Blueprints {
    lists: Cache<Key, Kept>,
    readings: Mutex<HashMap<Key, watch::Receiver<Option<Read>>>>,
}

#[derive(Clone)]
struct Kept {
    read: Instant,
    /// Why it could not be read again since.
    failed: Option<&'static str>,
    items: Items,
    bytes: u32,
}

/// What memory knows of a list.
pub(super) enum Known {
    /// Good as it is.
    Fresh(Items),
    /// Good, but to be refreshed.
    Aging(Items),
    /// Only if the provider still does not answer; it did not when it was asked last, for this reason.
    Failing(&'static str),
    /// Only if the provider does not answer.
    Old,
    /// Nothing.
    Nothing,
}

/// A reading of a list.
pub(super) enum Join {
    /// Nobody reads it yet: whoever is told so does, and tells the others.
    Lead(Lead, Reading),
    /// Somebody is reading it.
    Follow(Reading),
}

/// The duty to read a list. Dropped without a word, it tells the others that nothing came.
pub(super) struct Lead {
    blueprints: Arc<Blueprints>,
    key: Key,
    tell: watch::Sender<Option<Read>>,
}

/// A reading under way.
pub(super) struct Reading(watch::Receiver<Option<Read>>);

impl Default for Blueprints {
    fn default() -> Self {
        let lists = Cache::builder().max_capacity(MOST).time_to_live(KEPT);
        let lists = lists.weigher(|_: &Key, kept: &Kept| kept.bytes.saturating_add(200)).build();
        Self { lists, readings: Mutex::default() }
    }
}

impl Blueprints {
    /// What is known of a list.
    pub(super) fn known(&self, key: &Key) -> Known {
        match self.kept(key) {
            None => Known::Nothing,
            Some(Kept { failed: Some(reason), .. }) => Known::Failing(reason),
            Some(kept) if kept.read.elapsed() < FRESH => Known::Fresh(kept.items),
            Some(kept) if kept.read.elapsed() < AGING => Known::Aging(kept.items),
            Some(_) => Known::Old,
        }
    }

    /// The last good list and its age in seconds.
    pub(super) fn last_good(&self, key: &Key) -> Option<(Items, u64)> {
        self.kept(key).map(|kept| (kept.items, kept.read.elapsed().as_secs()))
    }

    fn kept(&self, key: &Key) -> Option<Kept> {
        self.lists.get(key).filter(|kept| kept.read.elapsed() < KEPT)
    }

    /// Joins the reading of a list, or leads it.
    pub(super) fn join(self: &Arc<Self>, key: &Key) -> Join {
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.get(key) {
            return Join::Follow(Reading(reading.clone()));
        }
        let (tell, told) = watch::channel(None);
        readings.insert(key.clone(), told.clone());
        Join::Lead(Lead { blueprints: self.clone(), key: key.clone(), tell }, Reading(told))
    }
}

impl Lead {
    /// Tells everybody who waits, and keeps what is good. `bytes` is the length of the answer.
    pub(super) fn tell(self, read: Read, bytes: usize) {
        let lists = &self.blueprints.lists;
        match (&read, lists.get(&self.key)) {
            (Ok(items), _) => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                let kept = Kept { read: Instant::now(), failed: None, items: items.clone(), bytes };
                lists.insert(self.key.clone(), kept);
            }
            (Err(reason), Some(kept)) => {
                lists.insert(self.key.clone(), Kept { failed: Some(reason), ..kept });
            }
            (Err(_), None) => {}
        }
        self.tell.send_replace(Some(read));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.blueprints.readings.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Reading {
    /// What was read.
    pub(super) async fn end(mut self) -> Read {
        match self.0.wait_for(Option::is_some).await {
            Ok(read) => read.clone().unwrap_or(Err("timeout")),
            Err(_) => Err("timeout"),
        }
    }
}

/// Where a list is kept.
pub(super) fn key(wanted: &Wanted, identity: Arc<str>) -> Key {
    (wanted.side, wanted.provider.id.clone(), wanted.resource.clone(), identity)
}
