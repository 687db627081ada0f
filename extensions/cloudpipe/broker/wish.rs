//! What a caller's body asks for. Field names of the spec count in any case, because the reference broker reads
//! them so and its callers write `Issuer`; what is not in the spec is ignored.

use serde_json::{Map, Value};

use super::answer::Refusal;
use super::bounds;
use super::pipe::{End, ID_BYTES, Pipe, PipeId};
use crate::cloudpipe::shape::{field, new_ids};

/// Longest uri or issuer, in bytes.
const URI_BYTES: usize = 2048;

/// A body, read.
pub(crate) struct Wish {
    /// The id it names; `None` when it names none.
    pub(crate) id: Option<PipeId>,
    pub(crate) this: EndWish,
    pub(crate) other: EndWish,
    /// For bindings.
    pub(crate) proto: Option<String>,
    /// For bindings; empty: the defaults.
    pub(crate) adapters: Vec<String>,
}

/// What it says of one end.
#[derive(Default)]
pub(crate) struct EndWish {
    uri: Option<Told<String>>,
    issuer: Option<Told<String>>,
    schema: Option<Value>,
    /// Keys to set, and keys to remove where the value is `null`.
    data: Option<Told<Map<String, Value>>>,
}

/// What it says of something that can be removed.
enum Told<T> {
    /// `null`: there is to be none.
    Nothing,
    This(T),
}

impl Wish {
    /// Reads a body. A binding's pipe stands under `pipe` (the spec) or beside `adapters` and `proto` (the
    /// reference broker).
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        // The text of the parser's error says where, and never holds the body's text.
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad("", format!("the body must be a JSON object: {error}")))?;
        let Value::Object(outer) = body else {
            return Err(Refusal::bad("", "the body must be a JSON object"));
        };
        let nested = field(&outer, "pipe");
        let (prefix, inner) = match nested {
            Some(Value::Object(pipe)) => ("pipe.", pipe),
            None | Some(Value::Null) => ("", &outer),
            Some(_) => return Err(Refusal::bad("pipe", "must be an object")),
        };
        let [flat, nested] = new_ids(&outer);
        let (flat, nested) = (read_id(flat, "id")?, read_id(nested, "pipe.id")?);
        if let (Some(flat), Some(nested)) = (&flat, &nested)
            && flat != nested
        {
            let text = format!("is {flat}, and pipe.id is {nested}: say one of them, or one twice");
            return Err(Refusal::bad("id", text));
        }
        let id = flat.or(nested);
        Ok(Self {
            id,
            this: EndWish::read(inner, "this", prefix)?,
            other: EndWish::read(inner, "other", prefix)?,
            proto: proto(&outer)?,
            adapters: texts(&outer, "adapters")?,
        })
    }

    /// The pipe it would make, before the broker's own data.
    pub(crate) fn into_pipe(self, id: PipeId) -> Pipe {
        let mut pipe = Pipe {
            id,
            this: End::default(),
            other: End::default(),
            binding: None,
            made: std::collections::BTreeMap::new(),
        };
        self.update(&mut pipe);
        pipe
    }

    /// Changes a pipe: merges top-level keys of both ends' data, appends schemas, replaces or removes the other end's uri
    /// and issuer. This end's are the broker's own.
    pub(crate) fn update(mut self, pipe: &mut Pipe) {
        replace(&mut pipe.other.uri, self.other.uri.take());
        replace(&mut pipe.other.issuer, self.other.issuer.take());
        self.this.merge_into(&mut pipe.this);
        self.other.merge_into(&mut pipe.other);
    }
}

impl EndWish {
    fn read(pipe: &Map<String, Value>, name: &str, prefix: &str) -> Result<Self, Refusal> {
        let path = format!("{prefix}{name}");
        let end = match field(pipe, name) {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Object(end)) => end,
            Some(_) => return Err(Refusal::bad(path, "must be an object")),
        };
        let schema = field(end, "schema").filter(|schema| !schema.is_null());
        if let Some(schema) = schema {
            bounds::admit(schema).map_err(|text| Refusal::bad(format!("{path}.schema"), text))?;
        }
        let data = match field(end, "data") {
            None => None,
            Some(Value::Null) => Some(Told::Nothing),
            Some(Value::Object(keys)) => Some(Told::This(keys.clone())),
            Some(_) => return Err(Refusal::bad(format!("{path}.data"), "must be an object or null")),
        };
        let (uri, issuer) = (address(end, "uri", &path)?, address(end, "issuer", &path)?);
        Ok(Self { uri, issuer, schema: schema.cloned(), data })
    }

    fn merge_into(self, end: &mut End) {
        match self.data {
            None => {}
            Some(Told::Nothing) => end.data = None,
            Some(Told::This(keys)) => {
                let data = end.data.get_or_insert_default();
                for (key, value) in keys {
                    if value.is_null() {
                        data.shift_remove(&key);
                    } else {
                        data.insert(key, value);
                    }
                }
            }
        }
        end.schemas.extend(self.schema.filter(|schema| !end.schemas.contains(schema)));
    }
}

fn read_id(id: Option<&Value>, path: &str) -> Result<Option<PipeId>, Refusal> {
    let Some(id) = id else { return Ok(None) };
    let wrong = || format!("must be printable text of 1 to {ID_BYTES} bytes without `/`");
    id.as_str().and_then(PipeId::read).map(Some).ok_or_else(|| Refusal::bad(path, wrong()))
}

fn replace(kept: &mut Option<String>, told: Option<Told<String>>) {
    match told {
        None => {}
        Some(Told::Nothing) => *kept = None,
        Some(Told::This(text)) => *kept = Some(text),
    }
}

/// The uri or issuer of an end.
fn address(end: &Map<String, Value>, name: &str, path: &str) -> Result<Option<Told<String>>, Refusal> {
    let wrong = |text: String| Err(Refusal::bad(format!("{path}.{name}"), text));
    match field(end, name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Told::Nothing)),
        Some(Value::String(text)) if text.is_empty() => {
            wrong("must not be empty; null removes it".to_owned())
        }
        Some(Value::String(text)) if text.len() > URI_BYTES => {
            wrong(format!("is over the limit of {URI_BYTES} bytes"))
        }
        Some(Value::String(text)) => Ok(Some(Told::This(text.clone()))),
        Some(_) => wrong("must be text, or null to remove it".to_owned()),
    }
}

fn proto(body: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match field(body, "proto") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(Refusal::bad("proto", "must be text")),
    }
}

fn texts(object: &Map<String, Value>, name: &str) -> Result<Vec<String>, Refusal> {
    let items = match field(object, name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Refusal::bad(name, "must be a list")),
    };
    let read = |(index, item): (usize, &Value)| {
        let text = item.as_str().map(str::to_owned);
        text.ok_or_else(|| Refusal::bad(format!("{name}[{index}]"), "must be text"))
    };
    items.iter().enumerate().map(read).collect()
}

/// Refuses a pipe that has grown over its bounds.
pub(super) fn within_limits(pipe: &Pipe, bytes: usize, limit: usize) -> Result<(), Refusal> {
    for (path, end) in [("this", &pipe.this), ("other", &pipe.other)] {
        if end.schemas.len() > bounds::SCHEMAS {
            let text =
                format!("would be the {}th of this end; the limit is {}", end.schemas.len(), bounds::SCHEMAS);
            return Err(Refusal::bad(format!("{path}.schema"), text));
        }
    }
    if bytes > limit {
        return Err(Refusal::bad("", format!("the pipe would be over the limit of {limit} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Wish {
        Wish::read(body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_binding_reads_the_same_flat_and_nested_and_in_any_case() {
        let flat = json!({"id": "p", "proto": "https", "adapters": ["auth:oidc"],
            "this": {"Data": {"a": 1}}, "other": {"Issuer": "i", "uri": "u"}});
        let nested = json!({"pipe": {"id": "p", "this": {"data": {"a": 1}}, "other": {"issuer": "i", "uri": "u"}},
            "proto": "https", "adapters": ["auth:oidc"]});
        let [flat, nested] = [flat, nested].map(|body| read(&body));
        assert_eq!((&flat.proto, &flat.adapters), (&nested.proto, &nested.adapters));
        let id = flat.id.clone().unwrap();
        assert_eq!(flat.into_pipe(id.clone()), nested.into_pipe(id));
    }

    #[test]
    fn two_ids_are_none() {
        for body in [
            json!({"id": "p"}),
            json!({"id": null, "pipe": {"id": "p"}}),
            json!({"id": "p", "pipe": {"Id": "p"}}),
        ] {
            assert_eq!(read(&body).id, PipeId::read("p"), "{body}");
        }
        let refusal = Wish::read(br#"{"id":"x9","pipe":{"id":"y9"}}"#).err().unwrap();
        let (status, body) = (refusal.status, refusal.into_response().into_body());
        let told = std::str::from_utf8(body.as_bytes().unwrap()).unwrap();
        assert!(status == 400 && told.contains("x9") && told.contains("y9"), "{told}");
    }

    #[test]
    fn an_update_merges_top_level_keys_and_null_removes() {
        let mut pipe = read(&json!({"other": {"data": {"a": 1, "b": 2}, "uri": "u", "issuer": "i"}}))
            .into_pipe(PipeId::random());
        read(&json!({"other": {"data": {"b": null, "c": {"d": 3}}, "uri": "v"}})).update(&mut pipe);
        assert_eq!(Value::from(pipe.other.data.clone()), json!({"a": 1, "c": {"d": 3}}));
        assert_eq!((pipe.other.uri.as_deref(), pipe.other.issuer.as_deref()), (Some("v"), Some("i")));
        read(&json!({"other": {"data": null, "uri": null}})).update(&mut pipe);
        assert_eq!(
            (&pipe.other.data, &pipe.other.uri, pipe.other.issuer.as_deref()),
            (&None, &None, Some("i"))
        );
        read(&json!({"other": {"Issuer": null}})).update(&mut pipe);
        assert_eq!(pipe.other, End::default());
    }

    #[test]
    fn numbers_keep_their_digits() {
        let pipe = Wish::read(br#"{"this":{"data":{"n":12345678901234567890.10}}}"#).unwrap();
        let text = serde_json::to_string(&pipe.into_pipe(PipeId::random())).unwrap();
        assert!(text.contains("12345678901234567890.10"), "{text}");
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path() {
        for (body, path) in [
            (json!({"id": 5}), "id"),
            (json!({"pipe": {"id": "a/b"}}), "pipe.id"),
            (json!({"pipe": {"this": {"data": 5}}}), "pipe.this.data"),
            (json!({"other": {"uri": 5}}), "other.uri"),
            (json!({"pipe": {"other": {"uri": ""}}}), "pipe.other.uri"),
            (json!({"other": {"issuer": ""}}), "other.issuer"),
            (json!({"other": {"uri": "u".repeat(URI_BYTES + 1)}}), "other.uri"),
            (json!({"other": {"schema": {"$ref": "http://x"}}}), "other.schema"),
            (json!({"adapters": ["a", 5]}), "adapters[1]"),
        ] {
            let refusal = Wish::read(body.to_string().as_bytes()).err().unwrap();
            let body = refusal.into_response().into_body();
            let problem: Value = serde_json::from_slice(body.as_bytes().unwrap()).unwrap();
            assert_eq!(problem["path"], path, "{body:?}");
        }
    }
}
