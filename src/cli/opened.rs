//! The tables for commands that read them: with the server that holds the data directory, else in the file itself
//! (decision 21).

use std::path::PathBuf;

use super::AdminClient;
use crate::assemble::{self, Front};
use crate::store::{DataDirLock, Sqlite, StoreError};

/// Where they are.
pub(super) enum Opened {
    /// A running server has them.
    Server(AdminClient),
    /// Nobody does, for as long as the lock is held.
    File(Box<Sqlite>, #[expect(dead_code, reason = "held for as long as the file is open")] DataDirLock),
}

impl Opened {
    /// Those of a configuration.
    ///
    /// # Errors
    /// Mistakes in the configuration, no data where it says, or the file cannot be opened.
    pub(super) fn of(path: Option<PathBuf>) -> Result<Self, String> {
        let extensions = standpipe_extensions::all();
        let loaded =
            assemble::load(path.as_deref(), extensions, standpipe_extensions::RESERVED, Front::Proxy);
        let (config, _) = loaded.map_err(|problems| super::lines(&problems))?;
        super::has_data(&config)?;
        match DataDirLock::take(&config.data_dir) {
            Err(StoreError::Locked { .. }) => {
                AdminClient::new(&config.admin).map(Self::Server).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
            Ok(lock) => {
                let store = crate::serve::open_store(&config).map_err(|error| error.to_string())?;
                Ok(Self::File(Box::new(store), lock))
            }
        }
    }
}
