//! The reading side: a few threads, a connection each, one bounded queue for all.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Options, answer, file};
use crate::store::StoreError;

type Question = Box<dyn FnOnce(&Connection) + Send>;

pub(super) struct Readers {
    /// `None` only while being dropped.
    queue: Option<SyncSender<Question>>,
    threads: Vec<JoinHandle<()>>,
    limit: usize,
    patience: Duration,
}

impl Readers {
    pub(super) fn start(database: &file::Database, options: &Options) -> Result<Self, StoreError> {
        let (queue, questions) = sync_channel(options.queue);
        let questions = Arc::new(Mutex::new(questions));
        let mut readers = Self {
            queue: Some(queue),
            threads: Vec::new(),
            limit: options.queue,
            patience: options.patience,
        };
        for number in 0..options.readers.get() {
            let (db, questions) = (database.reader()?, questions.clone());
            let thread = Builder::new().name(format!("store-read-{number}"));
            let started = thread.spawn(move || answer_all(&db, &questions));
            readers.threads.push(started.map_err(|source| database.failed("start a thread for", source))?);
        }
        Ok(readers)
    }

    /// Has a question answered on one of the threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, replied) = oneshot::channel();
        let question: Question = Box::new(move |db| {
            // Whoever asked may be gone; a read leaves nothing behind.
            if !reply.is_closed() {
                let _unheard = reply.send(question(db));
            }
        });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.try_send(question).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded { limit: self.limit },
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer(replied, self.patience).await
    }
}

fn answer_all(db: &Connection, questions: &Mutex<Receiver<Question>>) {
    loop {
        // One thread waits in `recv`, the others for the lock: the same queue either way.
        let question = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match question {
            Ok(question) => question(db),
            Err(_) => return,
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            super::writer::join(thread);
        }
    }
}
