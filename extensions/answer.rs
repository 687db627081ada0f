//! What extensions that answer by themselves have in common.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::Value;
use standpipe_api::{Body, Error, ErrorKind};

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The status by which a built-in broker tells what the engine could not do for it; what is not the caller's doing is logged.
pub(crate) fn failed(error: &Error) -> StatusCode {
    let status = match error.kind() {
        ErrorKind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::BodyBroken | ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
        ErrorKind::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    if status.is_server_error() {
        tracing::error!(error = error.log_text(), "the broker could not do its work");
    }
    status
}
