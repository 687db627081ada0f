//! The shapes of good answers; the bad ones are `respond/`'s.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use standpipe_api::Body;

/// JSON Lines, one mapping each.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Our own types have text keys only, so writing them into memory cannot fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    typed(status, "application/json", Body::from(text))
}

pub(super) fn metrics(text: String) -> Response<Body> {
    typed(StatusCode::OK, EXPOSITION, Body::from(text))
}

pub(super) fn lines(body: Body) -> Response<Body> {
    typed(StatusCode::OK, NDJSON, body)
}

pub(super) fn done() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
