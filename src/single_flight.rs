//! Many who want the same thing, one who fetches it.
//!
//! The fetching runs in a task of its own, so that a caller who leaves takes nothing away from the others, and
//! a thousand who leave do not start it a thousand times.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Fetches under way, by key. At most `limit` at once.
pub struct SingleFlight<K, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    limit: usize,
}

/// What somebody who wants a key has to do.
pub enum Join<K: Eq + Hash + Clone, V> {
    /// Fetch it, in a task of its own, and tell; then wait like the others.
    Lead(Lead<K, V>, Wait<V>),
    /// Wait.
    Follow(Wait<V>),
    /// Too many fetches are under way.
    Full,
}

/// The duty to fetch. Dropped untold, those who wait learn that nothing came.
pub struct Lead<K: Eq + Hash + Clone, V> {
    key: K,
    tell: watch::Sender<Option<V>>,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

/// The right to be told.
pub struct Wait<V>(watch::Receiver<Option<V>>);

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    /// Nothing under way.
    pub fn new(limit: usize) -> Self {
        Self { under_way: Arc::default(), limit }
    }

    /// Joins the fetch of a key, or begins one.
    pub fn join(&self, key: &K) -> Join<K, V> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = under_way.get(key) {
            return Join::Follow(Wait(waiting.clone()));
        }
        if under_way.len() >= self.limit {
            return Join::Full;
        }
        let (tell, waiting) = watch::channel(None);
        under_way.insert(key.clone(), waiting.clone());
        let lead = Lead { key: key.clone(), tell, under_way: self.under_way.clone() };
        Join::Lead(lead, Wait(waiting))
    }
}

impl<K: Eq + Hash + Clone, V> Lead<K, V> {
    /// Tells everybody who waits.
    pub fn tell(self, value: V) {
        // Nobody may be waiting any more.
        let _nobody = self.tell.send(Some(value));
    }
}

impl<K: Eq + Hash + Clone, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V: Clone> Wait<V> {
    /// What came; `None` when the one who fetched failed to.
    pub async fn value(mut self) -> Option<V> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|value| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_fetches_and_all_are_told() {
        let flight: SingleFlight<&str, u32> = SingleFlight::new(1);
        let Join::Lead(lead, own) = flight.join(&"a") else { panic!() };
        let Join::Follow(other) = flight.join(&"a") else { panic!() };
        assert!(matches!(flight.join(&"b"), Join::Full));
        lead.tell(7);
        assert_eq!((own.value().await, other.value().await), (Some(7), Some(7)));
        assert!(matches!(flight.join(&"b"), Join::Lead(..)), "what is done makes room");
    }

    #[tokio::test]
    async fn a_fetch_that_dies_leaves_nobody_waiting() {
        let flight: SingleFlight<&str, u32> = SingleFlight::new(9);
        let Join::Lead(lead, own) = flight.join(&"a") else { panic!() };
        drop(lead);
        assert_eq!(own.value().await, None);
        assert!(matches!(flight.join(&"a"), Join::Lead(..)));
    }
}
