//! A pipe as callers, sources and sinks see it: the spec's JSON, with the broker's own uri, issuer and links.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use standpipe_api::ResourceId;

use super::answer::Refusal;
use super::blueprint::Blueprint;
use super::declared::DeclaredSource;
use super::pipe::{Binding, BlueprintName, End, Pipe, PipeId, Side, segment};
use super::schema::{Schema, check_end, combine};
use super::settings::{BrokerSettings, ResourceSettings};
use super::source::Reach;
use super::template::TemplateEnd;

/// The settings in force during one request, and the addresses that follow from them.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) settings: Arc<BrokerSettings>,
    /// The broker's base URL, without a trailing slash.
    pub(super) base: String,
    /// What `this.issuer` shows.
    pub(super) issuer: String,
}

/// A source that a pipe's own data is made by.
pub(super) struct Part<'a> {
    /// `resource`, `proto:<id>` or `adapter:<id>`.
    pub(super) name: String,
    pub(super) source: &'a DeclaredSource,
}

impl Setup {
    pub(super) fn resource(&self, id: &ResourceId) -> Result<&ResourceSettings, Refusal> {
        self.settings.resources.get(id).ok_or_else(|| Refusal::unknown(format!("there is no resource {id}")))
    }

    pub(super) fn blueprint(
        &self,
        resource: &ResourceId,
        side: Side,
        name: &BlueprintName,
    ) -> Result<&Blueprint, Refusal> {
        let mut blueprints = self.resource(resource)?.blueprints.iter();
        blueprints
            .find(|known| known.is(side, name))
            .ok_or_else(|| Refusal::unknown(format!("{resource} has no {name} among its {}", side.word())))
    }

    /// The sources of a pipe, in the order in which later ones win.
    pub(super) fn parts(&self, resource: &ResourceId, binding: Option<&Binding>) -> Vec<Part<'_>> {
        let own = self.settings.resources.get(resource).and_then(|resource| resource.source.as_ref());
        let mut parts: Vec<Part<'_>> =
            own.map(|source| Part { name: "resource".to_owned(), source }).into_iter().collect();
        let ends = self.ends(binding, same).into_iter();
        parts.extend(ends.filter_map(|(name, end)| Some(Part { name, source: end.source.as_ref()? })));
        parts
    }

    /// Every source there is.
    pub(super) fn sources(&self) -> impl Iterator<Item = &DeclaredSource> {
        let resources = self.settings.resources.values().filter_map(|resource| resource.source.as_ref());
        let templates = self.settings.protos.values().chain(self.settings.adapters.values());
        let ends = templates.flat_map(|template| [&template.offer, &template.need]);
        resources.chain(ends.filter_map(|end| end.source.as_ref()))
    }

    /// What proto and adapters say of an end, where `side` is the side that end is on, by the names of the parts.
    fn ends(&self, binding: Option<&Binding>, side: fn(Side) -> Side) -> Vec<(String, &TemplateEnd)> {
        let Some(binding) = binding else { return Vec::new() };
        let protos = binding.proto.iter().map(|id| ("proto", id, self.settings.protos.get(id)));
        let adapters = binding.adapters.iter().map(|id| ("adapter", id, self.settings.adapters.get(id)));
        let named = protos.chain(adapters).map(|(word, id, template)| {
            template.map(|template| (format!("{word}:{id}"), template.end(side(binding.side))))
        });
        named.flatten().collect()
    }

    /// The schemas that proto and adapters set for an end.
    fn schemas(&self, binding: Option<&Binding>, side: fn(Side) -> Side) -> Vec<&Schema> {
        self.ends(binding, side).into_iter().filter_map(|(_, end)| end.schema.as_ref()).collect()
    }

    /// Holds both ends against their schemas. What is still to come from the other end is pending, not invalid: the
    /// schema waits with the source.
    pub(super) fn check(&self, pipe: &Pipe) -> Result<(), Refusal> {
        let mut found = Vec::new();
        let waits = |name: &String, end: &TemplateEnd| {
            let follows = end.source.as_ref().is_some_and(|source| source.reach == Reach::Pipe);
            follows && pipe.made.get(name).is_none_or(|made| made.data.is_empty())
        };
        let mine = self.ends(pipe.binding.as_ref(), same).into_iter();
        let mine = mine.filter(|(name, end)| !waits(name, end)).filter_map(|(_, end)| end.schema.as_ref());
        check_end("this", pipe.this.data.as_ref(), mine, &pipe.this.schemas, &mut found);
        let others = self.schemas(pipe.binding.as_ref(), Side::opposite).into_iter();
        check_end("other", pipe.other.data.as_ref(), others, &pipe.other.schemas, &mut found);
        if found.is_empty() { Ok(()) } else { Err(Refusal::invalid(found)) }
    }

    /// The uri of this end of a pipe.
    pub(super) fn uri(&self, resource: &ResourceId, id: &PipeId) -> String {
        uri(&self.base, resource, id)
    }

    /// The same without scheme and authority, for `Location`.
    pub(super) fn location(&self, resource: &ResourceId, id: &PipeId) -> String {
        location(&self.uri(resource, id))
    }

    /// As the spec's `Pipe`.
    pub(super) fn pipe(&self, resource: &ResourceId, pipe: &Pipe) -> Value {
        let uri = self.uri(resource, &pipe.id);
        let mine = self.schemas(pipe.binding.as_ref(), same);
        let others = self.schemas(pipe.binding.as_ref(), Side::opposite);
        let this = End { uri: Some(uri.clone()), issuer: Some(self.issuer.clone()), ..pipe.this.clone() };
        json!({
            "id": pipe.id.as_str(),
            "this": wire_end(&this, &mine),
            "other": wire_end(&pipe.other, &others),
            "_links": links(&self.base, resource, uri, pipe.binding.as_ref()),
        })
    }

    /// The answer to a binding.
    pub(super) fn binding(&self, resource: &ResourceId, pipe: &Pipe) -> Value {
        flat(self.pipe(resource, pipe), pipe.binding.as_ref())
    }
}

/// The uri of this end of a pipe, at a broker of this base URL.
pub(crate) fn uri(base: &str, resource: &ResourceId, id: &PipeId) -> String {
    format!("{base}/{}/pipes/{}", segment(resource.as_str()), segment(id.as_str()))
}

/// A uri without scheme and authority, for `Location`.
pub(crate) fn location(uri: &str) -> String {
    let path = uri.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    path.unwrap_or(uri).to_owned()
}

/// The `_links` of a pipe.
pub(crate) fn links(base: &str, resource: &ResourceId, uri: String, binding: Option<&Binding>) -> Value {
    let mut links = json!({"self": {"href": uri}});
    let (Some(binding), Some(object)) = (binding, links.as_object_mut()) else { return links };
    let resource = segment(resource.as_str());
    let name = segment(&binding.blueprint.0);
    let blueprint = format!("{base}/{resource}/{}/{name}", binding.side.word());
    let link = |word: &str, id: &str| json!({"href": format!("{blueprint}/{word}/{}", segment(id))});
    let adapters: Vec<Value> = binding.adapters.iter().map(|id| link("adapters", &id.0)).collect();
    object.insert("blueprint".to_owned(), json!({"href": blueprint}));
    object.insert("adapters".to_owned(), adapters.into());
    if let Some(proto) = &binding.proto {
        object.insert("proto".to_owned(), link("protos", &proto.0));
    }
    links
}

/// The answer to a binding, which satisfies those who read the pipe's fields beside `adapters` and `proto` as well as
/// those who look for them under `pipe`.
pub(crate) fn flat(pipe: Value, binding: Option<&Binding>) -> Value {
    let mut flat = pipe.as_object().cloned().unwrap_or_default();
    flat.insert("pipe".to_owned(), pipe);
    if let Some(binding) = binding {
        let adapters: Vec<&str> = binding.adapters.iter().map(|id| id.0.as_str()).collect();
        flat.insert("adapters".to_owned(), json!(adapters));
        if let Some(proto) = &binding.proto {
            flat.insert("proto".to_owned(), json!(proto.0));
        }
    }
    Value::Object(flat)
}

const fn same(side: Side) -> Side {
    side
}

/// One end of a pipe that no template asks anything of.
pub(crate) fn plain_end(end: &End) -> Value {
    wire_end(end, &[])
}

fn wire_end(end: &End, templates: &[&Schema]) -> Value {
    let mut wire = Map::new();
    for (name, value) in [("uri", &end.uri), ("issuer", &end.issuer)] {
        if let Some(value) = value {
            wire.insert(name.to_owned(), Value::String(value.clone()));
        }
    }
    let schemas = templates.iter().map(|schema| schema.json()).chain(&end.schemas);
    if let Some(schema) = combine(schemas) {
        wire.insert("schema".to_owned(), schema);
    }
    if let Some(data) = &end.data {
        wire.insert("data".to_owned(), Value::Object(data.clone()));
    }
    Value::Object(wire)
}
