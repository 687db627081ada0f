//! The ids of service and plan in a request, which tell where it goes.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use standpipe_api::Members;

/// What a request says of its service and plan. Empty texts count as absent: they lead nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    /// `service_id`.
    pub service: Option<String>,
    /// `plan_id`.
    pub plan: Option<String>,
    /// `predecessor_binding_id`: a rotation says no other (spec, "Rotating a Service Binding").
    pub predecessor: Option<String>,
    /// Whether an id stands there twice, or under another spelling of its key too: brokers differ in which they read.
    pub ambiguous: bool,
}

impl Ids {
    /// Those of a body; what is no JSON object has none.
    pub(super) fn of_body(body: &Bytes) -> Self {
        let Members(members) = members(body).unwrap_or_default();
        // Brokers written in Go read a key in any case.
        let member = |key: &str| {
            let other = || members.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
            members.iter().rev().find(|(name, _)| name == key).or_else(other).map(|(_, value)| value)
        };
        let text = |key: &str| serde_json::from_str::<String>(member(key)?.get()).ok();
        let predecessor = text("predecessor_binding_id").filter(|id| !id.is_empty());
        let spellings = |key: &str| members.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).count();
        let ambiguous = spellings("service_id") > 1 || spellings("plan_id") > 1;
        Self { predecessor, ambiguous, ..Self::read(text("service_id"), text("plan_id")) }
    }

    /// Whether a body is a JSON object, so that it can say them.
    pub(super) fn can_be_in(body: &Bytes) -> bool {
        members(body).is_some()
    }

    /// Those of a query.
    pub(super) fn of_query(query: &str) -> Self {
        Self::read(parameter(query, "service_id"), parameter(query, "plan_id"))
    }

    fn read(service: Option<String>, plan: Option<String>) -> Self {
        let given = |id: Option<String>| id.filter(|id| !id.is_empty());
        Self { service: given(service), plan: given(plan), ..Self::default() }
    }
}

fn members(body: &Bytes) -> Option<Members<'_>> {
    serde_json::from_slice(body).ok()
}

/// The first value of a parameter of a query, decoded; `None` when the query does not have it.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_or_no_text_leads_nowhere() {
        let of = |body: &'static str| Ids::of_body(&Bytes::from_static(body.as_bytes()));
        assert_eq!(of(r#"{"service_id":"s","plan_id":7}"#).service.as_deref(), Some("s"));
        for body in ["", "[]", r#"{"service_id":""}"#, r#"{"service_id":null}"#, "{"] {
            assert_eq!(of(body), Ids::default(), "{body}");
        }
        let twice = of(r#"{"service_id":"a","plan_id":"p","service_id":"b"}"#);
        assert_eq!((twice.service.as_deref(), twice.ambiguous), (Some("b"), true));
        assert_eq!(Ids::of_query("service_id=&plan%5Fid=a%20b+c").plan.as_deref(), Some("a b c"));
    }
}
