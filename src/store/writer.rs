//! The one thread that writes: whatever waits is committed together, and checkpoints run between commits.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::error::StoreError;
use crate::fail_point::{FailPoint, reach};

/// Writes waiting; beyond it a caller is told that the store is full.
const WAITING: usize = 4096;
/// Writes in one commit.
const GROUP: usize = 256;
/// Commits after which a checkpoint is due even if writes never pause: about 4 MiB of log each 1,000 rows.
const COMMITS: usize = 1000;
/// A pause in which a checkpoint disturbs nobody.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs inside the transaction, if there is one, and gives back what to do once it is known whether it was committed.
type Task = Box<dyn FnOnce(Option<&Connection>) -> Told + Send>;
type Told = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Hands writes to the writer thread.
#[derive(Clone)]
pub(super) struct Writer(SyncSender<Task>);

impl Writer {
    /// Starts the thread on a connection of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(db: Connection) -> std::io::Result<Self> {
        let (tasks, waiting) = sync_channel(WAITING);
        thread::Builder::new().name("store-writer".into()).spawn(move || run(&db, &waiting))?;
        Ok(Self(tasks))
    }

    /// Carries out a write; durable on return. Its own failure undoes its own changes only.
    ///
    /// # Errors
    /// Its own, or the commit's.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let task: Task = Box::new(move |db| {
            let outcome = db.ok_or(StoreError::Unavailable("busy")).and_then(|db| in_savepoint(db, work));
            Box::new(move |committed| {
                // Whoever asked may have left; the write stands all the same.
                let _left = tell.send(committed.and(outcome));
            })
        });
        self.0.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Unavailable("overloaded: too many writes wait"),
            TrySendError::Disconnected(_) => StoreError::Unavailable("closed"),
        })?;
        told.await.map_err(|_| StoreError::Unavailable("closed"))?
    }
}

fn in_savepoint<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    db.execute_batch("SAVEPOINT one")?;
    let outcome = work(db);
    match &outcome {
        Ok(_) => db.execute_batch("RELEASE one")?,
        Err(_) => db.execute_batch("ROLLBACK TO one; RELEASE one")?,
    }
    outcome
}

fn run(db: &Connection, waiting: &Receiver<Task>) {
    let mut commits = 0;
    loop {
        match waiting.recv_timeout(PAUSE) {
            Ok(first) => {
                commit(db, first, waiting);
                commits += 1;
            }
            Err(RecvTimeoutError::Timeout) if commits > 0 => {
                checkpoint(db);
                commits = 0;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return checkpoint(db),
        }
        if commits >= COMMITS {
            checkpoint(db);
            commits = 0;
        }
    }
}

fn commit(db: &Connection, first: Task, waiting: &Receiver<Task>) {
    if let Err(error) = db.execute_batch("BEGIN IMMEDIATE") {
        return tell_failure(vec![first(None)], &error);
    }
    let mut told = vec![first(Some(db))];
    told.extend(waiting.try_iter().take(GROUP - 1).map(|task| task(Some(db))));
    reach(FailPoint::CommitBefore);
    match db.execute_batch("COMMIT") {
        Ok(()) => {
            reach(FailPoint::CommitAfter);
            told.into_iter().for_each(|tell| tell(Ok(())));
        }
        Err(error) => {
            if let Err(error) = db.execute_batch("ROLLBACK") {
                tracing::debug!(%error, "nothing was left to roll back");
            }
            tell_failure(told, &error);
        }
    }
}

fn tell_failure(told: Vec<Told>, error: &rusqlite::Error) {
    tracing::error!(%error, "writes were not committed");
    told.into_iter().for_each(|tell| tell(Err(StoreError::Commit(error.to_string()))));
}

/// Moves the log into the database without waiting for readers.
fn checkpoint(db: &Connection) {
    if let Err(error) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::warn!(%error, "a checkpoint failed; the log grows until one succeeds");
    }
}
