//! A provider as extensions see it: no credentials, no sockets.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{ProviderId, RemoteScope, Settings};

/// A named upstream with a dialect and a base URL.
#[derive(Clone)]
pub struct Provider {
    /// Its configured name.
    pub id: ProviderId,
    /// The name of the [`crate::Dialect`] it speaks.
    pub dialect: &'static str,
    /// Its base URL without a trailing slash; may hold a dialect's own placeholders.
    pub url: String,
    /// Whether what cannot be resolved goes here when searching is off (at most one per dialect).
    pub local: bool,
    /// Where relative paths in its settings begin: the folder of the configuration file.
    pub folder: Arc<Path>,
    /// Whether it takes anything new.
    pub availability: Availability,
    /// What the dialect made of the keys of the provider's table that the engine does not know.
    pub settings: Settings,
}

/// Whether a provider takes anything new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// It serves what it has: mapped resources, pins and polls. What it offers is left out of lists and catalogs, and
    /// nothing new is sent to it unless a caller names it.
    Draining,
}

impl Availability {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }

    /// What a word stands for.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Active, Self::Draining].into_iter().find(|availability| availability.as_str() == word)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("id", &self.id)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// Where a request is bound: a provider and, where its dialect has them, a scope and a service inside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The provider.
    pub provider: ProviderId,
    /// The scope the credential is asked for, for example a Keystone project.
    pub remote_scope: Option<RemoteScope>,
    /// The base URL to use instead of the provider's own; must be one of the provider's known bases.
    pub endpoint: Option<String>,
}

impl Target {
    /// The provider itself, with no scope and its own base URL.
    pub fn provider(provider: ProviderId) -> Self {
        Self { provider, remote_scope: None, endpoint: None }
    }

    /// The same target in a scope.
    #[must_use]
    pub fn in_scope(mut self, scope: RemoteScope) -> Self {
        self.remote_scope = Some(scope);
        self
    }
}

impl From<&Provider> for Target {
    fn from(provider: &Provider) -> Self {
        Self::provider(provider.id.clone())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.remote_scope {
            Some(scope) => write!(f, "{}/{scope}", self.provider),
            None => write!(f, "{}", self.provider),
        }
    }
}
