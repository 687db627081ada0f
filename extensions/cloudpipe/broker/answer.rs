//! Answers: JSON, or a problem (RFC 9457) that says what was wrong and where.

use std::borrow::Cow;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use standpipe_api::{Body, Error};

use super::schema::Violation;
use crate::answer::failed;
pub(crate) use crate::answer::json;

/// A request that is not done, as the caller is told.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    detail: Cow<'static, str>,
    violations: Vec<Violation>,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), violations: Vec::new(), allow: None }
    }

    /// 400: something at a path of the body is wrong.
    pub(crate) fn bad(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(path, text)])
    }

    /// 400: the pipe would break its schemas, or limits.
    pub(super) fn invalid(violations: Vec<Violation>) -> Self {
        let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
        Self { violations, ..Self::new(StatusCode::BAD_REQUEST, texts.join("; ")) }
    }

    /// 404: this broker is the authority, and has no such thing.
    pub(crate) fn unknown(detail: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 409: the request contradicts what exists.
    pub(crate) fn conflict(detail: String) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 401: a token that is not that of the other end. Why not is for the log.
    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "the token is not one of this pipe's other end")
    }

    /// Whether it is that 401.
    pub(crate) fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// 405, with the methods that the path has.
    pub(crate) fn method(allow: &'static str) -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path has {allow}"));
        Self { allow: Some(allow), ..refusal }
    }

    /// 503: not now.
    pub(crate) fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// What a caller, or the log, is told.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(first), Some(problem)) = (self.violations.first(), problem.as_object_mut()) {
            let all: Vec<Value> = self
                .violations
                .iter()
                .map(|found| json!({"path": found.path, "detail": found.text}))
                .collect();
            if !first.path.is_empty() {
                problem.insert("path".to_owned(), first.path.clone().into());
            }
            problem.insert("errors".to_owned(), all.into());
        }
        let mut response = json(self.status, &problem);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer error="invalid_token""#));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// What the engine could not do for us.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(failed(&error), error.public().to_owned())
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// An answer that says where the pipe is.
pub(crate) fn located(status: StatusCode, body: &Value, location: &str) -> Response<Body> {
    let mut response = json(status, body);
    // The path was percent-encoded, so it always is a header value.
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
