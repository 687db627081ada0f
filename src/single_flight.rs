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
    under_way: UnderWay<K, V>,
    limit: usize,
}

type UnderWay<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>;

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
    under_way: UnderWay<K, V>,
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

    /// Whoever joins from now on fetches anew: what is under way may be out of date. Those who wait are still told,
    /// but what comes is not kept ([`Lead::tell_and_keep`]).
    pub fn disown(&self, key: &K) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl<K: Eq + Hash + Clone, V> Lead<K, V> {
    /// Tells everybody who waits.
    pub fn tell(self, value: V) {
        // Nobody may be waiting any more.
        let _nobody = self.tell.send(Some(value));
    }

    /// As [`Lead::tell`], and before that lets the value be kept, unless the fetch was disowned: once
    /// [`SingleFlight::disown`] has returned, nothing that began earlier is kept. `keep` must be short.
    pub fn tell_and_keep(self, value: V, keep: impl FnOnce(&V)) {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_own(under_way.get(&self.key)) {
            keep(&value);
        }
        drop(under_way);
        self.tell(value);
    }

    fn is_own(&self, waiting: Option<&watch::Receiver<Option<V>>>) -> bool {
        waiting.is_some_and(|waiting| waiting.same_channel(&self.tell.subscribe()))
    }
}

impl<K: Eq + Hash + Clone, V> Drop for Lead<K, V> {
    fn drop(&mut self) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // A disowned fetch leaves its successor alone.
        if self.is_own(under_way.get(&self.key)) {
            under_way.remove(&self.key);
        }
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

    #[tokio::test]
    async fn a_disowned_fetch_tells_those_who_wait_is_not_kept_and_leaves_its_successor_alone() {
        let flight: SingleFlight<&str, u32> = SingleFlight::new(9);
        let Join::Lead(old, waiting) = flight.join(&"a") else { panic!() };
        flight.disown(&"a");
        let Join::Lead(new, _) = flight.join(&"a") else { panic!("it joined what is out of date") };
        let mut kept = Vec::new();
        old.tell_and_keep(1, |value| kept.push(*value));
        assert_eq!(waiting.value().await, Some(1));
        let Join::Follow(follower) = flight.join(&"a") else { panic!("the successor is gone") };
        new.tell_and_keep(2, |value| kept.push(*value));
        assert_eq!((follower.value().await, kept), (Some(2), vec![2]));
    }
}
