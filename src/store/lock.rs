//! One server per data directory.
//!
//! With SO_REUSEPORT a second process could share the port without a word; the lock makes it say so.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::error::StoreError;

/// The exclusive right to a data directory, as long as it lives; the kernel takes it back when the process dies.
#[derive(Debug)]
pub struct DataDirLock {
    _held: File,
}

impl DataDirLock {
    /// Makes the directory (0700) if need be, and locks it.
    ///
    /// # Errors
    /// Somebody else has it, or it cannot be made.
    pub fn take(data_dir: &Path) -> Result<Self, StoreError> {
        let wrong = |source| StoreError::File { path: data_dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(wrong)?;
        let path = data_dir.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(wrong)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _only_for_the_message = file.read_to_string(&mut holder);
                let holder = holder.trim();
                let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
                return Err(StoreError::Locked { path: data_dir.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(wrong(source)),
        }
        let pid = std::process::id().to_string();
        let noted =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
        noted.map_err(wrong)?;
        Ok(Self { _held: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataDirLock::take(&path).unwrap();
        let error = DataDirLock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        drop(first);
        DataDirLock::take(&path).unwrap();
    }
}
