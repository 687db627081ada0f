//! What brokers in the field really answer, read into the shape the specification has.

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
        Value::Object(items) => items.into_iter().map(|(_, item)| item).collect(),
        Value::Null => Vec::new(),
        _ => return Err("the list is neither an array nor an object".into()),
    };
    let object = |item| match item {
        Value::Object(item) => Ok(item),
        _ => Err("the list holds something that is no object".to_owned()),
    };
    members.into_iter().map(object).collect()
}

/// What an item is called: `name` for blueprints (some brokers say `id`), `id` for pipes.
pub(super) fn name(item: &Map<String, Value>) -> Option<&str> {
    item.get("name").or_else(|| item.get("id")).and_then(Value::as_str)
}

/// Whether a list member of an item has an entry of this id: `protos`, `adapters`. Entries are templates or ids.
pub(super) fn has_entry(item: &Map<String, Value>, member: &str, id: &str) -> bool {
    let is = |entry: &Value| entry.as_str().or_else(|| entry.get("id").and_then(Value::as_str)) == Some(id);
    item.get(member).and_then(Value::as_array).is_some_and(|entries| entries.iter().any(is))
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
        let object =
            items(&json_answer(StatusCode::OK, &json!({"a": {"id": "a"}, "b": {"id": "b"}}))).unwrap();
        assert_eq!(array, object);
        assert!(items(&json_answer(StatusCode::OK, &json!([1]))).is_err());
        assert!(items(&json_answer(StatusCode::OK, &json!("x"))).is_err());
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
