//! JSON Schemas, compiled without any fetching, with patterns that match in linear time.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::Value;

/// Bytes a compiled pattern may take.
const PATTERN_BYTES: usize = 256 * 1024;

/// Most violations that one answer lists.
const VIOLATIONS: usize = 10;

/// A schema ready to be used.
#[derive(Debug)]
pub(crate) struct Schema {
    json: Value,
    validator: Validator,
}

/// What is wrong with a document: where, in dots, and what. It never holds a value of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// For example `other.data.URI`.
    pub(crate) path: String,
    /// For example `is missing`.
    pub(crate) text: String,
}

impl Violation {
    pub(crate) fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

/// The text alone where the whole document is meant.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.path, self.text) }
    }
}

impl Schema {
    /// Compiles a schema of the draft 2020-12.
    ///
    /// # Errors
    /// Why it is none, as one sentence.
    pub(crate) fn compile(json: Value) -> Result<Self, String> {
        Self::build(json, jsonschema::options().with_draft(Draft::Draft202012))
    }

    /// The same in the draft that its `$schema` names.
    ///
    /// # Errors
    /// As [`Schema::compile`].
    pub(crate) fn compile_any_draft(json: Value) -> Result<Self, String> {
        Self::build(json, jsonschema::options())
    }

    fn build(json: Value, options: ValidationOptions) -> Result<Self, String> {
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let validator = options
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(false)
            .build(&json)
            .map_err(|error| format!("is not a usable JSON Schema: {}", error.masked()))?;
        Ok(Self { json, validator })
    }

    /// The schema as it was given.
    pub(crate) const fn json(&self) -> &Value {
        &self.json
    }

    /// Adds what is wrong with the data at `path`, up to a bound.
    pub(crate) fn check(&self, data: &Value, path: &str, violations: &mut Vec<Violation>) {
        for error in self.validator.iter_errors(data) {
            if violations.len() >= VIOLATIONS {
                return;
            }
            let mut path = path.to_owned();
            for part in error.instance_path().as_str().split('/').skip(1) {
                push_part(&mut path, &part.replace("~1", "/").replace("~0", "~"));
            }
            let violation = if let ValidationErrorKind::Required { property } = error.kind() {
                push_part(&mut path, property.as_str().unwrap_or_default());
                Violation::new(path, "is missing")
            } else {
                Violation::new(path, error.masked_with("the value").to_string())
            };
            if !violations.contains(&violation) {
                violations.push(violation);
            }
        }
    }
}

fn push_part(path: &mut String, part: &str) {
    if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
        path.push('[');
        path.push_str(part);
        path.push(']');
    } else {
        path.push('.');
        path.push_str(part);
    }
}
