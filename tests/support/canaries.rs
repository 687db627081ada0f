//! Secrets that can be recognised, in whatever way they are written down.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Part of every secret that a test can choose.
pub const MARK: &str = "c4naryS3cret";

/// A secret.
pub fn secret(name: &str) -> String {
    format!("{MARK}{name}")
}

/// What is looked for.
pub struct Canaries(Vec<String>);

impl Canaries {
    /// All secrets with the mark, and these.
    pub fn new(others: &[&str]) -> Self {
        let mut canaries = Self(writings(MARK));
        others.iter().for_each(|secret| canaries.add(secret));
        canaries
    }

    /// Adds a secret that was made by somebody else.
    pub fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 16, "{secret} may stand somewhere by chance");
        self.0.extend(writings(secret));
    }

    /// The first one, with what is around it.
    pub fn find<'a>(&self, text: &'a str) -> Option<&'a str> {
        let at = self.0.iter().find_map(|writing| text.find(writing.as_str()))?;
        let (from, to) = (at.saturating_sub(200), text.len().min(at + 200));
        Some(&text[text.floor_char_boundary(from)..text.ceil_char_boundary(to)])
    }
}

/// Ways in which a text may be written down.
fn writings(text: &str) -> Vec<String> {
    let numbers = |separator| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(separator);
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut all = vec![text.to_owned(), numbers(", "), numbers(","), hex.to_uppercase(), hex];
    // Inside something longer in base64 it stands in one of three ways; its edges depend on what is around.
    for before in 0..3 {
        let padded = [&vec![b'x'; before][..], text.as_bytes()].concat();
        let sure = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
        for code in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            all.push(code[sure.clone()].to_owned());
        }
    }
    all
}
