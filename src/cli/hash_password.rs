//! `standpipe hash-password`: from a password to what stands in the configuration.

use std::io::{Read as _, Write};
use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use zeroize::Zeroizing;

/// Longer input is no password.
const LONGEST: u64 = 1024;

/// Reads a password from standard input, up to a newline at its end, and prints its Argon2id hash.
///
/// # Errors
/// There is no password, or it cannot be hashed.
pub(super) fn run(out: &mut dyn Write) -> Result<ExitCode, String> {
    let mut password = Zeroizing::new(String::new());
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut password);
    read.map_err(|error| format!("cannot read the password: {error}"))?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(
            "no password on standard input; try: printf %s \"$PASSWORD\" | standpipe hash-password".into()
        );
    }
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    let hash = hash.map_err(|error| format!("cannot hash the password: {error}"))?;
    writeln!(out, "{hash}").map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
