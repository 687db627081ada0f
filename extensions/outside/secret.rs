//! Secrets that a table refers to.

use std::io::Read as _;

use standpipe_api::SecretRef;

/// Longer files are no secrets.
const LONGEST: u64 = 64 * 1024;

/// The secret's text, without the newline that editors put at the end of a file.
///
/// # Errors
/// A sentence that says what is missing; it never holds the secret.
pub(crate) fn read(reference: &SecretRef) -> Result<String, String> {
    match reference {
        SecretRef::Env(name) => {
            std::env::var(name).map_err(|_| format!("the environment variable {name} is not set to text"))
        }
        SecretRef::File(path) => {
            let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(wrong)?;
            file.take(LONGEST).read_to_string(&mut text).map_err(wrong)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        SecretRef::Document(_) | SecretRef::Sealed(_) => {
            Err("must be `env:NAME` or `file:path`; the others are for providers' credentials".into())
        }
    }
}

/// A new secret: 192 random bits, written as hex digits.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn random() -> Result<String, &'static str> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(bytes.iter().fold(String::with_capacity(48), |text, byte| text + &format!("{byte:02x}")))
}
