//! Where a resource lives, and how we know.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{CallerId, CredentialAlias, Hint, PeerId, ProviderId, RemoteScope, Resource};

/// A row of the resource mapping table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The key.
    #[serde(flatten)]
    pub resource: Resource,
    /// The provider it lives at.
    pub provider: ProviderId,
    /// The base URL it answers under, when that is not the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The scope inside the provider, for example a Keystone project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_scope: Option<RemoteScope>,
    /// The credential that created it and is used for every later call on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialAlias>,
    /// The caller that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<CallerId>,
    /// The tenant of that caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The ids that led to the provider when it was created, or that it has to do with since.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hints")]
    pub hints: Vec<Hint>,
    /// Where it is in its life.
    pub state: MappingState,
    /// How we know.
    pub origin: Origin,
    /// When the row was first written.
    pub created_at: Timestamp,
    /// When the row was last written.
    pub updated_at: Timestamp,
    /// When the row stops being used: the end of a tombstone, of an injected mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The peer that told us, of an injected mapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
}

impl Mapping {
    /// A live mapping learned at `now`.
    pub fn learned(resource: Resource, provider: ProviderId, now: Timestamp) -> Self {
        Self {
            resource,
            provider,
            endpoint: None,
            remote_scope: None,
            credential: None,
            owner: None,
            tenant: None,
            hints: Vec::new(),
            state: MappingState::Live,
            origin: Origin::Learned,
            created_at: now,
            updated_at: now,
            expires_at: None,
            peer: None,
        }
    }

    /// Whether the row counts at `now`. An expired row is as if it were not there.
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// The life of a mapping: claim, confirm, forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MappingState {
    /// Claimed: the creating call is about to be sent or is on its way.
    Intent,
    /// The creating call may or may not have worked; the provider must be asked.
    Maybe,
    /// The provider said it exists.
    Live,
    /// The provider accepted a deletion that it has not finished.
    Deleting,
    /// A tombstone: deleted, still routed for polls and repeated deletes.
    Gone,
}

impl MappingState {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Maybe => "maybe",
            Self::Live => "live",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
        }
    }
}

/// How a mapping came to be known. A row never replaces one of another origin by injection or import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A call through this standpipe created the resource.
    Created,
    /// A search found it, or an answer named it.
    Learned,
    /// A provider's list named it.
    Listed,
    /// A peer told us; what is learned or claimed here takes its place.
    Injected,
    /// An operator told us.
    Imported,
}

impl Origin {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Learned => "learned",
            Self::Listed => "listed",
            Self::Injected => "injected",
            Self::Imported => "imported",
        }
    }
}

/// A moment, in milliseconds since 1970-01-01T00:00:00Z; written as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment, from its milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The machine's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and then some; stops at the end of time instead of overflowing.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime writes the years 1970 to 9999 and refuses the rest.
        const LAST: i64 = 253_402_300_799_999;
        let millis = u64::try_from(self.0.clamp(0, LAST)).unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339_weak(&text).map_err(serde::de::Error::custom)?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(serde::de::Error::custom)?;
        Ok(Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Hints travel as `{"kind": "value"}` pairs in a list, so that two of one kind both survive.
mod hints {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::{Hint, Kind};

    #[derive(Serialize, Deserialize)]
    struct Row {
        kind: String,
        value: String,
    }

    pub(super) fn serialize<S: Serializer>(hints: &[Hint], serializer: S) -> Result<S::Ok, S::Error> {
        let rows = hints
            .iter()
            .map(|hint| Row { kind: hint.kind.as_str().to_owned(), value: hint.value.as_str().to_owned() });
        rows.collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Hint>, D::Error> {
        let rows = Vec::<Row>::deserialize(from)?;
        Ok(rows.into_iter().map(|row| Hint::new(Kind::read(row.kind), row.value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn a_mapping_survives_a_trip_through_json() {
        let pipe = Resource::new(Kind::of("pipe"), "frontend").within("arn:rds:db");
        let mut mapping = Mapping::learned(pipe, "alpha".into(), Timestamp::from_millis(1_700_000_000_123));
        mapping.hints = vec![Hint::new(Kind::of("plan"), "a"), Hint::new(Kind::of("plan"), "b")];
        let text = serde_json::to_string(&mapping).unwrap();
        assert!(text.contains(r#""created_at":"2023-11-14T22:13:20.123Z""#), "{text}");
        assert_eq!(serde_json::from_str::<Mapping>(&text).unwrap(), mapping);
    }

    #[test]
    fn an_expired_mapping_does_not_count() {
        let now = Timestamp::from_millis(1_000);
        let mut mapping = Mapping::learned(Resource::new(Kind::of("pipe"), "p"), "alpha".into(), now);
        assert!(mapping.is_current(now));
        mapping.expires_at = Some(now);
        assert!(!mapping.is_current(now));
    }
}
