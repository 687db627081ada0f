//! One broker's catalog, checked, with the places of what a merge may have to replace.
//!
//! Nothing of a catalog is written anew: numbers, unknown fields and the order of keys stay as the broker sent them.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use standpipe_api::Answer;

use crate::osb::question::is_compressed;

/// Lists and objects within each other in a catalog; many JSON readers go no deeper than 100 to 128.
const DEEPEST: usize = 100;

/// A catalog that was checked.
#[derive(Debug)]
pub(in crate::osb) struct Snapshot {
    /// As the broker sent it.
    pub body: Bytes,
    /// What it offers.
    pub services: Vec<Service>,
}

/// A service offering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::osb) struct Service {
    /// Its JSON, as the broker sent it.
    pub text: String,
    /// Its id at the broker.
    pub id: String,
    /// Its name at the broker.
    pub name: String,
    /// Its plans.
    pub plans: Vec<Plan>,
    /// Where in the text the value of `id` stands.
    pub id_at: Range<usize>,
    /// Where in the text the value of `name` stands.
    pub name_at: Range<usize>,
    /// Where in the text the list of plans stands.
    pub plans_at: Range<usize>,
    /// The id of its dashboard's OAuth client, which a platform needs to be unique.
    pub dashboard_client: Option<String>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::osb) struct Plan {
    /// Its JSON, as the broker sent it.
    pub text: String,
    /// Its id at the broker.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where in the text the value of `id` stands.
    pub id_at: Range<usize>,
}

/// Why a catalog is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::osb) struct BadCatalog {
    /// The JSON path of what is wrong, as `$.services[0].id`.
    pub path: String,
    /// What is wrong with it.
    pub text: String,
}

impl std::fmt::Display for BadCatalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

type Members<'a> = HashMap<String, &'a RawValue>;

impl Snapshot {
    /// Reads a broker's answer to `GET /v2/catalog`.
    ///
    /// # Errors
    /// As [`Snapshot::read`]; it is compressed.
    pub(in crate::osb) fn of(answer: &Answer) -> Result<Self, BadCatalog> {
        if is_compressed(answer.headers()) {
            let text =
                "it is compressed (its content-encoding is not `identity`), which standpipe did not ask for";
            return Err(wrong("$".into(), text));
        }
        Self::read(answer.body().clone())
    }

    /// Reads a catalog (spec, "Catalog Management").
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub(in crate::osb) fn read(body: Bytes) -> Result<Self, BadCatalog> {
        let bad = |text: String| BadCatalog { path: "$".into(), text };
        let text = std::str::from_utf8(&body).map_err(|error| bad(error.to_string()))?;
        if let Some(at) = too_deep(text) {
            return Err(bad(format!("it is nested deeper than {DEEPEST}, at byte {at}")));
        }
        let root: Members<'_> =
            serde_json::from_str(text).map_err(|error| bad(format!("it is no JSON object: {error}")))?;
        let listed = root.get("services").ok_or_else(|| bad("`services` is missing".into()))?;
        let mut services: Vec<Service> = Vec::new();
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        for (at, raw) in elements(listed, "$.services")?.into_iter().enumerate() {
            let path = format!("$.services[{at}]");
            let service = service(raw, &path)?;
            unique(&mut ids, &service.id, &format!("{path}.id"), "service")?;
            unique(&mut names, &service.name, &format!("{path}.name"), "service")?;
            services.push(service);
        }
        Ok(Self { body, services })
    }
}

impl Service {
    /// Its fields, read.
    pub(in crate::osb) fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl Service {
    /// Whether one of its switches is on.
    pub(in crate::osb) fn says(&self, key: &str) -> bool {
        self.fields().get(key).and_then(Value::as_bool).unwrap_or_default()
    }
}

impl Plan {
    /// Its fields, read.
    pub(in crate::osb) fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// The first byte of a JSON text at which lists and objects are nested too deep.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    text.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

fn service(raw: &RawValue, path: &str) -> Result<Service, BadCatalog> {
    let members = object(raw, path)?;
    let (id, id_at) = identifier(&members, raw, path, "id")?;
    let (name, name_at) = identifier(&members, raw, path, "name")?;
    described(&members, path)?;
    let bindable = members.get("bindable").map(|value| value.get());
    if !matches!(bindable, Some("true" | "false")) {
        return Err(wrong(format!("{path}.bindable"), "must be true or false"));
    }
    typed(
        &members,
        path,
        &["plan_updateable", "instances_retrievable", "bindings_retrievable"],
        Type::Truth,
    )?;
    typed(&members, path, &["tags", "requires"], Type::List)?;
    typed(&members, path, &["metadata", "dashboard_client"], Type::Object)?;
    let plans_path = format!("{path}.plans");
    let listed = *members.get("plans").ok_or_else(|| wrong(plans_path.clone(), "is missing"))?;
    let mut plans: Vec<Plan> = Vec::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for (at, raw) in elements(listed, &plans_path)?.into_iter().enumerate() {
        let path = format!("{plans_path}[{at}]");
        let plan = plan(raw, &path)?;
        unique(&mut ids, &plan.id, &format!("{path}.id"), "plan of the service")?;
        unique(&mut names, &plan.name, &format!("{path}.name"), "plan of the service")?;
        plans.push(plan);
    }
    if plans.is_empty() {
        return Err(wrong(plans_path, "must have at least one plan"));
    }
    let plans_at = place(listed, raw);
    let dashboard_client = dashboard_client(&members);
    Ok(Service { text: raw.get().to_owned(), id, name, plans, id_at, name_at, plans_at, dashboard_client })
}

/// The id of a dashboard's OAuth client; what is no text there is the platform's to judge.
fn dashboard_client(service: &Members<'_>) -> Option<String> {
    let client: Members<'_> = serde_json::from_str(service.get("dashboard_client")?.get()).ok()?;
    serde_json::from_str(client.get("id")?.get()).ok()
}

fn plan(raw: &RawValue, path: &str) -> Result<Plan, BadCatalog> {
    let members = object(raw, path)?;
    let (id, id_at) = identifier(&members, raw, path, "id")?;
    let (name, _) = identifier(&members, raw, path, "name")?;
    described(&members, path)?;
    typed(&members, path, &["free", "bindable", "plan_updateable", "binding_rotatable"], Type::Truth)?;
    typed(&members, path, &["metadata", "schemas", "maintenance_info"], Type::Object)?;
    typed(&members, path, &["maximum_polling_duration"], Type::Number)?;
    Ok(Plan { text: raw.get().to_owned(), id, name, id_at })
}

/// The kinds of values that are looked at; what is null counts as absent.
#[derive(Clone, Copy)]
enum Type {
    Truth,
    Number,
    List,
    Object,
}

fn typed(members: &Members<'_>, path: &str, keys: &[&str], wanted: Type) -> Result<(), BadCatalog> {
    for key in keys {
        let Some(text) = members.get(*key).map(|value| value.get()).filter(|text| *text != "null") else {
            continue;
        };
        let (fits, text) = match wanted {
            Type::Truth => (matches!(text, "true" | "false"), "must be true or false"),
            Type::Number => {
                (text.starts_with(|first: char| first == '-' || first.is_ascii_digit()), "must be a number")
            }
            Type::List => (text.starts_with('['), "must be a list"),
            Type::Object => (text.starts_with('{'), "must be an object"),
        };
        if !fits {
            return Err(wrong(format!("{path}.{key}"), text));
        }
    }
    Ok(())
}

fn identifier(
    members: &Members<'_>,
    within: &RawValue,
    path: &str,
    key: &str,
) -> Result<(String, Range<usize>), BadCatalog> {
    let path = format!("{path}.{key}");
    let raw = *members.get(key).ok_or_else(|| wrong(path.clone(), "is missing"))?;
    let text: String = serde_json::from_str(raw.get()).map_err(|_| wrong(path.clone(), "must be a text"))?;
    if text.is_empty() {
        return Err(wrong(path, "must not be empty"));
    }
    Ok((text, place(raw, within)))
}

fn described(members: &Members<'_>, path: &str) -> Result<(), BadCatalog> {
    match members.get("description") {
        Some(text) if text.get().starts_with('"') => Ok(()),
        Some(_) => Err(wrong(format!("{path}.description"), "must be a text")),
        None => Err(wrong(format!("{path}.description"), "is missing")),
    }
}

fn object<'a>(raw: &'a RawValue, path: &str) -> Result<Members<'a>, BadCatalog> {
    serde_json::from_str(raw.get()).map_err(|_| wrong(path.to_owned(), "must be an object"))
}

fn elements<'a>(raw: &'a RawValue, path: &str) -> Result<Vec<&'a RawValue>, BadCatalog> {
    serde_json::from_str(raw.get()).map_err(|_| wrong(path.to_owned(), "must be a list"))
}

fn unique(known: &mut HashSet<String>, id: &str, path: &str, of: &str) -> Result<(), BadCatalog> {
    if known.insert(id.to_owned()) {
        return Ok(());
    }
    Err(wrong(path.to_owned(), &format!("another {of} has it too")))
}

fn wrong(path: String, text: &str) -> BadCatalog {
    BadCatalog { path, text: text.to_owned() }
}

/// Where in the text of one value another stands that was borrowed from it.
pub(in crate::osb) fn place(inner: &RawValue, outer: &RawValue) -> Range<usize> {
    let start = inner.get().as_ptr().addr().saturating_sub(outer.get().as_ptr().addr());
    start..start + inner.get().len()
}

/// A text with some places of it replaced; the places are in order and do not overlap.
pub(in crate::osb) fn replaced(text: &str, changes: &[(Range<usize>, String)]) -> String {
    let mut whole = String::with_capacity(text.len() + 64);
    let mut from = 0;
    for (place, new) in changes {
        whole.push_str(text.get(from..place.start).unwrap_or_default());
        whole.push_str(new);
        from = place.end;
    }
    whole.push_str(text.get(from..).unwrap_or_default());
    whole
}
