//! What everybody may read: the discovery document and the keys.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use standpipe_api::{Body, Error, ErrorKind, Fault, Result};

use super::Issuer;

/// Where the discovery document is.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys are.
const KEYS: &str = "/.well-known/jwks.json";

impl Issuer {
    /// The document at a path; `None` when there is none.
    ///
    /// # Errors
    /// It can only be read.
    pub fn document(&self, method: &Method, path: &str) -> Result<Option<Response<Body>>> {
        let text = match path {
            DISCOVERY => Body::from(self.discovery().to_string()),
            KEYS => Body::from(self.keys.load().jwks.clone()),
            _ => return Ok(None),
        };
        let body = match *method {
            Method::GET => text,
            Method::HEAD => Body::empty(),
            _ => {
                let public = format!("{path} can only be read");
                return Err(Error::new(ErrorKind::MethodNotAllowed, Fault::Caller, public));
            }
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Shorter than a new key is published before it signs.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=900"));
        Ok(Some(response))
    }
}
