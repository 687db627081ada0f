//! What is kept of a request so that it can be sent again.
//!
//! Every idempotent request is kept while it is under way, and almost none is ever sent again: the head is kept as
//! the lines it was, in one piece of memory, instead of as a second header map.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use standpipe_api::Body;

/// Room for the fields of an ordinary request.
const ORDINARY: usize = 512;

/// A request that can be sent again: its body is all here.
pub struct Replay {
    method: Method,
    uri: Uri,
    /// `name`, 0, `value`, 0 for each field; neither can hold a zero byte.
    fields: Vec<u8>,
    body: Bytes,
}

impl Replay {
    /// Keeps a request, if it can be sent again (RFC 9110, section 9.2.2).
    pub fn keep(request: &Request<Body>) -> Option<Self> {
        if request.method().is_idempotent() { Self::keep_any(request) } else { None }
    }

    /// Keeps a request of any method, if all of it is here: for a provider that has refused it unread.
    pub fn keep_any(request: &Request<Body>) -> Option<Self> {
        let body = request.body().as_bytes()?;
        let mut fields = Vec::with_capacity(ORDINARY);
        for (name, value) in request.headers() {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.push(0);
            fields.extend_from_slice(value.as_bytes());
            fields.push(0);
        }
        Some(Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            fields,
            body: body.clone(),
        })
    }

    /// Whether sending it twice is the same as once.
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// The request again.
    pub fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body.clone()));
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        *request.headers_mut() = self.headers();
        request
    }

    fn headers(&self) -> HeaderMap {
        let mut parts = self.fields.split(|byte| *byte == 0);
        let mut headers = HeaderMap::new();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            // These bytes were a name and a value before.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_as_it_was() {
        let mut request = Request::put("/db/pipes/a?x=1").body(Body::from("{}")).unwrap();
        for (name, value) in [("x-b", "2"), ("x-a", ""), ("x-b", "3, \u{e9}"), ("host", "broker")] {
            request.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let again = Replay::keep(&request).unwrap().request();
        assert_eq!((again.method(), again.uri()), (request.method(), request.uri()));
        assert_eq!(again.headers(), request.headers());
        assert_eq!(again.body().as_bytes().unwrap(), "{}");
    }

    #[test]
    fn what_is_not_idempotent_or_not_whole_is_not_kept() {
        assert!(Replay::keep(&Request::post("/").body(Body::empty()).unwrap()).is_none());
        let streamed = Body::stream(http_body_util::StreamBody::new(futures_util::stream::pending()));
        assert!(Replay::keep(&Request::put("/").body(streamed).unwrap()).is_none());
    }
}
