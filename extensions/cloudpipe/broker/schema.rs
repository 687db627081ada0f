//! JSON Schemas (2020-12) of ends: compiled without any fetching, with patterns that match in linear time.
//!
//! The schemas of proto, adapters and caller each hold on their own, which is what `allOf` means. They are
//! put into one document only to be shown.

use serde_json::{Map, Value, json};

use super::bounds;
pub(super) use crate::schema::{Schema, Violation};

/// The one draft that is spoken.
pub(super) const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Checks the data of one end against the schemas of its templates and the callers' own ones. An end without
/// data is pending, not invalid.
pub(super) fn check_end<'a>(
    path: &str,
    data: Option<&Map<String, Value>>,
    templates: impl Iterator<Item = &'a Schema>,
    callers: &[Value],
    violations: &mut Vec<Violation>,
) {
    let Some(data) = data.filter(|data| !data.is_empty()) else { return };
    let data = Value::Object(data.clone());
    let path = format!("{path}.data");
    for schema in templates {
        schema.check(&data, &path, violations);
    }
    if let Err(violation) = bounds::afford(callers, &data) {
        violations.push(Violation::new(path, violation));
        return;
    }
    for schema in callers {
        match Schema::compile(schema.clone()) {
            Ok(schema) => schema.check(&data, &path, violations),
            Err(text) => violations.push(Violation::new(path.clone(), format!("its schema {text}"))),
        }
    }
}

/// One document that says what all the schemas say together; `None` for none. A member with local references
/// becomes a resource of its own (JSON Schema core, section 8.2.1), so that `#` keeps meaning that member.
pub(super) fn combine<'a>(schemas: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let mut all: Vec<Value> = schemas.cloned().collect();
    if all.len() < 2 {
        return all.pop();
    }
    for schema in &mut all {
        let own_name = bounds::has_reference(schema).then(|| format!("urn:{}", fingerprint(schema)));
        if let Some(object) = schema.as_object_mut() {
            object.shift_remove("$schema");
            if let Some(name) = own_name
                && !object.contains_key("$id")
            {
                object.insert("$id".to_owned(), Value::String(name));
            }
        }
    }
    Some(json!({"$schema": DRAFT, "allOf": all}))
}

/// Tells one JSON value from another: SHA-256 of its text, in hex.
pub(super) fn fingerprint(value: &Value) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value.to_string().as_bytes());
    let hex = digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    });
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(schema: Value, data: &Value) -> Vec<Violation> {
        let mut violations = Vec::new();
        Schema::compile(schema).unwrap().check(data, "other.data", &mut violations);
        violations
    }

    #[test]
    fn a_violation_names_its_path_and_never_the_value() {
        let schema = json!({"properties": {"list": {"items": {"type": "integer"}},
            "URI": {"pattern": "^https://"}}, "required": ["PASS"]});
        let found = violations(schema, &json!({"list": [1, "hunter2"], "URI": "hunter2"}));
        let paths: Vec<&str> = found.iter().map(|violation| violation.path.as_str()).collect();
        assert!(paths.contains(&"other.data.list[1]"), "{paths:?}");
        assert!(paths.contains(&"other.data.URI"), "{paths:?}");
        assert!(paths.contains(&"other.data.PASS"), "{paths:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }

    #[test]
    fn nothing_is_ever_fetched() {
        let error = Schema::compile(json!({"$ref": "http://127.0.0.1:9/schema"})).unwrap_err();
        assert!(error.contains("not a usable"), "{error}");
    }

    #[test]
    fn patterns_need_linear_time_and_little_space() {
        assert!(Schema::compile(json!({"pattern": "(a)\\1"})).is_err());
        assert!(Schema::compile(json!({"pattern": "((a{100}){100}){100}"})).is_err());
    }

    #[test]
    fn a_combined_schema_keeps_each_members_local_references() {
        let one = json!({"$ref": "#/$defs/x", "$defs": {"x": {"required": ["A"]}}});
        let two = json!({"$ref": "#/$defs/x", "$defs": {"x": {"required": ["B"]}}});
        let both = combine([&one, &two].into_iter()).unwrap();
        let found = violations(both, &json!({"C": 1}));
        let paths: Vec<&str> = found.iter().map(|violation| violation.path.as_str()).collect();
        assert_eq!(paths, ["other.data.A", "other.data.B"]);
    }

    #[test]
    fn an_end_without_data_is_pending() {
        let schema = Schema::compile(json!({"required": ["URI"]})).unwrap();
        for data in [None, Some(Map::new())] {
            let mut violations = Vec::new();
            check_end("this", data.as_ref(), [&schema].into_iter(), &[], &mut violations);
            assert_eq!(violations, []);
        }
    }
}
