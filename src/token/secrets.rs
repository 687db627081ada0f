//! Secrets from where `env:`, `file:` and `document:` references point.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use secrecy::SecretString;
use standpipe_api::{SecretFollower, SecretRef, Secrets};

use super::document::{Document, DocumentSource};
use super::follow::SecretFiles;

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
            SecretRef::File(path) => read_file(path),
            SecretRef::Document(name) => {
                Err(format!("there is no credentials_document here that could hold `{name}`"))
            }
            SecretRef::Sealed(key) => Err(format!(
                "no value is sealed here as `{key}`; values are given with a provider at run time, as {{\"value\": \"...\"}}"
            )),
        }
    }
}

fn read_file(path: &Path) -> Result<SecretString, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = String::new();
    fs::File::open(path).map_err(wrong)?.take(LONGEST).read_to_string(&mut text).map_err(wrong)?;
    let bare = text.trim_end_matches(['\r', '\n']);
    if bare.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(bare.to_owned().into()) }
}

/// The same, with files followed, and for one provider with its credentials document.
#[derive(Clone, Default)]
pub struct FollowedSecrets {
    files: Arc<SecretFiles>,
    document: Option<DocumentSource>,
    sealed: Arc<Sealed>,
}

/// Secrets that were given with a provider, by the key path of where they belong.
pub type Sealed = BTreeMap<String, SecretString>;

impl FollowedSecrets {
    /// Secrets whose files are looked at together with those.
    pub fn new(files: Arc<SecretFiles>) -> Self {
        Self { files, document: None, sealed: Arc::default() }
    }

    /// The same secrets and those in a document.
    pub(super) fn with_document(&self, document: DocumentSource) -> Self {
        Self { document: Some(document), ..self.clone() }
    }

    /// The same secrets and those that were given with a provider.
    #[must_use]
    pub fn with_sealed(self, sealed: Arc<Sealed>) -> Self {
        Self { sealed, ..self }
    }

    /// The files that are followed.
    #[cfg(test)]
    pub(super) fn files(&self) -> &SecretFiles {
        &self.files
    }
}

impl Secrets for FollowedSecrets {
    fn read(&self, reference: &SecretRef) -> Result<SecretString, String> {
        match (reference, &self.document) {
            (SecretRef::Document(name), Some(source)) => Document::load(source)?.secret(name),
            (SecretRef::Sealed(key), _) => {
                self.sealed.get(key).cloned().map_or_else(|| ProcessSecrets.read(reference), Ok)
            }
            _ => ProcessSecrets.read(reference),
        }
    }

    fn follow(&self, reference: &SecretRef, follower: SecretFollower) {
        let paths = match (reference, &self.document) {
            (SecretRef::File(path), _) => vec![path.clone()],
            (SecretRef::Document(_), Some(source)) => source.files(),
            _ => Vec::new(),
        };
        if paths.is_empty() {
            return;
        }
        let (own, reference) = (self.clone(), reference.clone());
        self.files.follow(paths, Box::new(move || own.read(&reference)), follower);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::follow::Live;
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
        let resolve = |key, reference| {
            Live::of(key, reference, &ProcessSecrets, |_| Ok(())).err().expect("it was accepted")
        };
        let problems = resolve("password", "hunter2");
        assert!(problems[0].to_string().starts_with("password: must be `env:NAME`"), "{problems:?}");
        assert!(!problems[0].to_string().contains("hunter2"));
        let missing = resolve("token", "env:STANDPIPE_TEST_UNSET");
        assert!(missing[0].to_string().contains("STANDPIPE_TEST_UNSET is not set"));
    }
}
