//! As many connections as there may be, a number that a reload can change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The places for connections of this process. Taken once per connection, so that a lock is cheap enough.
#[derive(Debug)]
pub(super) struct Places {
    count: Mutex<Count>,
    /// Wakes whoever waits for a place.
    freed: Notify,
}

#[derive(Debug)]
struct Count {
    most: usize,
    taken: usize,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { count: Mutex::new(Count { most, taken: 0 }), freed: Notify::new() })
    }

    /// Changes how many there are. Whoever has a place keeps it.
    pub(super) fn resize(&self, most: usize) {
        self.count().most = most;
        self.freed.notify_waiters();
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.count().taken
    }

    /// Takes a place, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // In this order a place that becomes free in between is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.try_take() {
                return place;
            }
            freed.await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut count = self.count();
        (count.taken < count.most).then(|| count.taken += 1).map(|()| Place(self.clone()))
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count().taken -= 1;
        // As many wait as there are accepting tasks, few: all look again, and no wake-up can be lost.
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_place_is_waited_for_until_one_is_free() {
        let places = Places::new(1);
        let first = places.take().now_or_never().unwrap();
        let mut second = std::pin::pin!(places.take());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn fewer_places_take_nobodys_place_away_and_more_are_there_at_once() {
        let places = Places::new(2);
        let held = [places.try_take().unwrap(), places.try_take().unwrap()];
        places.resize(1);
        assert_eq!(places.taken(), 2);
        let [first, second] = held;
        drop(first);
        assert!(places.try_take().is_none());
        drop(second);
        let _third = places.try_take().unwrap();
        let mut fourth = std::pin::pin!(places.take());
        assert!(fourth.as_mut().now_or_never().is_none());
        places.resize(2);
        assert!(fourth.now_or_never().is_some());
    }
}
