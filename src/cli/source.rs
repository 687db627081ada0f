//! A file or standard input as chunks, read on a thread of its own.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, channel};

/// Bytes of a chunk; with the queue, what is held between a reader and a slow server.
const CHUNK: usize = 64 * 1024;
const QUEUE: usize = 4;

/// Chunks in order; an error is the last thing that comes.
pub type Chunks = Receiver<io::Result<Bytes>>;

/// Begins to read. Reading stops when the chunks are dropped.
///
/// # Errors
/// The system has no thread to give.
pub(super) fn read(mut from: Box<dyn Read + Send>) -> io::Result<Chunks> {
    let (sender, chunks) = channel(QUEUE);
    std::thread::Builder::new().name("import".into()).spawn(move || {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
            let failed = read.is_err();
            let item = match read {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(chunk)),
                Err(error) => Err(error),
            };
            if sender.blocking_send(item).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(chunks)
}
