//! What travels between peers: mappings given together, all taken or none.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use standpipe_api::{
    Error, Injection, Kind, Mapping, MappingState, Origin, PeerId, ProviderId, RemoteScope, Resource,
    ResourceId, Result, Scope, Timestamp,
};

/// Mappings of one batch.
pub(super) const MOST: usize = 1000;
/// Bytes of a batch.
pub const MOST_BYTES: usize = 1 << 20;
/// Bytes of an id.
const LONGEST_ID: usize = 4096;

/// Mappings given together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// When they were given, by the giver's clock: what was given later counts, whatever arrives first.
    pub(super) given_at: Timestamp,
    /// Where resources live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resources: Vec<GivenResource>,
}

/// Where a resource lives, as a peer says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenResource {
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<ResourceId>,
    pub(super) id: ResourceId,
    #[serde(default, skip_serializing_if = "is_shared")]
    pub(super) scope: Scope,
    pub(super) provider: ProviderId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remote_scope: Option<RemoteScope>,
    pub(super) expires_at: Timestamp,
}

fn is_shared(scope: &Scope) -> bool {
    *scope == Scope::SHARED
}

impl Batch {
    /// What extensions want given, ending no later than after `lifetime`.
    ///
    /// # Errors
    /// Nothing, or too much.
    pub(super) fn of(injections: &[Injection], now: Timestamp, lifetime: Duration) -> Result<Self> {
        if injections.is_empty() || injections.len() > MOST {
            let count = injections.len();
            return Err(Error::internal(format!("{count} mappings are given at once: 1 to {MOST} can be")));
        }
        let latest = now.plus(lifetime);
        let mut batch = Self { given_at: now, resources: Vec::new() };
        for injection in injections {
            match injection {
                Injection::Resource(mapping) => batch.resources.push(GivenResource::of(mapping, latest)),
                Injection::Token { .. } => return Err(Error::internal("tokens cannot be given yet")),
            }
        }
        Ok(batch)
    }

    /// How many mappings it holds.
    pub(super) fn len(&self) -> usize {
        self.resources.len()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// It is no batch, empty, or too large.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let batch: Self = serde_json::from_slice(body)
            .map_err(|error| Error::invalid(format!("the body is no batch of mappings: {error}")))?;
        if batch.len() == 0 || batch.len() > MOST {
            return Err(Error::invalid(format!("a batch holds 1 to {MOST} mappings, not {}", batch.len())));
        }
        for (at, given) in batch.resources.iter().enumerate() {
            let parent = given.parent.as_ref().map_or("-", ResourceId::as_str);
            for (what, text) in [("kind", given.kind.as_str()), ("parent", parent), ("id", given.id.as_str())]
            {
                if text.is_empty() || text.len() > LONGEST_ID {
                    let text = format!("resources[{at}].{what}: must have 1 to {LONGEST_ID} bytes");
                    return Err(Error::invalid(text));
                }
            }
        }
        Ok(batch)
    }

    /// Lets go of what has ended; `false` when nothing is left.
    pub(super) fn drop_ended(&mut self, now: Timestamp) -> bool {
        self.resources.retain(|given| now < given.expires_at);
        self.len() > 0
    }

    /// When the last of them ends.
    pub(super) fn end(&self) -> Timestamp {
        let ends = self.resources.iter().map(|given| given.expires_at);
        ends.max().unwrap_or(self.given_at)
    }

    /// Names what it is about, so that news of the same takes its place.
    pub(super) fn subjects(&self) -> impl Iterator<Item = String> {
        self.resources.iter().map(|given| {
            let resource = (given.kind.as_str(), &given.parent, given.id.as_str(), given.scope.as_str());
            format!("{resource:?}")
        })
    }
}

impl GivenResource {
    fn of(mapping: &Mapping, latest: Timestamp) -> Self {
        let Resource { kind, parent, id, scope } = mapping.resource.clone();
        Self {
            kind,
            parent,
            id,
            scope,
            provider: mapping.provider.clone(),
            endpoint: mapping.endpoint.clone(),
            remote_scope: mapping.remote_scope.clone(),
            expires_at: mapping.expires_at.map_or(latest, |end| end.min(latest)),
        }
    }

    /// The row it becomes, ending no later than at `latest`.
    pub(super) fn row(self, peer: &PeerId, given_at: Timestamp, latest: Timestamp) -> Mapping {
        let resource = Resource { kind: self.kind, parent: self.parent, id: self.id, scope: self.scope };
        Mapping {
            endpoint: self.endpoint,
            remote_scope: self.remote_scope,
            state: MappingState::Live,
            origin: Origin::Injected,
            peer: Some(peer.clone()),
            expires_at: Some(self.expires_at.min(latest)),
            ..Mapping::learned(resource, self.provider, given_at)
        }
    }
}
