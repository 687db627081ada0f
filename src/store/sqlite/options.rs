//! What an embedded store can be told.

use std::num::NonZeroUsize;
use std::time::Duration;

/// How the embedded store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections that read, on a thread each.
    pub readers: NonZeroUsize,
    /// Reads, and separately writes, that may wait; one more is refused.
    pub queue: usize,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// How long a mapping forgotten by [`standpipe_api::Change::Forget`] still routes.
    pub tombstone: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: const { NonZeroUsize::new(4).unwrap() },
            queue: 4096,
            patience: Duration::from_secs(30),
            tombstone: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
