//! What a caller's own schema may cost, decided before it is compiled.
//!
//! References are followed here, so that a small schema that unfolds into an enormous one is refused, and so
//! is one that refers to itself. Data and schema together have a budget of work.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::schema::{DRAFT, Schema};

/// Bytes of a schema, as compact JSON.
const BYTES: usize = 64 * 1024;
/// Schemas inside schemas, references followed.
const DEPTH: usize = 32;
/// Subschemas with every reference unfolded; a pattern counts as [`PATTERN_COST`] of them.
const SUBSCHEMAS: u64 = 1000;
/// A pattern is looked for in every byte, a subschema is met once.
const PATTERN_COST: u64 = 16;
/// Bytes of one pattern's text.
const PATTERN_TEXT: usize = 512;
/// Subschemas times size of the data: well under a second.
const WORK: u64 = 4_000_000;
/// Schemas of one end that callers gave, one by one.
pub(super) const SCHEMAS: usize = 16;

/// Keywords whose value is one schema, or (`items`) a list of them.
const ONE: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "items",
    "additionalItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const MAP: &[&str] =
    &["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Lets a caller's schema in.
///
/// # Errors
/// Which bound it breaks, or why it is no schema: a sentence without its subject.
pub(super) fn admit(schema: &Value) -> Result<(), String> {
    if !schema.is_object() {
        return Err("must be an object".to_owned());
    }
    if schema.to_string().len() > BYTES {
        return Err(format!("is over the limit of {BYTES} bytes"));
    }
    let named = names_of_resources(schema)?;
    if strings_named_id(schema) > named.len() {
        return Err("holds `$id` where only the schema itself and members of its `allOf` may".to_owned());
    }
    let cost = Walk::default().cost(schema, schema, 0)?;
    if cost > SUBSCHEMAS {
        return Err(format!(
            "unfolds to {cost} subschemas, over the limit of {SUBSCHEMAS} (a pattern counts {PATTERN_COST})"
        ));
    }
    Schema::compile(schema.clone()).map(drop)
}

/// The names of the schema and, as [`super::schema::combine`] writes them, of members of its `allOf`. A name changes
/// what `#` means, so each must be one that everybody reads alike: absolute, without fragment, given once.
fn names_of_resources(schema: &Value) -> Result<BTreeSet<&str>, String> {
    const META: &str = "https://json-schema.org/";
    let mut names = BTreeSet::new();
    let mut spine = vec![schema];
    while let Some(schema) = spine.pop() {
        if let Some(name) = schema.get("$id").and_then(Value::as_str) {
            let is_absolute = name.split_once(':').is_some_and(|(scheme, rest)| {
                !scheme.is_empty()
                    && !rest.is_empty()
                    && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
            });
            if !is_absolute || name.contains('#') || name.starts_with(META) || !names.insert(name) {
                return Err(
                    "has an `$id` that is not an absolute URI of its own without a fragment".to_owned()
                );
            }
        }
        spine.extend(schema.get("allOf").and_then(Value::as_array).into_iter().flatten());
    }
    Ok(names)
}

fn strings_named_id(value: &Value) -> usize {
    match value {
        Value::Object(object) => {
            let here = usize::from(object.get("$id").is_some_and(Value::is_string));
            here + object.values().map(strings_named_id).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(strings_named_id).sum(),
        _ => 0,
    }
}

/// Whether schemas that were let in may be run over this data.
///
/// # Errors
/// The data is too large for them.
pub(super) fn afford(schemas: &[Value], data: &Value) -> Result<(), &'static str> {
    let cost: u64 = schemas.iter().filter_map(|schema| Walk::default().cost(schema, schema, 0).ok()).sum();
    if cost.saturating_mul(size(data)) > WORK {
        return Err("is too large to be checked against a schema of that size");
    }
    Ok(())
}

/// Values, and 32 bytes of text as one more.
fn size(data: &Value) -> u64 {
    match data {
        Value::String(text) => 1 + text.len() as u64 / 32,
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(object) => {
            1 + object.iter().map(|(key, value)| 1 + key.len() as u64 / 32 + size(value)).sum::<u64>()
        }
        _ => 1,
    }
}

/// Whether a schema refers to a part of itself.
pub(super) fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => {
            object.get("$ref").is_some_and(Value::is_string) || object.values().any(has_reference)
        }
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

/// A walk over one schema document. Nodes are known by their address, so that a shared part is counted once
/// and a circle is seen.
#[derive(Default)]
struct Walk {
    known: BTreeMap<usize, Progress>,
}

enum Progress {
    Open,
    Costs(u64),
}

impl Walk {
    /// `base` is the schema that `#` means here.
    fn cost(&mut self, schema: &Value, base: &Value, depth: usize) -> Result<u64, String> {
        let Value::Object(object) = schema else { return Ok(1) };
        if depth > DEPTH {
            return Err(format!("is nested deeper than {DEPTH} levels"));
        }
        let address = std::ptr::from_ref(schema).addr();
        match self.known.get(&address) {
            Some(Progress::Costs(cost)) => return Ok(*cost),
            Some(Progress::Open) => return Err("refers to itself in a circle".to_owned()),
            None => self.known.insert(address, Progress::Open),
        };
        let base = if object.get("$id").is_some_and(Value::is_string) { schema } else { base };
        let mut total = 1 + words(object)?;
        for part in parts(object) {
            total = total.saturating_add(self.cost(part, base, depth + 1)?);
        }
        if let Some(reference) = object.get("$ref") {
            let (part, base) = target(reference, base)?;
            total = total.saturating_add(self.cost(part, base, depth + 1)?);
        }
        self.known.insert(address, Progress::Costs(total));
        Ok(total)
    }
}

/// The cost of the keywords that hold no schemas; refuses those that could reach outside.
fn words(object: &Map<String, Value>) -> Result<u64, String> {
    if let Some(draft) = object.get("$schema")
        && draft.as_str().map(|text| text.trim_end_matches('#')) != Some(DRAFT)
    {
        return Err(format!("must be of the draft {DRAFT}"));
    }
    for word in ["$dynamicRef", "$recursiveRef", "$vocabulary"] {
        if object.contains_key(word) {
            return Err(format!("holds `{word}`, which is not supported"));
        }
    }
    let pattern = object.get("pattern").and_then(Value::as_str);
    let names = object.get("patternProperties").and_then(Value::as_object);
    let mut cost = 0;
    for text in pattern.into_iter().chain(names.into_iter().flat_map(Map::keys).map(String::as_str)) {
        if text.len() > PATTERN_TEXT {
            return Err(format!("has a pattern over the limit of {PATTERN_TEXT} bytes"));
        }
        cost += PATTERN_COST;
    }
    Ok(cost)
}

fn parts(object: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    let one = ONE.iter().filter_map(|word| object.get(*word)).flat_map(|value| match value {
        Value::Array(items) => items.iter(),
        value => std::slice::from_ref(value).iter(),
    });
    let list = LIST.iter().filter_map(|word| object.get(*word)?.as_array()).flatten();
    let map = MAP.iter().filter_map(|word| object.get(*word)?.as_object()).flat_map(Map::values);
    one.chain(list).chain(map)
}

/// What a reference means, and what `#` means there.
fn target<'a>(reference: &Value, base: &'a Value) -> Result<(&'a Value, &'a Value), String> {
    let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
    let Some(pointer) = pointer.filter(|pointer| pointer.is_empty() || pointer.starts_with('/')) else {
        return Err("may refer only to its own parts: `$ref` must be `#` or begin with `#/`".to_owned());
    };
    let pointer = percent_encoding::percent_decode_str(pointer).decode_utf8_lossy();
    let (mut part, mut base) = (base, base);
    for token in pointer.split('/').skip(1) {
        let step = format!("/{token}");
        part = part.pointer(&step).ok_or_else(|| "refers to a part it does not have".to_owned())?;
        if part.get("$id").is_some_and(Value::is_string) {
            base = part;
        }
    }
    Ok((part, base))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_ordinary_schema_with_local_references_is_let_in() {
        let schema = json!({"$schema": DRAFT, "$id": "https://example.org/x", "$ref": "#/$defs/x",
            "$defs": {"x": {"type": "object", "properties": {"URI": {"pattern": "^https://"}}}}});
        assert_eq!(admit(&schema), Ok(()));
    }

    #[test]
    fn a_schema_that_reaches_outside_or_around_itself_is_refused() {
        for schema in [
            json!({"$ref": "https://example.org/schema"}),
            json!({"$ref": "other"}),
            json!({"properties": {"const": {"$ref": "file:///etc/passwd"}}}),
            json!({"$ref": "#"}),
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            json!({"$dynamicRef": "#x"}),
            json!({"$schema": "http://json-schema.org/draft-04/schema#"}),
            json!(["x"]),
        ] {
            assert!(admit(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn a_name_cannot_hide_a_circle() {
        for id in ["#x", "x", "urn:a#b", "https://json-schema.org/draft/2020-12/schema"] {
            let inner = json!({"$id": id, "$ref": "#/y", "y": {}});
            let schema = json!({"allOf": [inner], "y": {"$ref": "#/allOf/0"}});
            assert!(admit(&schema).is_err(), "{id}");
        }
        let hidden =
            json!({"x": {"$id": "urn:a", "$ref": "#/y", "y": {}}, "y": {"$ref": "#/x"}, "$ref": "#/x"});
        assert!(admit(&hidden).is_err());
        let twice = json!({"$id": "urn:a", "allOf": [{"$id": "urn:a", "$ref": "#/y", "y": {}}],
            "y": {"$ref": "#/allOf/0"}});
        assert!(admit(&twice).is_err());
    }

    #[test]
    fn what_the_broker_shows_as_combined_is_let_in_again() {
        let part = |key: &str| json!({"$ref": "#/$defs/x", "$defs": {"x": {"required": [key]}}});
        let both = super::super::schema::combine([&part("A"), &part("B")].into_iter()).unwrap();
        assert_eq!(admit(&both), Ok(()));
        let more = super::super::schema::combine([&both, &part("C")].into_iter()).unwrap();
        assert_eq!(admit(&more), Ok(()));
    }

    #[test]
    fn a_small_schema_that_unfolds_into_a_large_one_is_refused() {
        let mut defs = Map::new();
        defs.insert("l0".to_owned(), json!({"type": "string"}));
        for level in 1..20 {
            let below = format!("#/$defs/l{}", level - 1);
            defs.insert(format!("l{level}"), json!({"allOf": [{"$ref": below}, {"$ref": below}]}));
        }
        let error = admit(&json!({"$ref": "#/$defs/l19", "$defs": defs})).unwrap_err();
        assert!(error.contains("subschemas") || error.contains("nested"), "{error}");
    }

    #[test]
    fn size_depth_number_and_patterns_are_bounded() {
        let deep = (0..40).fold(json!({}), |inner, _| json!({"not": inner}));
        let many = json!({"allOf": vec![json!({"type": "string"}); 1001]});
        let large = json!({"description": "x".repeat(BYTES)});
        let pattern = json!({"pattern": "x".repeat(PATTERN_TEXT + 1)});
        let patterns = json!({"allOf": vec![json!({"pattern": "x"}); 70]});
        for schema in [deep, many, large, pattern, patterns] {
            assert!(admit(&schema).is_err());
        }
    }

    #[test]
    fn large_data_is_not_run_through_a_costly_schema() {
        let schema = json!({"allOf": vec![json!({"type": "object"}); 900]});
        assert!(afford(std::slice::from_ref(&schema), &json!({"a": "b"})).is_ok());
        assert!(afford(&[schema], &json!({"a": vec![1; 10_000]})).is_err());
    }
}
