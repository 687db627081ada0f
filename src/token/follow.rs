//! Secrets that change while standpipe runs: files looked at now and then, never by a request.
//!
//! A file counts as changed when its modification time, length or identity does. Mounted secrets are replaced by
//! changing a link; what is looked at is the file behind it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use secrecy::SecretString;
use standpipe_api::{Problem, Problems, SecretFollower, SecretRef, Secrets};

/// How often files are looked at, and tokens that may be due.
pub const EVERY: Duration = Duration::from_secs(1);

/// Reads the secret anew.
pub(super) type Reading = Box<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// The files that somebody follows. One for the whole process.
#[derive(Default)]
pub struct SecretFiles(Mutex<Vec<Followed>>);

struct Followed {
    paths: Vec<PathBuf>,
    seen: Option<Vec<Option<Look>>>,
    read: Reading,
    follower: SecretFollower,
}

/// What tells one content of a file from the next: modification time (s, ns), length, inode.
type Look = (i64, i64, u64, u64);

impl SecretFiles {
    /// Has a follower told what `read` gives whenever one of the files changes.
    pub(super) fn follow(&self, paths: Vec<PathBuf>, read: Reading, follower: SecretFollower) {
        let followed = Followed { paths, seen: None, read, follower };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(followed);
    }

    /// Looks at all files. A secret that cannot be read keeps its last value, and the log says why.
    pub fn look(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain_mut(Followed::look);
    }
}

impl Followed {
    fn look(&mut self) -> bool {
        let looks: Vec<Option<Look>> = self.paths.iter().map(|path| look(path)).collect();
        if self.seen.as_ref() == Some(&looks) {
            return true;
        }
        self.seen = Some(looks);
        match (self.read)() {
            Ok(secret) => (self.follower)(&secret),
            Err(why) => {
                tracing::warn!(why, "a secret has changed and cannot be read; the last one stays in force");
                true
            }
        }
    }
}

fn look(path: &Path) -> Option<Look> {
    let seen = fs::metadata(path).ok()?;
    Some((seen.mtime(), seen.mtime_nsec(), seen.len(), seen.ino()))
}

/// What was made of a secret, and is made anew when the secret changes.
pub(super) struct Live<T>(ArcSwap<T>);

impl<T: Send + Sync + 'static> Live<T> {
    /// Makes it of the secret that a key of a table refers to.
    pub(super) fn of(
        key: &'static str,
        reference: &str,
        secrets: &dyn Secrets,
        make: impl Fn(&SecretString) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Problems> {
        let wrong = |text: String| vec![Problem::at(key, text)];
        let reference = SecretRef::parse(reference).map_err(wrong)?;
        let secret = secrets.read(&reference).map_err(wrong)?;
        let live = Arc::new(Self(ArcSwap::from_pointee(make(&secret).map_err(wrong)?)));
        let weak = Arc::downgrade(&live);
        let follower = move |secret: &SecretString| {
            let Some(live) = weak.upgrade() else { return false };
            match make(secret) {
                Ok(value) => live.0.store(Arc::new(value)),
                Err(why) => {
                    tracing::warn!(key, why, "a changed secret is no good; the last one stays in force")
                }
            }
            true
        };
        secrets.follow(&reference, Box::new(follower));
        Ok(live)
    }

    pub(super) fn get(&self) -> Guard<Arc<T>> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::token::FollowedSecrets;

    fn own(secret: &SecretString) -> Result<String, String> {
        match secret.expose_secret() {
            "bad" => Err("is bad".into()),
            text => Ok(text.to_owned()),
        }
    }

    #[test]
    fn a_changed_file_is_read_and_a_bad_or_absent_one_leaves_the_last_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str| {
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write("one\n");
        let secrets = FollowedSecrets::default();
        let live = Live::of("token", &format!("file:{}", path.display()), &secrets, own).unwrap();
        secrets.files().look();
        assert_eq!(**live.get(), "one");
        write("two\n");
        secrets.files().look();
        assert_eq!(**live.get(), "two");
        for broken in ["bad", ""] {
            write(broken);
            secrets.files().look();
            assert_eq!(**live.get(), "two", "{broken}");
        }
        fs::remove_file(&path).unwrap();
        secrets.files().look();
        assert_eq!(**live.get(), "two");
        write("three");
        secrets.files().look();
        assert_eq!(**live.get(), "three");
        drop(live);
        write("four");
        secrets.files().look();
        assert!(secrets.files().0.lock().unwrap().is_empty(), "nobody wants it any more");
    }
}
