//! Declared data with names in double braces, and secrets that stand elsewhere.

use std::path::Path;

use serde_json::{Map, Value};
use standpipe_api::{Problem, Problems, SecretRef};

use crate::outside::secret;

/// Names that every template may use.
pub(super) const INSTANCE: &[&str] = &["instance_id", "service_id", "plan_id", "service", "plan"];
/// Names beside those in a binding's; `state.` followed by a key of the instance's state is a name as well.
pub(super) const BINDING: &[&str] = &["binding_id", "password"];

/// Checks a value and makes it ready to be rendered: relative paths of secrets begin at `folder`.
///
/// # Errors
/// Names that are not known and secrets that cannot be read, with paths relative to the value.
pub(super) fn read(value: &toml::Value, names: &[&[&str]], folder: &Path) -> Result<Value, Problems> {
    let mut problems = Problems::new();
    let read = convert(value, "", names, folder, &mut problems);
    if problems.is_empty() { Ok(read) } else { Err(problems) }
}

fn convert(value: &toml::Value, path: &str, names: &[&[&str]], folder: &Path, found: &mut Problems) -> Value {
    let under = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        toml::Value::String(text) => {
            let is_known = |name: &str| {
                names
                    .iter()
                    .any(|names| names.contains(&name) || (*names == BINDING && name.starts_with("state.")))
            };
            if let Err(name) = fill(text, |name| is_known(name).then(String::new)) {
                let known = names.concat().join("}}, {{");
                found
                    .push(Problem::at(path, format!("{{{{{name}}}}} is unknown; known are {{{{{known}}}}}")));
            }
            Value::String(text.clone())
        }
        toml::Value::Table(table) => match table.get("secret").filter(|_| table.len() == 1) {
            Some(reference) => {
                let read = reference.as_str().ok_or_else(|| "must be a text".to_owned()).and_then(|text| {
                    let text = match text.strip_prefix("file:") {
                        Some(path) => format!("file:{}", folder.join(path).display()),
                        None => text.to_owned(),
                    };
                    SecretRef::parse(&text).and_then(|reference| secret::read(&reference)).map(|_| text)
                });
                let text = read.map_err(|text| found.push(Problem::at(under("secret"), text)));
                serde_json::json!({ "secret": text.unwrap_or_default() })
            }
            None => table
                .iter()
                .map(|(key, value)| (key.clone(), convert(value, &under(key), names, folder, found)))
                .collect::<Map<_, _>>()
                .into(),
        },
        toml::Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| convert(item, &format!("{path}[{index}]"), names, folder, found))
            .collect(),
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// The value with every name filled in and every secret read.
///
/// # Errors
/// What is missing, for the log: a secret, or a name that has no value.
pub(super) fn render(value: &Value, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => fill(text, lookup).map_err(|name| format!("{name} has no value"))?.into(),
        Value::Object(object) => {
            let reference = object.get("secret").filter(|_| object.len() == 1).and_then(Value::as_str);
            match reference {
                Some(reference) => SecretRef::parse(reference).and_then(|found| secret::read(&found))?.into(),
                None => object
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), render(value, lookup)?)))
                    .collect::<Result<Map<_, _>, String>>()?
                    .into(),
            }
        }
        Value::Array(items) => {
            items.iter().map(|item| render(item, lookup)).collect::<Result<Vec<_>, String>>()?.into()
        }
        other => other.clone(),
    })
}

/// Fills in each `{{name}}`; the error is the first name without a value.
fn fill(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        filled.push_str(before);
        filled.push_str(&lookup(name.trim()).ok_or_else(|| name.trim().to_owned())?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(text: &str) -> toml::Value {
        toml::Value::Table(toml::from_str(text).unwrap())
    }

    #[test]
    fn names_are_filled_in_at_any_depth() {
        let written =
            table("uri = 'db://{{binding_id}}:{{ password }}@h/{{state.name}}'\nlist = [{ a = '{{{{' }, 5]");
        let read = read(&written, &[INSTANCE, BINDING], Path::new("")).unwrap();
        let made = render(&read, &|name| Some(name.to_uppercase())).unwrap();
        assert_eq!(made, json!({"uri": "db://BINDING_ID:PASSWORD@h/STATE.NAME", "list": [{"a": "{{{{"}, 5]}));
    }

    #[test]
    fn a_name_that_is_not_known_and_a_missing_secret_are_problems_with_a_path() {
        let written = table(
            "a = [{ b = '{{binding_id}}' }]\nc = { secret = 'env:STANDPIPE_UNSET' }\nd = '{{state.x}}'",
        );
        let found = read(&written, &[INSTANCE], Path::new("")).unwrap_err();
        let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["a[0].b", "c.secret", "d"]);
    }

    #[test]
    fn a_secret_is_read_when_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("s"), "one\n").unwrap();
        let read = read(&table("p = { secret = 'file:s' }"), &[INSTANCE], folder.path()).unwrap();
        std::fs::write(folder.path().join("s"), "two\n").unwrap();
        assert_eq!(render(&read, &|_| None).unwrap(), json!({"p": "two"}));
    }
}
