//! What can go wrong with the tables, for an operator.

use std::io;
use std::path::PathBuf;

use standpipe_api::Error;

/// A store that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's own words.
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
    /// A file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is a database, but not one of ours, or it is damaged.
    #[error("{} is not a usable standpipe database: {why}; move it away, or restore a copy, and start again", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// A newer standpipe wrote it.
    #[error("{} was written by a newer standpipe (version {found}, this one knows {known}); start that one, or restore an older copy", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another process serves from the same folder.
    #[error("another standpipe{holder} uses {}; stop it, or choose another data_dir", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// ` (process 123)`, when it is known.
        holder: String,
    },
    /// The master key is missing, malformed, or not the one the database was sealed under.
    #[error("the master key: {0}")]
    Key(String),
    /// A sealed value does not open.
    #[error("{0} was sealed under another key, or was damaged")]
    Sealed(String),
    /// The thread that should have answered is gone or full.
    #[error("the store is {0}")]
    Unavailable(&'static str),
    /// The transaction that held the write was not committed.
    #[error("the database: not committed: {0}")]
    Commit(String),
    /// A row holds something this version does not know.
    #[error("a row holds {0}")]
    Row(String),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::store(error)
    }
}
