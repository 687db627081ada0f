//! `standpipe hash-password`: from a password to what stands in the configuration.

use std::io::{IsTerminal as _, Read as _, Write};
use std::process::ExitCode;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use zeroize::Zeroizing;

/// Longer input is no password.
const LONGEST: u64 = 1024;

/// Takes a password, twice and unseen from a terminal or once from a pipe, up to a newline at its end, and prints its
/// Argon2id hash.
///
/// # Errors
/// There is no password, the two differ, or it cannot be hashed.
pub(super) fn run(out: &mut dyn Write) -> Result<ExitCode, String> {
    let password = if std::io::stdin().is_terminal() { typed()? } else { piped()? };
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(
            "no password on standard input; try: printf %s \"$PASSWORD\" | standpipe hash-password".into()
        );
    }
    writeln!(out, "{}", hash(password)?).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// A password's Argon2id hash, as `password_hash` of a caller holds it.
///
/// # Errors
/// The system gives no random bytes, or Argon2 refuses the password.
pub(super) fn hash(password: &str) -> Result<String, String> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system gives no random bytes")?;
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| format!("cannot hash the password: {error}"))
}

fn piped() -> Result<Zeroizing<String>, String> {
    let mut password = Zeroizing::new(String::new());
    let read = std::io::stdin().take(LONGEST).read_to_string(&mut password);
    read.map(|_| password).map_err(unreadable)
}

/// What nobody sees while it is typed is typed twice.
fn typed() -> Result<Zeroizing<String>, String> {
    let ask = |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(unreadable);
    let password = ask("Password: ")?;
    if ask("Again: ")? == password { Ok(password) } else { Err("the two passwords differ".into()) }
}

fn unreadable(error: std::io::Error) -> String {
    format!("cannot read the password: {error}")
}
