//! Protos and adapters: what each end of a pipe made with them must look like.
//!
//! The built-in ones are those of the reference broker. The consumer's end of an `auth:` adapter carries the
//! identity or secret it comes with; `auth:server` turns that around. A proto is what the provider serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::declared::DeclaredSource;
use super::pipe::{Side, TemplateId};
use super::schema::{DRAFT, Schema};

/// A proto or adapter.
#[derive(Debug)]
pub(crate) struct Template {
    /// Its name.
    pub(crate) id: TemplateId,
    /// The provider's end.
    pub(super) offer: TemplateEnd,
    /// The consumer's end.
    pub(super) need: TemplateEnd,
}

/// What a template asks of one end, and where the data for it comes from when this broker has that end.
#[derive(Debug, Default)]
pub(super) struct TemplateEnd {
    /// What the data must satisfy.
    pub(super) schema: Option<Schema>,
    /// What makes it.
    pub(super) source: Option<DeclaredSource>,
}

impl Template {
    /// One that asks nothing of either end.
    pub(crate) fn named(id: TemplateId) -> Self {
        Self { id, offer: TemplateEnd::default(), need: TemplateEnd::default() }
    }

    /// The end that belongs to a side.
    pub(super) const fn end(&self, side: Side) -> &TemplateEnd {
        match side {
            Side::Offers => &self.offer,
            Side::Needs => &self.need,
        }
    }

    /// As the spec's `PipeTemplate`, seen from a side.
    pub(crate) fn wire(&self, side: Side) -> Value {
        let mut wire = json!({"id": self.id.0});
        for (name, end) in [("this", self.end(side)), ("other", self.end(side.opposite()))] {
            if let (Some(schema), Some(object)) = (&end.schema, wire.as_object_mut()) {
                object.insert(name.to_owned(), schema.json().clone());
            }
        }
        wire
    }
}

/// Templates by name.
pub(super) type Templates = BTreeMap<TemplateId, Arc<Template>>;

/// The schema of a built-in: an object that has these keys, each a string.
fn strings(keys: &[&str]) -> Value {
    let properties: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), json!({"type": "string"}))).collect();
    json!({"$schema": DRAFT, "type": "object", "properties": properties, "required": keys})
}

fn uri(pattern: &str) -> Value {
    let uri = json!({"type": "string", "pattern": pattern});
    json!({"$schema": DRAFT, "type": "object", "properties": {"URI": uri}, "required": ["URI"]})
}

/// Name, provider's end, consumer's end.
pub(super) type BuiltIn = (&'static str, Option<Value>, Option<Value>);

/// The protos of the reference broker. Its own PostgreSQL URI is `postgresql://`, which its own schema refuses;
/// here all the common spellings of the scheme count.
pub(super) fn protos() -> Vec<BuiltIn> {
    vec![
        ("https", Some(uri("^https://")), None),
        ("rediss", Some(uri("^rediss://")), None),
        ("postgresqls", Some(uri("^postgres(ql)?s?://")), None),
    ]
}

/// The adapters of the reference broker.
pub(super) fn adapters() -> Vec<BuiltIn> {
    vec![
        ("auth:oidc", None, Some(strings(&["AUD", "ISS", "SUB"]))),
        ("auth:mtls", None, Some(strings(&["CLIENT_CERT", "CLIENT_KEY", "CA_CERT"]))),
        ("auth:basic", None, Some(strings(&["USER", "PASS"]))),
        ("auth:secret", None, Some(strings(&["SECRET"]))),
        ("auth:server", Some(strings(&["USER", "PASS"])), None),
    ]
}
