//! The writing side: one thread that commits whatever has queued as one transaction.
//!
//! Syncing to disk costs the same for one write and for a hundred, so writes that arrive during a commit share the
//! next one. Each runs in a savepoint of its own: one that fails is undone alone, and the others are kept.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use standpipe_api::Resource;
use tokio::sync::{oneshot, watch};

use super::{Observers, Options, answer, event};
use crate::fail_point::{FailPoint, reach};
use crate::store::StoreError;

/// Writes in one transaction at most: bounds how long the first of them waits for the last.
const GROUP: usize = 256;
/// Without a write for this long, the log is copied into the database file.
const IDLE: Duration = Duration::from_millis(200);
/// Pages (of 4 KiB) in the log at which it is copied even under load: 16 MiB.
const LOG_PAGES: i64 = 4096;

/// What a transaction touches.
#[derive(Default)]
pub(super) struct Changed {
    mappings: Vec<Resource>,
    events: bool,
}

impl Changed {
    /// A mapping.
    pub(super) fn push(&mut self, resource: Resource) {
        self.mappings.push(resource);
    }

    /// Many mappings.
    pub(super) fn extend(&mut self, resources: impl IntoIterator<Item = Resource>) {
        self.mappings.extend(resources);
    }

    /// The feed.
    pub(super) fn has_event(&mut self) {
        self.events = true;
    }
}

/// A write that waits, and whoever waits for it.
trait Waiting: Send {
    /// Carries it out inside the current savepoint; whether that succeeded.
    fn run(&mut self, db: &Connection, changed: &mut Changed) -> bool;
    /// Tells whoever waits: the outcome, or why the transaction was lost.
    fn finish(self: Box<Self>, lost: Option<&StoreError>);
}

struct Pending<T, F, U> {
    write: Option<F>,
    /// Carried out when the transaction is lost, before any other write.
    undo: Option<U>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F, U> Waiting for Pending<T, F, U>
where
    T: Send,
    F: FnOnce(&Connection, &mut Changed) -> Result<T, StoreError> + Send,
    U: FnOnce() + Send,
{
    fn run(&mut self, db: &Connection, changed: &mut Changed) -> bool {
        self.outcome = self.write.take().map(|write| write(db, changed));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn finish(mut self: Box<Self>, lost: Option<&StoreError>) {
        if let (Some(Ok(_)), Some(_), Some(undo)) = (&self.outcome, lost, self.undo.take()) {
            undo();
        }
        let outcome = match (self.outcome, lost) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(lost)) => Err(lost.clone()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Closed),
        };
        // Whoever asked may be gone; the write stands all the same.
        let _unheard = self.reply.send(outcome);
    }
}

pub(super) struct Writer {
    /// `None` only while being dropped.
    queue: Option<SyncSender<Box<dyn Waiting>>>,
    thread: Option<JoinHandle<()>>,
    limit: usize,
    patience: Duration,
}

impl Writer {
    pub(super) fn start(
        db: Connection,
        options: &Options,
        observers: Arc<Observers>,
    ) -> Result<Self, StoreError> {
        let (queue, waiting) = sync_channel(options.queue);
        let path = std::path::PathBuf::from(db.path().unwrap_or_default());
        let thread =
            Builder::new().name("store-write".into()).spawn(move || write_all(db, &waiting, &observers));
        let thread = thread.map_err(|source| StoreError::file("start a thread for", &path, source))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            limit: options.queue,
            patience: options.patience,
        })
    }

    /// Has a write carried out, and answers when it is durable. Once queued it happens, whoever leaves.
    pub(super) async fn write<T, F>(&self, write: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Changed) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_or_undo(write, || {}).await
    }

    /// The same for a write that also changes something in memory: should its transaction be lost, `undo` is called
    /// before any other write.
    pub(super) async fn write_or_undo<T, F, U>(&self, write: F, undo: U) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Changed) -> Result<T, StoreError> + Send + 'static,
        U: FnOnce() + Send + 'static,
    {
        let (reply, replied) = oneshot::channel();
        let pending = Box::new(Pending { write: Some(write), undo: Some(undo), outcome: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.try_send(pending).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded { limit: self.limit },
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer(replied, self.patience).await
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            join(thread);
        }
    }
}

/// Waits for a thread to end; unless it is this one, which may drop the last handle while it tells an observer.
pub(super) fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the store panicked");
    }
}

fn write_all(db: Connection, queue: &Receiver<Box<dyn Waiting>>, observers: &Observers) {
    let mut log = Log::default();
    loop {
        // With nothing left to copy there is nothing to wake up for.
        let first = if log.uncopied {
            queue.recv_timeout(IDLE)
        } else {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        let mut group = match first {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => {
                log.copy(&db);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        group.extend(std::iter::from_fn(|| queue.try_recv().ok()).take(GROUP - 1));
        commit(&db, group, observers);
        log.written(&db);
    }
    // Closing the last connection copies the log; an error here costs the next start a recovery, not data.
    if let Err((_, error)) = db.close() {
        tracing::warn!(%error, "the database did not close cleanly; the next start recovers it");
    }
}

fn commit(db: &Connection, mut group: Vec<Box<dyn Waiting>>, observers: &Observers) {
    let mut changed = Changed::default();
    let lost = transact(db, &mut group, &mut changed).err();
    if lost.is_some() && !db.is_autocommit() {
        // If this fails too, the next BEGIN says so to the next group.
        let _failed = db.execute_batch("ROLLBACK");
    }
    // Also after a failure: emptying a slot is always right.
    if !changed.mappings.is_empty() {
        observers.changed(&changed.mappings);
    }
    if lost.is_none() {
        if changed.events {
            tell_followers(db, &observers.last_event);
        }
        reach(FailPoint::CommitAfter);
    }
    group.into_iter().for_each(|waiting| waiting.finish(lost.as_ref()));
}

/// Wakes those who follow the feed, before those who wrote it hear that it is durable.
fn tell_followers(db: &Connection, last_event: &watch::Sender<u64>) {
    match event::last(db) {
        Ok(last) => drop(last_event.send_replace(last)),
        Err(error) => tracing::warn!(%error, "those who follow events hear of the next one only"),
    }
}

/// Runs the group in one transaction. An error means that nothing of the group was written.
fn transact(
    db: &Connection,
    group: &mut [Box<dyn Waiting>],
    changed: &mut Changed,
) -> Result<(), StoreError> {
    let step = |sql: &'static str| {
        db.prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map_err(StoreError::at("writing a transaction"))
    };
    // A transaction that an earlier failure left behind would swallow this one.
    if !db.is_autocommit() {
        step("ROLLBACK")?;
    }
    step("BEGIN IMMEDIATE")?;
    for waiting in group {
        step("SAVEPOINT one")?;
        if !waiting.run(db, changed) {
            // A full disk and the like end the whole transaction, and this fails.
            step("ROLLBACK TO one")?;
        }
        step("RELEASE one")?;
    }
    reach(FailPoint::CommitBefore);
    step("COMMIT").map(drop)
}

/// The write-ahead log: grows with every commit until it is copied into the database file.
#[derive(Default)]
struct Log {
    uncopied: bool,
    /// The last attempt failed and was reported; the next one is not reported again.
    failing: bool,
}

impl Log {
    fn written(&mut self, db: &Connection) {
        self.uncopied = true;
        let length = pages(db, "PRAGMA wal_checkpoint(NOOP)");
        if let Some((total, copied)) = self.report(length)
            && total - copied >= LOG_PAGES
        {
            self.copy(db);
        }
    }

    /// Copies what no reader still needs; never waits for one. What is left is tried again when idle.
    fn copy(&mut self, db: &Connection) {
        let copied = pages(db, "PRAGMA wal_checkpoint(PASSIVE)");
        if let Some((total, copied)) = self.report(copied) {
            self.uncopied = copied < total;
        }
    }

    fn report(&mut self, result: Result<(i64, i64), rusqlite::Error>) -> Option<(i64, i64)> {
        if let Err(error) = &result
            && !self.failing
        {
            tracing::warn!(%error, "cannot copy the write-ahead log into the database; it grows until this ends");
        }
        self.failing = result.is_err();
        result.ok()
    }
}

/// Pages in the log, and those of them that are in the database file.
fn pages(db: &Connection, pragma: &str) -> Result<(i64, i64), rusqlite::Error> {
    db.prepare_cached(pragma)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}
