//! A pipe as the broker keeps it, and the names of its records.
//!
//! What a caller sees is written by `wire`; here stands what must survive: the caller's part, what the
//! sources made, and the blueprint it was bound to.

use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use standpipe_api::{ResourceId, Timestamp};

/// Longest id of a pipe, in bytes.
pub(super) const ID_BYTES: usize = 256;

/// What a path segment cannot hold as it is (RFC 3986, section 3.3). A colon can.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// An id as a path segment or part of a record's key.
pub(crate) fn segment(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, SEGMENT)
}

/// The id of a pipe, unique within its resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PipeId(String);

impl PipeId {
    /// Takes any printable text without `/` that is no dot segment, of 1 to [`ID_BYTES`] bytes.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let allowed = |c: char| c != '/' && !c.is_control();
        let fits = !text.is_empty() && text.len() <= ID_BYTES && text.chars().all(allowed);
        (fits && text != "." && text != "..").then(|| Self(text.to_owned()))
    }

    /// 128 random bits, for a binding whose caller leaves the name to the broker.
    pub(crate) fn random() -> Self {
        Self(format!("{:032x}", fastrand::u128(..)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PipeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a proto or adapter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TemplateId(pub(crate) String);

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an offer or need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BlueprintName(pub(crate) String);

impl fmt::Display for BlueprintName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which end of a connection a blueprint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The provider's end.
    Offers,
    /// The consumer's end.
    Needs,
}

impl Side {
    /// Its path segment.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Offers => "offers",
            Self::Needs => "needs",
        }
    }

    /// The end it connects to.
    pub(super) const fn opposite(self) -> Self {
        match self {
            Self::Offers => Self::Needs,
            Self::Needs => Self::Offers,
        }
    }
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pipe {
    /// Its id.
    pub(crate) id: PipeId,
    /// This broker's end; its uri and issuer are the broker's own and not kept.
    pub(crate) this: End,
    /// The other broker's end, as callers told it.
    pub(crate) other: End,
    /// How it was bound; `None` for a pipe made without a blueprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binding: Option<Binding>,
    /// What each source made for `this.data`, by the name of the part it belongs to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) made: BTreeMap<String, Made>,
}

/// One end of a pipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Where the end is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uri: Option<String>,
    /// Who signs for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<String>,
    /// Schemas that callers gave; those of proto and adapters come from the settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) schemas: Vec<Value>,
    /// Its data; `None` or empty while it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Map<String, Value>>,
}

/// The blueprint a pipe was made from, with what was chosen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// Offer or need.
    pub(crate) side: Side,
    /// Its name.
    pub(crate) blueprint: BlueprintName,
    /// The proto; `None` when the blueprint has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proto: Option<TemplateId>,
    /// The adapters, all of which apply.
    pub(crate) adapters: Vec<TemplateId>,
    /// The key of the slot record it holds.
    pub(crate) slot: String,
}

/// What one source made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Which settings made it; a difference means that it must be made anew.
    pub(super) fingerprint: String,
    /// When.
    pub(super) at: Timestamp,
    /// The keys it made.
    pub(super) data: Map<String, Value>,
}

/// The key of a pipe's record.
pub(crate) fn pipe_key(resource: &ResourceId, id: &PipeId) -> String {
    format!("{}{}", pipe_prefix(resource), segment(id.as_str()))
}

/// The prefix of the pipes of a resource.
pub(crate) fn pipe_prefix(resource: &ResourceId) -> String {
    format!("pipe/{}/", segment(resource.as_str()))
}

/// The prefix of a blueprint's slots.
pub(super) fn slot_prefix(resource: &ResourceId, side: Side, blueprint: &BlueprintName) -> String {
    format!("slots/{}/{}/{}/", segment(resource.as_str()), side.word(), segment(&blueprint.0))
}

/// The key of the record that an outside resource may have to be released.
pub(super) fn unbind_key(resource: &ResourceId, id: &PipeId) -> String {
    format!("unbind/{}/{}", segment(resource.as_str()), segment(id.as_str()))
}

/// The key of the record that holds what the other end was told.
pub(super) fn told_key(resource: &ResourceId, id: &PipeId) -> String {
    format!("told/{}/{}", segment(resource.as_str()), segment(id.as_str()))
}

/// The key of the record that holds the names a sink keeps.
pub(super) fn sink_key(resource: &ResourceId) -> String {
    format!("sink/{}", segment(resource.as_str()))
}

/// The key of the record that holds when a rotation of all pipes was last asked for.
pub(super) fn rotation_key(resource: &ResourceId) -> String {
    format!("rotation/{}", segment(resource.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_printable_and_no_path() {
        for good in ["frontend", "arn:rds:db", "späti", "a b", "..."] {
            assert!(PipeId::read(good).is_some(), "{good}");
        }
        for bad in ["", "a/b", ".", "..", "a\nb", &"x".repeat(257)] {
            assert!(PipeId::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn different_ids_never_share_a_key() {
        let key = |resource: &str, id: &str| pipe_key(&resource.into(), &PipeId(id.to_owned()));
        assert_ne!(key("a/b", "c"), key("a", "b/c"));
        assert_ne!(key("a%2Fb", "c"), key("a/b", "c"));
        assert_eq!(key("arn:rds:db", "x"), "pipe/arn:rds:db/x");
    }
}
