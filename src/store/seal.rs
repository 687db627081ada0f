//! Sealing at rest: AES-256-GCM under the master key, each value bound to its place in the database.
//!
//! A sealed value is `key id (1 byte) | nonce (12, random) | ciphertext | tag (16)`. The place (table, namespace, key)
//! is authenticated with it, so that a value moved to another row does not open.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use super::{SecretBytes, StoreError, sqlite};

/// The id of a database's first key; each rotation takes the next one, and after the last the first.
const FIRST_KEY: u8 = 1;
/// A key file holds 44 or 64 characters and a line end; more is not a key.
const KEY_TEXT: usize = 256;

/// The 256-bit key that seals everything secret in the data directory. Wiped when dropped.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl MasterKey {
    /// Wraps 32 bytes that are random already.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key in a secret: 32 bytes in base64, or 64 hex digits.
    ///
    /// # Errors
    /// The text is no key.
    pub fn parse(text: &SecretString) -> Result<Self, StoreError> {
        let text = text.expose_secret().trim();
        let decoded = if text.len() == 64 { unhex(text) } else { STANDARD.decode(text).ok() };
        let decoded = Zeroizing::new(decoded.unwrap_or_default());
        let malformed = "must be 32 bytes in base64 or hex; `openssl rand -base64 32` makes one";
        decoded.as_slice().try_into().map(Self::from_bytes).map_err(|_| StoreError::Key(malformed.into()))
    }

    /// The key in a file of the data directory, made at the first start: 0600, complete or absent. Blocks; at start
    /// only.
    ///
    /// # Errors
    /// The file is missing although a database lies beside it, cannot be read or made, or holds no key.
    pub fn in_file(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::file("read the master key", path, source);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::first(path),
            Err(error) => return Err(failed(error)),
        };
        let mut text = String::with_capacity(KEY_TEXT);
        let read = file.take(KEY_TEXT as u64).read_to_string(&mut text);
        let text = SecretString::from(text);
        read.map_err(failed)?;
        let malformed = || format!("in {} must be 32 bytes in base64 or hex", path.display());
        Self::parse(&text).map_err(|_| StoreError::Key(malformed()))
    }

    fn first(path: &Path) -> Result<Self, StoreError> {
        if sqlite::exists(path.parent().unwrap_or(path)) {
            let missing =
                "is missing, but a database lies beside it that was sealed with it; put the file back";
            return Err(StoreError::Key(format!("{} {missing}", path.display())));
        }
        Self::generate(path)
    }

    /// A fresh key, in a file where there is none yet.
    pub(super) fn generate(path: &Path) -> Result<Self, StoreError> {
        let folder = path.parent().unwrap_or(path);
        let failed = |source| StoreError::file("write the master key", path, source);
        let mut bytes = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut())
            .map_err(|_| StoreError::Key("cannot be made: the system gives no random bytes".into()))?;
        let mut text = Zeroizing::new(STANDARD.encode(bytes.as_ref()));
        text.push('\n');
        // Created 0600 under a name of its own, then linked: a crash leaves either no key or the whole key.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist_noclobber(path).map_err(|error| failed(error.error))?;
        sync_directory(folder)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Makes names created or renamed in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let opened = File::open(directory);
    opened
        .and_then(|opened| opened.sync_all())
        .map_err(|source| StoreError::file("sync directory", directory, source))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Where a sealed value stands; authenticated with it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) table: &'static str,
    pub(super) namespace: &'a str,
    pub(super) key: &'a str,
}

impl Place<'_> {
    /// Lengths in front, so that no two places have the same bytes.
    fn aad(&self) -> Aad<Vec<u8>> {
        let mut bytes = Vec::with_capacity(24 + self.table.len() + self.namespace.len() + self.key.len());
        for part in [self.table, self.namespace, self.key] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Aad::from(bytes)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.table, self.namespace, self.key)
    }
}

/// Seals and opens values. Shared by all threads of a store.
pub(super) struct Seal(ArcSwap<Ring>);

/// The key that seals, and the one before it: for a moment after a rotation, readers still see what it has sealed.
struct Ring {
    current: Key,
    earlier: Option<Key>,
}

#[derive(Clone)]
struct Key {
    id: u8,
    cipher: Arc<RandomizedNonceKey>,
}

impl Key {
    fn new(id: u8, key: &MasterKey) -> Result<Self, StoreError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.0.as_ref());
        let cipher = cipher.map_err(|_| StoreError::Key("is refused by the cipher".into()))?;
        Ok(Self { id, cipher: Arc::new(cipher) })
    }
}

impl Seal {
    pub(super) fn new(key: &MasterKey) -> Result<Self, StoreError> {
        let current = Key::new(FIRST_KEY, key)?;
        Ok(Self(ArcSwap::from_pointee(Ring { current, earlier: None })))
    }

    /// Takes over the id under which an existing database knows the key: the first byte of anything sealed.
    pub(super) fn known_as(&self, sealed: &[u8]) {
        if let Some(&id) = sealed.first() {
            let current = Key { id, ..self.0.load().current.clone() };
            self.0.store(Arc::new(Ring { current, earlier: None }));
        }
    }

    /// Seals under another key from now on; what the last one sealed still opens.
    pub(super) fn go_on(&self, key: &MasterKey) -> Result<(), StoreError> {
        let earlier = self.0.load().current.clone();
        let id = earlier.id.checked_add(1).unwrap_or(FIRST_KEY);
        self.0.store(Arc::new(Ring { current: Key::new(id, key)?, earlier: Some(earlier) }));
        Ok(())
    }

    /// Undoes the last [`Seal::go_on`].
    pub(super) fn go_back(&self) {
        let ring = self.0.load_full();
        if let Some(current) = ring.earlier.clone() {
            self.0.store(Arc::new(Ring { current, earlier: Some(ring.current.clone()) }));
        }
    }

    pub(super) fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let failed = |_| StoreError::Sealed { what: place.to_string() };
        let ring = self.0.load();
        let mut sealed = value.to_vec();
        let nonce = ring.current.cipher.seal_in_place_append_tag(place.aad(), &mut sealed);
        let nonce = nonce.map_err(|error| {
            sealed.zeroize();
            failed(error)
        })?;
        let mut whole = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        whole.push(ring.current.id);
        whole.extend_from_slice(nonce.as_ref());
        whole.extend_from_slice(&sealed);
        Ok(whole)
    }

    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<SecretBytes, StoreError> {
        let failed = || StoreError::Sealed { what: place.to_string() };
        let (key_id, rest) = sealed.split_first().ok_or_else(failed)?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let ring = self.0.load();
        let mut keys = std::iter::once(&ring.current).chain(&ring.earlier);
        let key = keys.find(|key| key.id == *key_id).ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut value = Zeroizing::new(rest.to_vec());
        let length = key.cipher.open_in_place(nonce, place.aad(), &mut value).map_err(|_| failed())?.len();
        value.truncate(length);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place { table: "record", namespace: "cloudpipe", key: "a/b" };

    fn seal(byte: u8) -> Seal {
        Seal::new(&MasterKey::from_bytes([byte; 32])).unwrap()
    }

    #[test]
    fn a_value_opens_in_its_place_under_its_key_and_nowhere_else() {
        let sealed = seal(1).seal(PLACE, b"secret").unwrap();
        assert_eq!(seal(1).open(PLACE, &sealed).unwrap().as_slice(), b"secret");
        assert!(seal(2).open(PLACE, &sealed).is_err());
        assert!(seal(1).open(Place { key: "a/c", ..PLACE }, &sealed).is_err());
        assert!(seal(1).open(Place { namespace: "cloudpipea", key: "/b", ..PLACE }, &sealed).is_err());
        assert!(seal(1).open(Place { table: "job", ..PLACE }, &sealed).is_err());
    }

    #[test]
    fn a_value_with_any_byte_altered_or_cut_off_does_not_open() {
        let sealed = seal(1).seal(PLACE, b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(seal(1).open(PLACE, &altered).is_err(), "byte {at}");
            assert!(seal(1).open(PLACE, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_value_sealed_twice_differs() {
        assert_ne!(seal(1).seal(PLACE, b"secret").unwrap(), seal(1).seal(PLACE, b"secret").unwrap());
    }

    #[test]
    fn a_key_is_read_in_base64_and_hex_and_nothing_else() {
        let parse = |text: &str| MasterKey::parse(&SecretString::from(text));
        let hex = "00ff".repeat(16);
        assert_eq!(parse(&format!("{hex}\n")).unwrap().0[1], 0xff);
        assert_eq!(parse(&STANDARD.encode([0x5a; 32])).unwrap().0[31], 0x5a);
        let euros = "€".repeat(20) + "abcd";
        assert_eq!(euros.len(), 64);
        for wrong in ["", "short", &hex[2..], &format!("zz{}", &hex[2..]), &format!("{hex}{hex}"), &euros] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("32 bytes") && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
    }

    #[test]
    fn a_generated_key_is_found_again_and_readable_by_nobody_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let first = MasterKey::in_file(&path).unwrap();
        assert_eq!(first.0, MasterKey::in_file(&path).unwrap().0);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(format!("{first:?}"), "MasterKey(..)");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_key_file_that_holds_no_key_is_named_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for wrong in ["", "hunter2", &"x".repeat(100_000)] {
            std::fs::write(&path, wrong).unwrap();
            let error = MasterKey::in_file(&path).unwrap_err().to_string();
            assert!(error.contains("master.key must be") && !error.contains("hunter2"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong);
        }
    }
}
