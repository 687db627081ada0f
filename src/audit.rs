//! The audit's way from the cores to the table: a bounded queue and a thread that writes.
//!
//! A core hands an event over and goes on. Events are written in order, many in one transaction; while the store does
//! not take them they wait here. What does not fit any more is dropped, counted and logged, never silently.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::store::{AuditEvent, Store};

/// Events that may wait: some 5 MiB.
const QUEUE: usize = 8192;
/// Events in one transaction.
const GROUP: usize = 256;
/// Until a store that refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where calls leave their events. Cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    queue: SyncSender<Message>,
    dropped: metrics::Counter,
    /// The first event of a row that is dropped is logged.
    dropping: AtomicBool,
    ending: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Event(Box<AuditEvent>),
    End,
}

impl AuditLog {
    /// Begins to write to a store; what is dropped is counted.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(store: Arc<dyn Store>, dropped: metrics::Counter) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (queue, waiting) = sync_channel(QUEUE);
        let ending = Arc::new(AtomicBool::new(false));
        let writing = Writing { store, runtime, dropped: dropped.clone(), ending: ending.clone() };
        let thread = Builder::new().name("audit".into()).spawn(move || writing.write_all(&waiting))?;
        let (dropping, thread) = (AtomicBool::new(false), Mutex::new(Some(thread)));
        Ok(Self(Arc::new(Inner { queue, dropped, dropping, ending, thread })))
    }

    /// Takes an event, without waiting.
    pub fn record(&self, event: AuditEvent) {
        match self.0.queue.try_send(Message::Event(Box::new(event))) {
            Ok(()) => self.0.dropping.store(false, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.0.dropped.increment(1);
                if !self.0.dropping.swap(true, Ordering::Relaxed) {
                    tracing::error!("audit events are dropped: more come than the store takes");
                }
            }
        }
    }

    /// Writes what is queued and ends. Whatever still calls has its events dropped.
    pub fn end(&self) {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        self.0.ending.store(true, Ordering::Relaxed);
        // The thread is gone only if it panicked, which joining it tells.
        let _gone = self.0.queue.send(Message::End);
        if thread.join().is_err() {
            tracing::error!("the audit's thread ended in a panic");
        }
    }
}

struct Writing {
    store: Arc<dyn Store>,
    runtime: Runtime,
    dropped: metrics::Counter,
    ending: Arc<AtomicBool>,
}

impl Writing {
    fn write_all(self, queue: &Receiver<Message>) {
        while let Ok(first) = queue.recv() {
            let mut events = Vec::new();
            let mut ended = false;
            let more = std::iter::from_fn(|| queue.try_recv().ok()).take(GROUP - 1);
            for message in std::iter::once(first).chain(more) {
                match message {
                    Message::Event(event) => events.push(*event),
                    Message::End => ended = true,
                }
            }
            let count = events.len();
            if !self.write(events) {
                // The end does not wait for a store that takes nothing.
                let left = queue.try_iter().filter(|message| matches!(message, Message::Event(_))).count();
                tracing::error!(events = count + left, "audit events are lost");
                return self.dropped.increment((count + left) as u64);
            }
            if ended {
                return;
            }
        }
    }

    /// Writes a group, however long the store takes to accept it; `false`: it did not, and the process ends.
    fn write(&self, events: Vec<AuditEvent>) -> bool {
        let mut told = false;
        while let Err(error) = self.runtime.block_on(self.store.append_audit(events.clone())) {
            if self.ending.load(Ordering::Relaxed) {
                return false;
            }
            if !told {
                tracing::error!(%error, "the audit cannot be written; its events wait");
                told = true;
            }
            std::thread::sleep(AGAIN);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use standpipe_api::Timestamp;

    use super::*;
    use crate::store::{AuditFilter, MasterKey, Options, Sqlite};
    use crate::telemetry::{Metrics, name};

    fn event(number: usize) -> AuditEvent {
        AuditEvent {
            at: Timestamp::from_millis(1),
            call: number.to_string(),
            caller: None,
            tenant: None,
            method: "POST".into(),
            path: "/".into(),
            operation: None,
            kind: None,
            provider: None,
            status: 200,
            fault: None,
            refused: None,
            remark: None,
        }
    }

    #[test]
    fn everything_taken_is_written_in_order_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::in_file(&folder.path().join("key")).unwrap();
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path(), &key, &Options::default()).unwrap());
        let metrics = Metrics::new();
        let log = AuditLog::start(store.clone(), metrics.counter(name::AUDIT_DROPPED, &[])).unwrap();
        (0..1000).for_each(|number| log.record(event(number)));
        log.end();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let rows = runtime.block_on(store.audit(&AuditFilter::default(), 0, 2000)).unwrap();
        let calls: Vec<usize> = rows.iter().map(|row| row.event.call.parse().unwrap()).collect();
        assert_eq!(calls, (0..1000).collect::<Vec<_>>());
        log.record(event(1000));
        assert!(metrics.render().contains("standpipe_audit_dropped_total 1\n"), "nothing is lost uncounted");
    }
}
