//! What brokers in the field really answer, read into the shape the specification has.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use standpipe_api::Answer;

/// The items of a list answer: an array as the specification says, or an object from id to item.
///
/// # Errors
/// What it was instead.
pub(super) fn items(answer: &Answer) -> Result<Vec<Map<String, Value>>, String> {
    let value: Value =
        serde_json::from_slice(answer.body()).map_err(|error| format!("the list is not JSON: {error}"))?;
    let members: Vec<Value> = match value {
        Value::Array(items) => items,
        Value::Object(items) => items.into_iter().map(|(id, item)| named(id, item)).collect(),
        Value::Null => Vec::new(),
        _ => return Err("the list is neither an array nor an object".into()),
    };
    let object = |item| match item {
        Value::Object(item) => Ok(item),
        _ => Err("the list holds something that is no object".to_owned()),
    };
    members.into_iter().map(object).collect()
}

/// An item that is told by its key in an object has that name.
fn named(id: String, mut item: Value) -> Value {
    if let Value::Object(members) = &mut item
        && name(members).is_none()
    {
        members.shift_insert(0, "id".to_owned(), id.into());
    }
    item
}

/// What an item is called: `name` for blueprints (some brokers say `id`), `id` for pipes.
pub(super) fn name(item: &Map<String, Value>) -> Option<&str> {
    item.get("name").or_else(|| item.get("id")).and_then(Value::as_str)
}

/// A field by its name, or else by its name in another case: brokers and their callers write `Issuer` too.
pub(crate) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    entry(object, name).map(|(_, value)| value)
}

/// The ids that a body gives a new pipe: flat, as brokers in the field read it, and nested, as the specification says.
pub(crate) fn new_ids(body: &Map<String, Value>) -> [Option<&Value>; 2] {
    let nested = field(body, "pipe").and_then(Value::as_object);
    [Some(body), nested].map(|pipe| field(pipe?, "id").filter(|id| !id.is_null()))
}

/// The name under which a field stands.
pub(super) fn key_of(object: &Map<String, Value>, name: &str) -> Option<String> {
    entry(object, name).map(|(key, _)| key.clone())
}

fn entry<'a>(object: &'a Map<String, Value>, name: &str) -> Option<(&'a String, &'a Value)> {
    let other_case = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    object.get_key_value(name).or_else(other_case)
}

/// Whether a list member of an item has an entry of this id: `protos`, `adapters`. Entries are templates or ids.
pub(super) fn has_entry(item: &Map<String, Value>, member: &str, id: &str) -> bool {
    let is = |entry: &Value| entry.as_str().or_else(|| entry.get("id").and_then(Value::as_str)) == Some(id);
    item.get(member).and_then(Value::as_array).is_some_and(|entries| entries.iter().any(is))
}

/// Whether a pipe was bound with a proto or adapter of this id: `proto`, `adapters`. Brokers say so in the pipe itself or
/// in its links, whose last segment is the id.
pub(super) fn is_bound_with(pipe: &Map<String, Value>, member: &str, id: &str) -> bool {
    let is_id = |entry: &Value| entry.as_str() == Some(id);
    let leads_there = |link: &Value| {
        let href = link.get("href").and_then(Value::as_str).unwrap_or_default();
        let last = href.rsplit('/').next().unwrap_or_default();
        percent_decode_str(last).decode_utf8_lossy() == id
    };
    let any = |found: Option<&Value>, is: &dyn Fn(&Value) -> bool| match found {
        Some(Value::Array(entries)) => entries.iter().any(is),
        Some(one) => is(one),
        None => false,
    };
    let links = pipe.get("_links").and_then(|links| links.get(member));
    any(pipe.get(member), &is_id) || any(links, &leads_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use serde_json::json;
    use standpipe_api::testing::json_answer;

    #[test]
    fn an_object_and_an_array_are_the_same_list() {
        let array = items(&json_answer(StatusCode::OK, &json!([{"id": "a"}, {"id": "b"}]))).unwrap();
        let object = items(&json_answer(StatusCode::OK, &json!({"a": {"id": "a"}, "b": {}}))).unwrap();
        assert_eq!(array, object);
        assert!(items(&json_answer(StatusCode::OK, &json!([1]))).is_err());
        assert!(items(&json_answer(StatusCode::OK, &json!("x"))).is_err());
    }

    #[test]
    fn a_pipe_says_what_it_was_bound_with_by_itself_or_by_its_links() {
        let link = |word: &str, id: &str| json!({"href": format!("http://a/db/offers/o/{word}/{id}")});
        let linked = json!({"_links": {"proto": link("protos", "https"), "adapters": [link("adapters", "auth%3Aoidc")]}});
        let told = json!({"proto": "https", "adapters": ["auth:oidc"]});
        for pipe in [linked, told] {
            let pipe = pipe.as_object().unwrap();
            assert!(is_bound_with(pipe, "proto", "https") && is_bound_with(pipe, "adapters", "auth:oidc"));
            assert!(!is_bound_with(pipe, "proto", "rediss") && !is_bound_with(pipe, "adapters", "oidc"));
        }
    }

    #[test]
    fn entries_are_templates_or_ids() {
        let item = json!({"id": "x", "protos": ["https", {"id": "rediss"}]});
        let item = item.as_object().unwrap();
        assert_eq!(name(item), Some("x"));
        assert!(has_entry(item, "protos", "https") && has_entry(item, "protos", "rediss"));
        assert!(!has_entry(item, "adapters", "https"));
    }
}
