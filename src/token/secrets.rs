//! Secrets from where `env:` and `file:` references point.

use std::fs;
use std::io::Read as _;

use secrecy::SecretString;
use standpipe_api::{Problem, Problems, Result, SecretRef, Secrets};

/// Longer files are no secrets.
const LONGEST: u64 = 64 * 1024;

/// The environment and files of this process.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSecrets;

impl Secrets for ProcessSecrets {
    fn read(&self, reference: &SecretRef) -> Result<SecretString, String> {
        match reference {
            SecretRef::Env(name) => std::env::var(name)
                .map(SecretString::from)
                .map_err(|_| format!("the environment variable {name} is not set, or not to text")),
            SecretRef::File(path) => {
                let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
                let mut text = String::new();
                fs::File::open(path)
                    .map_err(wrong)?
                    .take(LONGEST)
                    .read_to_string(&mut text)
                    .map_err(wrong)?;
                let bare = text.trim_end_matches(['\r', '\n']);
                if bare.is_empty() {
                    Err(format!("{} is empty", path.display()))
                } else {
                    Ok(bare.to_owned().into())
                }
            }
        }
    }
}

/// Reads the secret that a key of a table refers to.
pub(super) fn resolve(key: &str, reference: &str, secrets: &dyn Secrets) -> Result<SecretString, Problems> {
    let found = SecretRef::parse(reference).and_then(|reference| secrets.read(&reference));
    found.map_err(|text| vec![Problem::at(key, text)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_file_loses_the_newline_that_editors_add() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret \n").unwrap();
        let secret = ProcessSecrets.read(&SecretRef::File(file.path().into())).unwrap();
        assert_eq!(secret.expose_secret(), "s3cret ");
    }

    #[test]
    fn a_value_in_place_of_a_reference_is_refused_without_repeating_it() {
        let problems = resolve("password", "hunter2", &ProcessSecrets).unwrap_err();
        assert!(problems[0].to_string().starts_with("password: must be `env:NAME`"), "{problems:?}");
        assert!(!problems[0].to_string().contains("hunter2"));
        let missing = resolve("token", "env:STANDPIPE_TEST_UNSET", &ProcessSecrets).unwrap_err();
        assert!(missing[0].to_string().contains("STANDPIPE_TEST_UNSET is not set"));
    }
}
