//! What travels between peers: mappings given together, all taken or none.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use standpipe_api::{
    Error, Injection, Kind, Mapping, MappingState, Origin, PeerId, ProviderId, RemoteScope, Resource,
    ResourceId, Result, Scope, Timestamp,
};

/// Mappings of one batch.
const MOST: usize = 1000;
/// Bytes of a batch.
pub const MOST_BYTES: usize = 1 << 20;
/// Bytes of an id.
const LONGEST_ID: usize = 4096;
/// Bytes of a token.
const LONGEST_TOKEN: usize = 16 << 10;

/// Mappings given together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    /// When they were given, by the giver's clock: what was given later counts, whatever arrives first.
    pub(super) given_at: Timestamp,
    /// Where resources live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) resources: Vec<GivenResource>,
    /// What callers' tokens became at providers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) tokens: Vec<GivenToken>,
}

/// Where a resource lives, as a peer says it.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A provider's token for the callers that bring a token of this hash.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenToken {
    pub(super) caller: TokenHash,
    pub(super) provider: ProviderId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remote_scope: Option<RemoteScope>,
    pub(super) token: Secret,
    pub(super) expires_at: Timestamp,
}

/// SHA-256 of a caller's token; in base64url where it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenHash(pub(super) [u8; 32]);

/// A secret that travels.
#[derive(Clone)]
pub(super) struct Secret(pub(super) SecretString);

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
        let mut batch = Self { given_at: now, resources: Vec::new(), tokens: Vec::new() };
        for injection in injections {
            match injection {
                Injection::Resource(mapping) => batch.resources.push(GivenResource::of(mapping, latest)),
                Injection::Token { caller_token, provider, remote_scope, provider_token, expires_at } => {
                    batch.tokens.push(GivenToken {
                        caller: TokenHash::of(caller_token),
                        provider: provider.clone(),
                        remote_scope: remote_scope.clone(),
                        token: Secret(provider_token.clone()),
                        expires_at: (*expires_at).min(latest),
                    });
                }
            }
        }
        Ok(batch)
    }

    /// How many mappings it holds.
    pub(super) fn len(&self) -> usize {
        self.resources.len() + self.tokens.len()
    }

    /// Reads what a peer sent.
    ///
    /// # Errors
    /// It is no batch, empty, or too large.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        // What a parser says of a value may repeat it, and a value may be a token.
        let batch: Self = serde_json::from_slice(body).map_err(|error| {
            let place = (error.line(), error.column());
            Error::invalid(format!("the body is no batch of mappings: line {}, column {}", place.0, place.1))
        })?;
        if batch.len() == 0 || batch.len() > MOST {
            return Err(Error::invalid(format!("a batch holds 1 to {MOST} mappings, not {}", batch.len())));
        }
        for (at, given) in batch.resources.iter().enumerate() {
            let parent = given.parent.as_ref().map_or("-", ResourceId::as_str);
            let texts = [("kind", given.kind.as_str()), ("parent", parent), ("id", given.id.as_str())];
            for (what, text) in texts {
                sized(&format!("resources[{at}].{what}"), text, LONGEST_ID)?;
            }
            sized(&format!("resources[{at}].scope"), &format!("-{}", given.scope.as_str()), LONGEST_ID)?;
        }
        for (at, given) in batch.tokens.iter().enumerate() {
            sized(&format!("tokens[{at}].token"), given.token.0.expose_secret(), LONGEST_TOKEN)?;
        }
        let scopes = batch.resources.iter().map(|given| &given.remote_scope);
        for scope in scopes.chain(batch.tokens.iter().map(|given| &given.remote_scope)).flatten() {
            sized("remote_scope", scope.as_str(), LONGEST_ID)?;
        }
        Ok(batch)
    }

    /// Lets go of what has ended; `false` when nothing is left.
    pub(super) fn drop_ended(&mut self, now: Timestamp) -> bool {
        self.resources.retain(|given| now < given.expires_at);
        self.tokens.retain(|given| now < given.expires_at);
        self.len() > 0
    }

    /// When the last of them ends.
    pub(super) fn end(&self) -> Timestamp {
        let resources = self.resources.iter().map(|given| given.expires_at);
        let ends = resources.chain(self.tokens.iter().map(|given| given.expires_at));
        ends.max().unwrap_or(self.given_at)
    }

    /// Names what it is about, so that news of the same takes its place.
    pub(super) fn subjects(&self) -> impl Iterator<Item = String> {
        let resources = self.resources.iter().map(|given| {
            let resource = (given.kind.as_str(), &given.parent, given.id.as_str(), given.scope.as_str());
            format!("{resource:?}")
        });
        let tokens = self.tokens.iter().map(|given| {
            let token = (given.caller.0, given.provider.as_str(), &given.remote_scope);
            format!("{token:?}")
        });
        resources.chain(tokens)
    }
}

fn sized(place: &str, text: &str, most: usize) -> Result<()> {
    if text.is_empty() || text.len() > most {
        return Err(Error::invalid(format!("{place}: must have 1 to {most} bytes")));
    }
    Ok(())
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

impl TokenHash {
    fn of(token: &SecretString) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.expose_secret().as_bytes()).as_ref());
        Self(hash)
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        hash.map(Self).ok_or_else(|| serde::de::Error::custom("a SHA-256 hash in base64url is expected"))
    }
}

/// Of a hash that many could try tokens against, nothing is shown.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(caller: &str) -> Injection {
        Injection::Token {
            caller_token: caller.to_owned().into(),
            provider: "alpha".into(),
            remote_scope: None,
            provider_token: "pr0vider".to_owned().into(),
            expires_at: Timestamp::now().plus(Duration::from_secs(7200)),
        }
    }

    #[test]
    fn a_callers_token_does_not_travel() {
        let batch = Batch::of(&[token("c4ller")], Timestamp::now(), Duration::from_secs(60)).unwrap();
        let text = serde_json::to_string(&batch).unwrap();
        assert!(text.contains("pr0vider") && !text.contains("c4ller"), "{text}");
        assert!(!format!("{batch:?}").contains("pr0vider"));
        let read = Batch::read(text.as_bytes()).unwrap();
        assert_eq!(read.tokens[0].caller.0, TokenHash::of(&"c4ller".to_owned().into()).0);
        assert_eq!(read.end(), batch.given_at.plus(Duration::from_secs(60)), "no longer than the lifetime");
    }

    #[test]
    fn a_parsers_complaint_repeats_nothing() {
        let error = Batch::read(br#"{"given_at": "s3cret"}"#).unwrap_err();
        assert!(!error.log_text().contains("s3cret"), "{}", error.log_text());
        let error = Batch::read(br#"{"s3cret": 1}"#).unwrap_err();
        assert!(!error.log_text().contains("s3cret"), "{}", error.log_text());
    }

    #[test]
    fn what_has_ended_is_let_go() {
        let now = Timestamp::now();
        let mut batch = Batch::of(&[token("a")], now, Duration::from_secs(60)).unwrap();
        assert!(batch.drop_ended(now.plus(Duration::from_secs(59))));
        assert!(!batch.drop_ended(now.plus(Duration::from_secs(60))));
    }
}
