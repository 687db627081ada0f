//! Keyed hashes of credentials, so that caches in memory never hold the credentials themselves.

use polyval::Polyval;
use polyval::universal_hash::UniversalHash as _;

/// A hash under a key of this process that nobody can foresee.
pub struct Fingerprints {
    keyed: Polyval,
    usable: bool,
}

impl Fingerprints {
    /// Draws the key.
    pub fn new() -> Self {
        let mut key = [0; 16];
        let usable = aws_lc_rs::rand::fill(&mut key).is_ok();
        Self { keyed: Polyval::new(&key.into()), usable }
    }

    /// How many entries a cache under this key may hold. The operating system's generator fails only where nothing
    /// else would work either; a key of zeros could be guessed, so then nothing is remembered.
    pub fn capacity(&self, entries: u64) -> u64 {
        if self.usable { entries } else { 0 }
    }

    /// The hash of a text in several parts; the lengths count. POLYVAL (RFC 8452, section 3): nobody outside sees a hash, so
    /// that two texts of n blocks have the same with a chance of n in 2^128, whoever chose them. Every call of a caller with a
    /// token pays for each byte of it.
    pub fn of(&self, parts: &[&[u8]]) -> u128 {
        let mut hash = self.keyed.clone();
        for part in parts {
            // Never a block of zeros: one that comes first would not count.
            hash.update_padded(&(part.len() as u128 + 1).to_le_bytes());
            hash.update_padded(part);
        }
        u128::from_le_bytes(hash.finalize().into())
    }
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_have_hashes_that_differ() {
        let fingerprints = Fingerprints::new();
        let long = [b'x'; 800];
        let texts: [&[&[u8]]; 9] = [
            &[b""],
            &[b"", b""],
            &[b"\0"],
            &[b"", b"\0"],
            &[b"ab", b"c"],
            &[b"a", b"bc"],
            &[b"abc"],
            &[&long],
            &[&long[..799]],
        ];
        for (at, text) in texts.iter().enumerate() {
            for other in &texts[..at] {
                assert_ne!(fingerprints.of(text), fingerprints.of(other), "{text:?} {other:?}");
            }
            assert_eq!(fingerprints.of(text), fingerprints.of(text));
            assert_ne!(fingerprints.of(text), Fingerprints::new().of(text), "{text:?}");
        }
    }
}
