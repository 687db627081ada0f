//! The address of one end of a mediated pipe: known before any broker is asked (decision 38).

use serde::{Deserialize, Serialize};
use standpipe_api::{Provider, ProviderId, ResourceId};

use crate::path;

/// One end of a pipe: a pipe as its own broker keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct EndAddress {
    pub(crate) provider: ProviderId,
    pub(crate) resource: ResourceId,
    /// Empty for the resource's pipes as a whole.
    pub(crate) pipe: String,
}

impl EndAddress {
    /// What a path of a provider is about: a resource's segment, and the path behind it.
    pub(super) fn read(provider: ProviderId, resource: &str, rest: &str) -> Option<Self> {
        let resource = path::decode(resource)?.into_owned();
        let (word, rest) = path::split_first(rest);
        let pipe = match (word, path::split_first(rest)) {
            ("pipes", (pipe, "")) => path::decode(pipe)?.into_owned(),
            _ => String::new(),
        };
        Some(Self { provider, resource: resource.as_str().into(), pipe })
    }

    /// The end whose address has this path.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let (provider, rest) = path::split_first(path.strip_prefix("/ends")?);
        let (resource, rest) = path::split_first(rest);
        let end = Self::read(provider.into(), resource, rest)?;
        // Only the address as we write it, so that nobody has two names.
        (!end.pipe.is_empty() && end.path() == path).then_some(end)
    }

    /// The end whose address this is.
    pub(super) fn of_uri(uri: &str, public_url: &str) -> Option<Self> {
        Self::of_path(uri.strip_prefix(public_url)?)
    }

    /// The pipe that an address under a provider's url names.
    pub(super) fn at(provider: &Provider, uri: &str) -> Option<Self> {
        let base = provider.url.split_once("/{resource}").map_or(provider.url.as_str(), |(base, _)| base);
        let inside = uri.strip_prefix(base).filter(|inside| inside.starts_with('/'))?;
        let (resource, rest) = path::split_first(inside);
        let end = Self::read(provider.id.clone(), resource, rest)?;
        (!end.pipe.is_empty() && !end.resource.as_str().is_empty()).then_some(end)
    }

    /// The path of its address.
    pub(super) fn path(&self) -> String {
        format!("/ends/{}{}", self.provider, self.own_path())
    }

    /// Its address.
    pub(super) fn uri(&self, public_url: &str) -> String {
        format!("{public_url}{}", self.path())
    }

    /// Its path as its broker knows it.
    pub(super) fn own_path(&self) -> String {
        format!("/{}/pipes/{}", path::encode(self.resource.as_str()), path::encode(&self.pipe))
    }

    /// The same resource's pipe of another name.
    pub(super) fn named(provider: &ProviderId, resource: &ResourceId, pipe: &str) -> Self {
        Self { provider: provider.clone(), resource: resource.clone(), pipe: pipe.to_owned() }
    }
}
