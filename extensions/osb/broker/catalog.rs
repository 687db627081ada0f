//! The catalog: made once from the settings, answered from memory.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use standpipe_api::Body;

/// The catalog as it is answered.
#[derive(Debug)]
pub(super) struct Catalog {
    body: Bytes,
    etag: String,
}

impl Catalog {
    pub(super) fn new<'a>(services: impl Iterator<Item = &'a Value>) -> Self {
        let body = Bytes::from(json!({"services": services.collect::<Vec<_>>()}).to_string());
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let hex =
            digest.as_ref().iter().take(16).fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Self { body, etag: format!("\"{hex}\"") }
    }

    /// The whole catalog, or 304 to whoever has it already.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let mut known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
        // If-None-Match compares weakly (RFC 9110, section 13.1.2).
        let is_known = known.any(|field| {
            field.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag)
        });
        let mut response =
            Response::new(if is_known { Body::empty() } else { Body::from(self.body.clone()) });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // Hex digits in quotes always are a header value.
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        response
    }
}
