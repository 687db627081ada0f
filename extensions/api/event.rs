//! What happened, in order: the feed that portals follow instead of polling.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Body, Caller, CallerId, ProviderId, Resource, Timestamp};

/// Bytes of an event's payload, as JSON.
const PAYLOAD: usize = 16 * 1024;

/// An event to be written, best in one transaction with what it tells of ([`crate::Change::Event`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    kind: &'static str,
    subject: Option<Resource>,
    provider: Option<ProviderId>,
    tenant: Option<String>,
    owner: Option<CallerId>,
    payload: String,
}

impl NewEvent {
    /// An event of a kind, as `instance.created`: what it is about, and what has become of it. The payload is kept as it is
    /// and shown to everybody who may see the event: no secrets. One over 16 KiB, or that is not JSON, is left out and the
    /// payload says so; the event stands, for what it tells of has happened.
    pub fn new(kind: &'static str, payload: &impl Serialize) -> Self {
        let omitted = |why: String| json!({ "omitted": why }).to_string();
        let payload = match serde_json::to_string(payload) {
            Ok(text) if text.len() <= PAYLOAD => text,
            Ok(text) => omitted(format!("{} bytes are more than the {PAYLOAD} that are kept", text.len())),
            Err(error) => omitted(format!("it is no JSON: {error}")),
        };
        Self { kind, subject: None, provider: None, tenant: None, owner: None, payload }
    }

    /// The same, about a resource. Together with a provider it decides who may see the event.
    #[must_use]
    pub fn about(self, subject: Resource) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// The same, at a provider. An event without one is its owner's and its tenant's alone.
    #[must_use]
    pub fn at(self, provider: ProviderId) -> Self {
        Self { provider: Some(provider), ..self }
    }

    /// The same, caused by a caller: seen by it, and of others who have a tenant only by its tenant.
    #[must_use]
    pub fn of(self, caller: &Caller) -> Self {
        self.owned(Some(caller.id.clone()), caller.tenant.clone())
    }

    /// The same, of a caller that is known from a mapping or record.
    #[must_use]
    pub fn owned(self, owner: Option<CallerId>, tenant: Option<String>) -> Self {
        Self { owner, tenant, ..self }
    }

    /// What happened.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it happened to.
    pub fn subject(&self) -> Option<&Resource> {
        self.subject.as_ref()
    }

    /// Where.
    pub fn provider(&self) -> Option<&ProviderId> {
        self.provider.as_ref()
    }

    /// The tenant of the caller whose it is.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The caller whose it is.
    pub fn owner(&self) -> Option<&CallerId> {
        self.owner.as_ref()
    }

    /// Its payload as JSON text, at most 16 KiB.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// The event as it is read back.
    pub fn written(self, revision: u64, at: Timestamp) -> Event {
        let Self { kind, subject, provider, tenant, owner, payload } = self;
        let payload = serde_json::from_str(&payload).unwrap_or_default();
        Event { revision, at, kind: kind.to_owned(), subject, provider, tenant, owner, payload }
    }
}

/// An event as it is read. Of its fields only these are there that it was written with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: higher than that of every event before it, and never given twice.
    pub revision: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What happened.
    pub kind: String,
    /// What it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Resource>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderId>,
    /// The tenant of the caller whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The caller whose it is; callers are told of themselves only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<CallerId>,
    /// The rest, by kind.
    pub payload: Value,
}

/// A part of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// Events in the order of their revisions.
    pub events: Vec<Event>,
    /// What to read behind next. It counts events that were left out, too.
    pub next: u64,
    /// The oldest event that is kept, or the next one to be written if there is none.
    pub oldest: u64,
}

/// A revision behind which the feed cannot be read without a gap: what followed it has been removed, or it was never given
/// (the data is an older copy of what the follower knows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// The oldest event that is kept, or the next one to be written if there is none.
    pub oldest: u64,
    /// The last event that was written.
    pub last: u64,
}

impl Outdated {
    /// 410 with both revisions and advice, as RFC 9457 describes.
    pub fn answer(self) -> Response<Body> {
        let Self { oldest, last } = self;
        let body = json!({
            "type": "about:blank",
            "title": "Gone",
            "status": 410,
            "detail": format!("events are kept from revision {oldest} to {last}; what followed the one asked for is not known"),
            "fault": "caller",
            "advice": format!("read anew what you follow, then go on with after={last}"),
            "oldest": oldest,
            "last": last,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = StatusCode::GONE;
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stands_also_when_its_payload_is_too_large() {
        let kept = NewEvent::new("a.b", &json!({ "text": "x".repeat(PAYLOAD - 11) }));
        assert_eq!(kept.payload().len(), PAYLOAD);
        let large = NewEvent::new("a.b", &json!({ "text": "x".repeat(PAYLOAD - 10) }));
        assert_eq!(
            large.written(1, Timestamp::from_millis(0)).payload,
            json!({"omitted": "16385 bytes are more than the 16384 that are kept"})
        );
    }

    #[test]
    fn an_event_survives_a_trip_through_json_with_the_digits_of_its_numbers() {
        let costs: Value = serde_json::from_str(r#"{"usd":0.060000000000000000001}"#).unwrap();
        let event = NewEvent::new("a.b", &costs).at("alpha".into()).written(7, Timestamp::from_millis(0));
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.contains("0.060000000000000000001"), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
