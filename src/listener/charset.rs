//! Sets of bytes, looked up and not compared: every byte of every name in a head is held against one.

/// Some of the bytes there are.
pub(super) struct Charset([bool; 256]);

impl Charset {
    /// Letters and digits of ASCII, and others.
    #[expect(clippy::indexing_slicing, reason = "computed by the compiler, which would refuse it")]
    pub(super) const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut held = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            held[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            held[others[at] as usize] = true;
            at += 1;
        }
        Self(held)
    }

    /// Whether all of these are among them.
    pub(super) fn holds_all(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.0.get(usize::from(*byte)).is_some_and(|held| *held))
    }
}
