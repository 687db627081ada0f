//! One process per data directory: a second one would share the port and split the truth (decision 8).

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::StoreError;

const LOCK_FILE: &str = "standpipe.lock";
/// A process id and a line end fit in; more is not ours.
const PID_LIMIT: u64 = 32;

/// The right to use a data directory, for as long as it lives. The operating system takes it back from a dead process,
/// so a lock is never stale; the file itself stays.
#[derive(Debug)]
pub struct DataDirLock {
    /// Open as long as the lock is held.
    _file: File,
}

impl DataDirLock {
    /// Creates the directory (mode 0700) if there is none and locks it. Does not wait.
    ///
    /// # Errors
    /// Another process holds it, or the directory cannot be created or written.
    pub fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
        made.map_err(|source| StoreError::file("create the data directory", data_dir, source))?;
        let path = data_dir.join(LOCK_FILE);
        let failed = |source| StoreError::file("lock", &path, source);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { holder: holder(&mut file), path: data_dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Who wrote the file. It may be unfinished: the holder writes it just after it has locked.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(PID_LIMIT).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!(" (process {pid})"),
        None => String::new(),
    }
}
