//! Answers: JSON, or an error as the specification has it.

use http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use standpipe_api::{Body, Error};

use super::records::Failure;
use crate::answer::failed;
pub(super) use crate::answer::json;

/// A request that is not done, as the platform is told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    body: Map<String, Value>,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, description: impl Into<String>) -> Self {
        let body = Map::from_iter([("description".to_owned(), Value::String(description.into()))]);
        Self { status, body, allow: None }
    }

    /// 400: the request is wrong.
    pub(super) fn bad(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, description)
    }

    /// 404: there is no such thing, or it may not be fetched.
    pub(super) fn unknown(description: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, description)
    }

    /// 409: it exists otherwise.
    pub(super) fn conflict(description: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, description)
    }

    /// 410: what is to be deleted does not exist.
    pub(super) fn gone(description: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, description)
    }

    /// 422 with one of the specification's codes.
    pub(super) fn code(error: &'static str, description: impl Into<String>) -> Self {
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, description);
        refusal.body.insert("error".to_owned(), error.into());
        refusal
    }

    /// 422: something is in progress.
    pub(super) fn concurrency() -> Self {
        Self::code("ConcurrencyError", "another operation on it is in progress; ask again when it has ended")
    }

    /// 405, with the methods that the path has.
    pub(super) fn method(allow: &'static str) -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path has {allow}"));
        Self { allow: Some(allow), ..refusal }
    }

    /// 503: not now.
    pub(super) fn busy(description: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, description)
    }

    /// What a platform, or the log, is told.
    pub(super) fn description(&self) -> String {
        self.body.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = json(self.status, &Value::Object(self.body));
        if let Some(allow) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// An operation that somebody waited for.
impl From<&Failure> for Refusal {
    fn from(failure: &Failure) -> Self {
        let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut refusal = Self::new(status, failure.description.clone());
        refusal.body.extend(details(failure));
        refusal
    }
}

/// The fields of a failure beside its description.
pub(super) fn details(failure: &Failure) -> Map<String, Value> {
    let error = failure.error.clone().map(|error| ("error", Value::String(error)));
    let usable = failure.instance_usable.map(|usable| ("instance_usable", Value::Bool(usable)));
    let repeatable = failure.update_repeatable.map(|yes| ("update_repeatable", Value::Bool(yes)));
    [error, usable, repeatable].into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What the engine could not do for us.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(failed(&error), error.public().to_owned())
    }
}

/// `{}`: done, and nothing more to say.
pub(super) fn done() -> Response<Body> {
    json(StatusCode::OK, &json!({}))
}
