//! A provider whose ids stand behind a prefix on the federated face: taken off on the way to it, put on on the way back.
//! Only the bytes of ids change (decision 50).

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

use super::catalog::{place, replaced};
use super::ids::parameter;
use crate::path::encode_query;

const IDS: [&str; 2] = ["service_id", "plan_id"];

/// A request's body without the prefix; `None`: nothing changes.
pub(super) fn off_body(body: &Bytes, prefix: &str) -> Option<Bytes> {
    changed(body, &["previous_values"], |id| id.strip_prefix(prefix).map(str::to_owned))
}

/// An answer's body with the prefix; `None`: nothing changes.
pub(super) fn on_body(body: &Bytes, prefix: &str) -> Option<Bytes> {
    changed(body, &[], |id| Some(format!("{prefix}{id}")))
}

/// A query without the prefix; `None`: nothing changes.
pub(super) fn off_query(query: &str, prefix: &str) -> Option<String> {
    let mut any = false;
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| {
            let key = pair.split('=').next().unwrap_or_default();
            let id = IDS.contains(&key).then(|| parameter(pair, key)).flatten();
            match id.as_deref().and_then(|id| id.strip_prefix(prefix)) {
                Some(own) => {
                    any = true;
                    format!("{key}={}", encode_query(own))
                }
                None => pair.to_owned(),
            }
        })
        .collect();
    any.then(|| pairs.join("&"))
}

type Members<'a> = HashMap<String, &'a RawValue>;

fn changed(body: &Bytes, within: &[&str], change: impl Fn(&str) -> Option<String>) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let whole: &RawValue = serde_json::from_str(text).ok()?;
    let members: Members<'_> = serde_json::from_str(whole.get()).ok()?;
    let mut changes = of_ids(&members, whole, &change);
    for key in within {
        let inner = members.get(*key).and_then(|inner| serde_json::from_str::<Members<'_>>(inner.get()).ok());
        changes.extend(inner.iter().flat_map(|inner| of_ids(inner, whole, &change)));
    }
    changes.sort_by_key(|(place, _)| place.start);
    (!changes.is_empty()).then(|| Bytes::from(replaced(whole.get(), &changes)))
}

fn of_ids(
    members: &Members<'_>,
    whole: &RawValue,
    change: &impl Fn(&str) -> Option<String>,
) -> Vec<(Range<usize>, String)> {
    let new = |key: &&str| {
        let raw = members.get(*key)?;
        let id: String = serde_json::from_str(raw.get()).ok()?;
        Some((place(raw, whole), Value::from(change(&id)?).to_string()))
    };
    IDS.iter().filter_map(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_of_ids_change() {
        let body = Bytes::from_static(
            br#"{ "plan_id" : "b.p", "n":1.50, "service_id":"b.s","previous_values":{"plan_id":"b.q","x":1e3} }"#,
        );
        let off = off_body(&body, "b.").unwrap();
        assert_eq!(
            off,
            r#"{ "plan_id" : "p", "n":1.50, "service_id":"s","previous_values":{"plan_id":"q","x":1e3} }"#
        );
        assert_eq!(off_body(&off, "b."), None);
        assert_eq!(
            on_body(&Bytes::from_static(br#"{"service_id":"s"}"#), "b.").unwrap(),
            r#"{"service_id":"b.s"}"#
        );
        assert_eq!(on_body(&Bytes::from_static(b"[1]"), "b."), None);
    }

    #[test]
    fn a_query_keeps_its_other_bytes() {
        let query = "accepts_incomplete=true&service_id=b.s%20x&x=%7e&plan_id=p";
        assert_eq!(
            off_query(query, "b.").unwrap(),
            "accepts_incomplete=true&service_id=s%20x&x=%7e&plan_id=p"
        );
        assert_eq!(off_query("plan_id=", "b."), None);
    }
}
