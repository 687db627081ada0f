//! Configuration as extensions see it: their own tables, and problems with a key path.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `provider[2].resources[0].url`; relative to the table that was checked.
    pub path: String,
    /// What is wrong and what to write instead.
    pub text: String,
}

/// All mistakes of a table at once.
pub type Problems = Vec<Problem>;

impl Problem {
    /// A mistake at a key path.
    pub fn at(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }

    /// The same mistake seen from the table above.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.path = match (prefix, self.path.as_str()) {
            ("", _) => self.path,
            (_, "") => prefix.to_owned(),
            (_, path) if path.starts_with('[') => format!("{prefix}{path}"),
            (_, path) => format!("{prefix}.{path}"),
        };
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

/// Settings a dialect or extension parsed once, kept by the engine without knowing their type.
#[derive(Clone)]
pub struct Settings(Arc<dyn Any + Send + Sync>);

impl Settings {
    /// Wraps parsed settings.
    pub fn new<T: Any + Send + Sync>(settings: T) -> Self {
        Self(Arc::new(settings))
    }

    /// The settings again, for the code that parsed them.
    pub fn of<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    /// Reads a table into a serde type; an unknown key or a wrong type is a problem, if the type denies unknown fields.
    ///
    /// # Errors
    /// The mistakes, each at its key path. Of several keys that one table lacks the first is told.
    pub fn read<T: DeserializeOwned>(table: &toml::Table) -> Result<T, Problems> {
        match Self::examine(table) {
            (Some(read), problems) if problems.is_empty() => Ok(read),
            (_, problems) => Err(problems),
        }
    }

    /// Reads a table as far as it goes, for whoever has more to check: what is wrong is as if it were absent, and stands among
    /// the mistakes; `None` where a key is missing that must be there.
    pub fn examine<T: DeserializeOwned>(table: &toml::Table) -> (Option<T>, Problems) {
        crate::reading::examine(table)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings(..)")
    }
}

/// Where a secret is found. Configuration holds references, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`
    Env(String),
    /// `file:/path`, without the newline at its end.
    File(PathBuf),
    /// `document:NAME`: the private key of that name in the provider's credentials document.
    Document(String),
    /// `sealed:KEY`: a value that was given with a provider at run time and is sealed in the store.
    Sealed(String),
}

impl SecretRef {
    /// Parses `env:NAME`, `file:path`, `document:NAME` or `sealed:KEY`.
    ///
    /// # Errors
    /// A sentence that says what to write; it never repeats the text, which may be a secret written by mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(PathBuf::from(path))),
            Some(("document", name)) if !name.is_empty() => Ok(Self::Document(name.to_owned())),
            Some(("sealed", key)) if !key.is_empty() => Ok(Self::Sealed(key.to_owned())),
            _ => {
                Err("must be `env:NAME` or `file:path`; a secret never stands in the configuration itself"
                    .into())
            }
        }
    }
}
