//! Blueprints in memory: fresh for a while, refreshed in the background, last known good while a provider is down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use standpipe_api::{ProviderId, ResourceId};
use tokio::time::Instant;

use super::Wanted;

/// Until then a list is used without a question.
const FRESH: Duration = Duration::from_secs(30);
/// Until then it is used, and refreshed in the background.
const AGING: Duration = Duration::from_secs(300);
/// How long a refresh in the background may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Lists kept; over it all are dropped and read anew.
const MOST: usize = 20_000;

/// Lists differ by what the credential that was used may see.
type Key = (&'static str, ProviderId, ResourceId, Arc<str>);
type Items = Vec<Map<String, Value>>;

/// The lists read last.
#[derive(Default)]
pub(super) struct Blueprints(Mutex<HashMap<Key, (Instant, Items)>>);

/// What memory knows of a list.
pub(super) enum Known {
    /// Good as it is.
    Fresh(Items),
    /// Good, but to be refreshed.
    Aging(Items),
    /// Only if the provider does not answer.
    Old,
    /// Nothing.
    Nothing,
}

impl Blueprints {
    /// What is known of a list. Pipes change with every call and are never kept.
    pub(super) fn known(&self, wanted: &Wanted, identity: &Arc<str>) -> Known {
        match self.last(wanted, identity) {
            None => Known::Nothing,
            Some((read, items)) if read.elapsed() < FRESH => Known::Fresh(items),
            Some((read, items)) if read.elapsed() < AGING => Known::Aging(items),
            Some(_) => Known::Old,
        }
    }

    /// The last good list and its age in seconds.
    pub(super) fn last_good(&self, wanted: &Wanted, identity: &Arc<str>) -> Option<(Items, u64)> {
        self.last(wanted, identity).map(|(read, items)| (items, read.elapsed().as_secs()))
    }

    /// Keeps a list that was just read.
    pub(super) fn keep(&self, wanted: &Wanted, identity: &Arc<str>, items: Items) {
        if wanted.side == "pipes" {
            return;
        }
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MOST {
            lists.clear();
        }
        lists.insert(key(wanted, identity), (Instant::now(), items));
    }

    fn last(&self, wanted: &Wanted, identity: &Arc<str>) -> Option<(Instant, Items)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key(wanted, identity)).cloned()
    }
}

fn key(wanted: &Wanted, identity: &Arc<str>) -> Key {
    (wanted.side, wanted.provider.id.clone(), wanted.resource.clone(), identity.clone())
}
