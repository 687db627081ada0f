//! What can go wrong between standpipe and its data directory, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use standpipe_api::Kind;

use crate::access::quota_reached;

/// A failed start of the store, or a failed question to it. Texts name files and reasons, never values.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process serves from this directory.
    #[error("another standpipe{holder} uses {}; stop it, or choose another data_dir", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// ` (process 4711)`, when it is known.
        holder: String,
    },
    /// The operating system refuses.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// `create`, `read`, ...
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A file stands in our place.
    #[error(
        "{} is not a standpipe database: {found}; it was left as it is: move it away, or set another data_dir",
        .path.display()
    )]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The database was written by a later standpipe.
    #[error(
        "{} has version {version} and this standpipe knows up to {known}; it was left as it is: run a newer \
         standpipe, or restore a copy made before the upgrade", .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        version: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The database is damaged.
    #[error(
        "{} is damaged ({detail}); restore the directory from a copy, or move the file away to start empty and \
         re-learn mappings; it was not repaired", .path.display()
    )]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What the check found first.
        detail: String,
    },
    /// No usable master key.
    #[error("the master key {0}")]
    Key(String),
    /// A master key, but not the one the database was sealed with.
    #[error(
        "the master key does not open {}; put the key back that it was sealed with (master.key beside it, or what \
         `master_key` named)", .path.display()
    )]
    WrongKey {
        /// The database.
        path: PathBuf,
    },
    /// One sealed value does not open although the key is right: it was altered or moved.
    #[error("{what} does not open: it was altered, or sealed under a key that is gone")]
    Sealed {
        /// Table and key of the row.
        what: String,
    },
    /// A row holds something no standpipe writes.
    #[error("{what} holds {found}, which no standpipe writes")]
    Row {
        /// Table and column.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// No space is left. The store works again when there is.
    #[error("no space is left for {doing}; free some, and the store goes on by itself")]
    Full {
        /// What was tried.
        doing: &'static str,
    },
    /// The database refused.
    #[error("the database failed at {doing}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: Arc<rusqlite::Error>,
    },
    /// A claim would be one more than a quota allows; nothing was written.
    #[error("there are {most} of the kind {kind} already, which is the quota")]
    OverQuota {
        /// Whose quota it is; `None`: of the caller alone.
        tenant: Option<String>,
        /// The kind of what was to be created.
        kind: Kind,
        /// The quota.
        most: u32,
    },
    /// As much waits for the store as may wait.
    #[error("{limit} questions already wait for the store")]
    Overloaded {
        /// The length of the queue.
        limit: usize,
    },
    /// The disk does not answer. A write may yet happen.
    #[error("the store did not answer within {} s; look for a stalled disk", .seconds)]
    Stalled {
        /// How long was waited.
        seconds: u64,
    },
    /// The store is shut down.
    #[error("the store is shut down")]
    Closed,
}

impl StoreError {
    pub(super) fn file(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), source: Arc::new(source) }
    }

    /// For `map_err`: says what was tried when the database refused.
    pub(super) fn at(doing: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full { doing },
            _ => Self::Database { doing, source: Arc::new(source) },
        }
    }
}

impl From<StoreError> for standpipe_api::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::OverQuota { tenant, kind, most } => quota_reached(tenant.as_deref(), &kind, most),
            error => Self::store(error),
        }
    }
}
