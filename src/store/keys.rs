//! The master key of a data directory: where it is, and how another one takes its place.
//!
//! The next key lies beside the present one (`master.key.new`) before anything is sealed under it, and takes its name
//! when everything is. Whatever instant a process dies at, one of the two files opens the database, and the next start
//! finds out which.

use std::fs;
use std::path::{Path, PathBuf};

use standpipe_api::SecretRef;
use tokio::sync::Mutex;

use super::seal::sync_directory;
use super::sqlite::{Options, Sqlite};
use super::{MasterKey, Store, StoreError};

/// Where the master key is.
pub struct Keys {
    data_dir: PathBuf,
    place: KeyPlace,
    /// One rotation at a time.
    rotating: Mutex<()>,
}

/// Who keeps the key.
enum KeyPlace {
    /// Standpipe, in `master.key` of the data directory.
    Own,
    /// The operator, who says where to read it.
    Operators(SecretRef),
}

/// What a rotation came to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rotated {
    /// Values that are sealed under the new key.
    pub values: u64,
    /// Whether the configuration has to name the new key before the next start.
    pub reconfigure: bool,
}

/// Reads a secret where a reference points.
pub type ReadSecret = fn(&SecretRef) -> Result<secrecy::SecretString, String>;

impl Keys {
    /// The key that a configuration names, or the one made at the first start.
    pub fn new(data_dir: &Path, configured: Option<&SecretRef>) -> Self {
        let place = configured.map_or(KeyPlace::Own, |reference| KeyPlace::Operators(reference.clone()));
        Self { data_dir: data_dir.to_owned(), place, rotating: Mutex::default() }
    }

    fn own(&self) -> PathBuf {
        self.data_dir.join("master.key")
    }

    fn next(&self) -> PathBuf {
        self.data_dir.join("master.key.new")
    }

    /// Opens the database in the data directory, whose lock must be held, and ends a rotation that a crash cut off.
    ///
    /// # Errors
    /// The key or the database cannot be read, is not ours, or the two do not belong together.
    pub fn open(&self, read: ReadSecret, options: &Options) -> Result<Sqlite, StoreError> {
        let next = self.next();
        let failed = |source| StoreError::file("tidy up", &next, source);
        let KeyPlace::Operators(reference) = &self.place else {
            let opened = Sqlite::open(&self.data_dir, &MasterKey::in_file(&self.own())?, options);
            return match opened {
                Err(StoreError::WrongKey { .. }) if next.exists() => {
                    let store = Sqlite::open(&self.data_dir, &MasterKey::in_file(&next)?, options)?;
                    self.take_over()?;
                    Ok(store)
                }
                Ok(store) if next.exists() => {
                    fs::remove_file(&next).map_err(failed)?;
                    Ok(store)
                }
                opened => opened,
            };
        };
        let key = MasterKey::parse(&read(reference).map_err(StoreError::Key)?)?;
        Sqlite::open(&self.data_dir, &key, options)
    }

    /// The next key takes the present one's name.
    fn take_over(&self) -> Result<(), StoreError> {
        let renamed = fs::rename(self.next(), self.own());
        renamed.map_err(|source| StoreError::file("put in place", &self.own(), source))?;
        sync_directory(&self.data_dir)
    }

    /// Seals everything anew: under a fresh key where standpipe keeps its key itself, else under the one that `to` names.
    ///
    /// # Errors
    /// The new key cannot be made, read or kept, or the store fails; the old key then still opens everything.
    pub async fn rotate(
        &self,
        store: &dyn Store,
        to: Option<&SecretRef>,
        read: ReadSecret,
    ) -> Result<Rotated, StoreError> {
        let _alone = self.rotating.lock().await;
        match (to, &self.place) {
            (Some(reference), _) => {
                let key = MasterKey::parse(&read(reference).map_err(StoreError::Key)?)?;
                Ok(Rotated { values: store.rotate(key).await?, reconfigure: true })
            }
            (None, KeyPlace::Operators(_)) => Err(StoreError::Key(
                "is the operator's (`master_key`): say with --to where the next one is, as env:NAME or file:/path".into(),
            )),
            (None, KeyPlace::Own) => self.rotate_own(store).await,
        }
    }

    async fn rotate_own(&self, store: &dyn Store) -> Result<Rotated, StoreError> {
        let next = self.next();
        if next.exists() {
            let why =
                "has a successor already, left by a rotation whose end is not known; restart standpipe first";
            return Err(StoreError::Key(why.into()));
        }
        let key = MasterKey::generate(&next)?;
        match store.rotate(key).await {
            Ok(values) => {
                self.take_over()?;
                Ok(Rotated { values, reconfigure: false })
            }
            Err(error) => {
                // Of a store that stalled nobody knows what it will yet do; then both keys are needed.
                if !matches!(error, StoreError::Stalled { .. } | StoreError::Closed) {
                    fs::remove_file(&next).map_err(|source| StoreError::file("tidy up", &next, source))?;
                }
                Err(error)
            }
        }
    }
}
