//! From what happened to a status.
//!
//! One error type serves engine and extensions: [`standpipe_api::Error`], which knows what happened and whose
//! fault it is. Modules with failures of their own (`store`, `forward`, `config`) have `thiserror` enums and
//! convert where context is added. Only this file knows statuses; only `respond/` writes bodies.

use http::StatusCode;
use standpipe_api::{Error, ErrorKind};

/// The status of an error.
///
/// Platforms delete records on a wrong 404 or 410 and start clean-up on a wrong 5xx, so the choice is a
/// promise: 404 only when an authority said so; 503 with `Retry-After` when a read could not be asked; 502
/// when a write was never sent; 504 when it was sent and may have worked; 409 when two providers claim one id.
pub fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::BadRequest | ErrorKind::Invalid | ErrorKind::BodyBroken => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NoRoute | ErrorKind::UnknownResource => StatusCode::NOT_FOUND,
        ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Ambiguous | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Busy => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::NotSent | ErrorKind::Nonsense => StatusCode::BAD_GATEWAY,
        ErrorKind::CouldNotAsk | ErrorKind::Overloaded | ErrorKind::StoreUnavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Loop => StatusCode::LOOP_DETECTED,
    }
}
