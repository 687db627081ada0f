//! Where a request goes, and how that was found.

use std::sync::Arc;

use standpipe_api::{CredentialAlias, Error, ErrorKind, Fault, Mapping, RemoteScope, Result, Target};

use crate::engine::{Running, lives_where_nobody_works};
use crate::providers::Provider;

/// Where a request goes.
#[derive(Clone)]
pub struct Place {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The base URL, when it is not the one the dialect makes.
    pub endpoint: Option<String>,
    /// The scope inside the provider.
    pub remote_scope: Option<RemoteScope>,
    /// The credential the resource was created with.
    pub credential: Option<CredentialAlias>,
    /// The mapping that was followed.
    pub mapping: Option<Arc<Mapping>>,
    /// The tombstone at another provider that was not followed; it is out of date if the thing is here.
    pub past: Option<Arc<Mapping>>,
    /// How it was found.
    pub by: By,
}

/// How a provider was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The caller chose it, by path or header.
    Pinned,
    /// An extension chose it.
    TakenOver,
    /// A mapping names it.
    Mapped,
    /// Its index knows an id of the request.
    Index,
    /// There is no other of its dialect.
    Only,
    /// Searching is off, and it is the local one.
    Local,
    /// It alone said yes, and all others no.
    Flood,
    /// It alone said yes, and others were silent: true for a moment, and no mapping.
    PartialFlood,
}

impl By {
    /// The word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::TakenOver => "extension",
            Self::Mapped => "mapped",
            Self::Index => "index",
            Self::Only => "only",
            Self::Local => "local",
            Self::Flood => "flood",
            Self::PartialFlood => "partial-flood",
        }
    }
}

impl Place {
    /// A provider, found somehow.
    pub fn at(provider: Arc<Provider>, by: By) -> Self {
        Self { provider, endpoint: None, remote_scope: None, credential: None, mapping: None, past: None, by }
    }

    /// Where a mapping leads, whoever asks.
    ///
    /// # Errors
    /// Its provider is not configured, or cannot be put to work.
    pub fn of(mapping: Arc<Mapping>, running: &Running) -> Result<Self> {
        let absent = || match running.is_left_out(&mapping.provider) {
            true => lives_where_nobody_works(&mapping.resource, &mapping.provider),
            false => not_configured(&mapping),
        };
        let provider = running.find(&mapping.provider).ok_or_else(absent)?;
        let mut place = Self::at(provider.clone(), By::Mapped);
        place.follow(mapping);
        Ok(place)
    }

    pub(super) fn follow(&mut self, mapping: Arc<Mapping>) {
        self.endpoint.clone_from(&mapping.endpoint);
        self.remote_scope.clone_from(&mapping.remote_scope);
        self.credential.clone_from(&mapping.credential);
        self.mapping = Some(mapping);
    }

    /// As extensions name it.
    pub fn target(&self) -> Target {
        Target {
            provider: self.provider.id().clone(),
            remote_scope: self.remote_scope.clone(),
            endpoint: self.endpoint.clone(),
        }
    }
}

fn not_configured(mapping: &Mapping) -> Error {
    let public = format!("{} lives at {}, which is not configured", mapping.resource, mapping.provider);
    let fault = Fault::Provider(mapping.provider.clone());
    Error::new(ErrorKind::CouldNotAsk, fault, public)
        .advise("an operator configures the provider again, or forgets the mapping")
}
