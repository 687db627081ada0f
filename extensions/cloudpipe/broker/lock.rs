//! One change at a time per pipe, and when the sink has caught up.
//!
//! The data directory has one process, so a lock in memory orders what sources are told about a pipe; what is
//! stored is guarded by compare-and-set besides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{OwnedMutexGuard, RwLock, watch};

use super::answer::Refusal;

/// How long a request waits for another one on the same pipe.
const PATIENCE: Duration = Duration::from_secs(30);

/// Locks by key; those that nobody holds are forgotten when the table has grown.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits for its turn.
    pub(super) async fn take(&self, key: &str) -> Result<OwnedMutexGuard<()>, Refusal> {
        let lock = self.of(key);
        tokio::time::timeout(PATIENCE, lock.lock_owned()).await.map_err(|_elapsed| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "another change of this pipe takes too long")
        })
    }

    fn of(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        const SWEEP: usize = 1024;
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= SWEEP && locks.len().is_power_of_two() {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

/// Lets a request wait until the sink of its resource was tried with what it changed.
pub(super) struct Turnstile {
    /// Held shared from before a commit until its ticket is drawn, so that a run that sees the commit also
    /// counts the ticket.
    gate: RwLock<()>,
    drawn: Mutex<u64>,
    tried: watch::Sender<u64>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { gate: RwLock::default(), drawn: Mutex::default(), tried: watch::Sender::new(0) }
    }
}

/// A change that the sink has to catch up with.
#[must_use]
pub(super) struct Ticket(u64);

impl Turnstile {
    /// Carries out a commit and draws its ticket.
    pub(super) async fn pass<T>(&self, commit: impl Future<Output = T>) -> (T, Ticket) {
        let _shared = self.gate.read().await;
        let result = commit.await;
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        *drawn += 1;
        (result, Ticket(*drawn))
    }

    /// The last change that a run beginning now will see.
    pub(super) async fn begin(&self) -> Ticket {
        let _alone = self.gate.write().await;
        Ticket(*self.drawn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A run has been tried, whatever came of it.
    pub(super) fn tried(&self, seen: &Ticket) {
        self.tried.send_if_modified(|tried| {
            let newer = *tried < seen.0;
            *tried = (*tried).max(seen.0);
            newer
        });
    }

    /// Waits, for a bounded time, until a change was tried. What comes of it is in the log.
    pub(super) async fn wait(&self, ticket: &Ticket, limit: Duration) {
        let mut tried = self.tried.subscribe();
        let caught_up = tried.wait_for(|tried| *tried >= ticket.0);
        let _in_time = tokio::time::timeout(limit, caught_up).await.is_ok();
    }
}
