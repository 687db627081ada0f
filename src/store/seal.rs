//! Sealing secrets at rest: AES-256-GCM under the master key, bound to the place where they stand.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::error::StoreError;

/// The length of the key in bytes.
const KEY: usize = 32;
/// The first byte of everything sealed: which key it is under, so that keys can be changed one day.
const KEY_ID: u8 = 1;

/// Seals and opens.
pub struct MasterKey(RandomizedNonceKey);

impl MasterKey {
    /// The key in a secret: 32 bytes in base64 (or 64 hex digits).
    ///
    /// # Errors
    /// The text is no key.
    pub fn parse(text: &SecretString) -> Result<Self, StoreError> {
        let text = text.expose_secret().trim();
        let bytes = match from_hex(text) {
            Some(bytes) => bytes,
            None => Zeroizing::new(STANDARD.decode(text).map_err(|_| malformed())?),
        };
        Self::from_bytes(&bytes)
    }

    /// The key in a file, made at the first start: 0600, complete or absent.
    ///
    /// # Errors
    /// The file cannot be read or made, or holds no key.
    pub fn in_file(path: &Path) -> Result<Self, StoreError> {
        let wrong = |source| StoreError::File { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => return Self::parse(&SecretString::from(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error)),
        }
        let mut key = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(&mut *key)
            .map_err(|_| StoreError::Key("the system gives no random bytes".into()))?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(*key)));
        let fresh = path.with_extension("key.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(wrong)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(wrong)?;
        fs::rename(&fresh, path).map_err(wrong)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
        }
        Self::from_bytes(&*key)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        if bytes.len() != KEY {
            return Err(malformed());
        }
        RandomizedNonceKey::new(&AES_256_GCM, bytes).map(Self).map_err(|_| malformed())
    }

    /// Seals a value for one place.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut sealed = value.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut sealed);
        let nonce = nonce.map_err(|_| StoreError::Key("sealing failed".into()))?;
        let mut out = Vec::with_capacity(1 + nonce.as_ref().len() + sealed.len());
        out.push(KEY_ID);
        out.extend_from_slice(nonce.as_ref());
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what was sealed for that place.
    ///
    /// # Errors
    /// Another key, another place, or damage.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Bytes, StoreError> {
        let wrong = || StoreError::Sealed(place.to_owned());
        let (&id, rest) = sealed.split_first().ok_or_else(wrong)?;
        let (nonce, rest) = rest.split_at_checked(12).ok_or_else(wrong)?;
        if id != KEY_ID {
            return Err(wrong());
        }
        let nonce = aws_lc_rs::aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut open = rest.to_vec();
        let length =
            self.0.open_in_place(nonce, Aad::from(place.as_bytes()), &mut open).map_err(|_| wrong())?.len();
        open.truncate(length);
        Ok(Bytes::from(open))
    }
}

fn malformed() -> StoreError {
    StoreError::Key("must be 32 bytes in base64 or hex; `openssl rand -base64 32` makes one".into())
}

fn from_hex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() != KEY * 2 || !text.is_ascii() {
        return None;
    }
    let pairs = text
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
    pairs.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_at_its_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::in_file(&folder.path().join("master.key")).unwrap();
        let sealed = key.seal("record/a", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(key.open("record/a", &sealed).unwrap(), "secret");
        assert!(key.open("record/b", &sealed).is_err());
        let again = MasterKey::in_file(&folder.path().join("master.key")).unwrap();
        assert_eq!(again.open("record/a", &sealed).unwrap(), "secret");
        let other = MasterKey::parse(&"11".repeat(32).into()).unwrap();
        assert!(other.open("record/a", &sealed).is_err());
    }

    #[test]
    fn the_key_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::in_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_without_repeating_it() {
        let Err(error) = MasterKey::parse(&SecretString::from("hunter2")) else { panic!() };
        assert!(!error.to_string().contains("hunter2"));
    }
}
