//! What a request is about, and what in it tells where that lives.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Kind, ResourceId, Scope};

/// A thing with an id that lives at one provider. The four fields together are the key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    /// What it is, in the dialect's words.
    pub kind: Kind,
    /// The resource within which `id` is unique; a pipe is named within its resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ResourceId>,
    /// Its id.
    pub id: ResourceId,
    /// The tenant that chose the id, where callers choose ids.
    #[serde(default, skip_serializing_if = "is_shared")]
    pub scope: Scope,
}

fn is_shared(scope: &Scope) -> bool {
    *scope == Scope::SHARED
}

impl Resource {
    /// A resource that stands on its own.
    pub fn new(kind: Kind, id: impl Into<ResourceId>) -> Self {
        Self { kind, parent: None, id: id.into(), scope: Scope::SHARED }
    }

    /// The same, named within a parent.
    #[must_use]
    pub fn within(mut self, parent: impl Into<ResourceId>) -> Self {
        self.parent = Some(parent.into());
        self
    }
}

/// As people write it: `pipe db/frontend`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(parent) = &self.parent {
            write!(f, "{parent}/")?;
        }
        write!(f, "{}", self.id)
    }
}

/// An id in a request that a provider's index may know although the request's resource is unmapped:
/// the resource's own configured id, a service id, a plan id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    /// What the value is, in the dialect's words.
    pub kind: Kind,
    /// The value.
    pub value: ResourceId,
}

impl Hint {
    /// A hint of a kind.
    pub fn new(kind: Kind, value: impl Into<ResourceId>) -> Self {
        Self { kind, value: value.into() }
    }
}
