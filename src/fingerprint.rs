//! Keyed hashes of credentials, so that caches in memory never hold the credentials themselves.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// A hash under a key of this process that nobody can foresee.
pub struct Fingerprints {
    key: [u8; 16],
    usable: bool,
}

impl Fingerprints {
    /// Draws the key.
    pub fn new() -> Self {
        let mut key = [0; 16];
        let usable = aws_lc_rs::rand::fill(&mut key).is_ok();
        Self { key, usable }
    }

    /// How many entries a cache under this key may hold. The operating system's generator fails only where nothing
    /// else would work either; a key of zeros could be guessed, so then nothing is remembered.
    pub fn capacity(&self, entries: u64) -> u64 {
        if self.usable { entries } else { 0 }
    }

    /// The hash of a text in several parts; the lengths count. SipHash-1-3, as the standard library's maps have it: every
    /// call of a caller with a token pays for each byte of it.
    pub fn of(&self, parts: &[&[u8]]) -> u128 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self::new()
    }
}
