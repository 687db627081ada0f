//! Whoever holds copies of mappings.

use std::sync::{Mutex, PoisonError, Weak};

use standpipe_api::Resource;
use tokio::sync::watch;

use crate::store::Observer;

/// Whoever is told of changes. Grows by one per cache, that is, once.
#[derive(Default)]
pub(super) struct Observers {
    caches: Mutex<Vec<Weak<dyn Observer>>>,
    pub(super) last_event: watch::Sender<u64>,
}

impl Observers {
    pub(super) fn add(&self, observer: Weak<dyn Observer>) {
        self.caches.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(super) fn changed(&self, resources: &[Resource]) {
        // Upgraded before they are told, so that the lock is not held meanwhile.
        let observers = self.caches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        observers.iter().filter_map(Weak::upgrade).for_each(|observer| observer.changed(resources));
    }
}
