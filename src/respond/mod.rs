//! Step 8: an answer or an error in the caller's dialect. It cannot fail.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, VIA, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};
use standpipe_api::{Body, CallId, Dialect, Error, ErrorKind, Fault, Operation};

use crate::error::status;

/// On routed answers of federated faces with more than one provider: who answered.
pub const PROVIDER: HeaderName = HeaderName::from_static("standpipe-provider");

const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What an error's answer depends on beside the error.
#[derive(Clone, Copy, Default)]
pub struct Manner<'a> {
    /// The dialect of the face, when the request got as far as one.
    pub dialect: Option<&'a dyn Dialect>,
    /// The operation, when it was recognised.
    pub operation: Option<Operation>,
    /// The challenges of the listener's authenticators.
    pub challenges: &'a [HeaderValue],
    /// The methods the path takes.
    pub allowed: &'a [Method],
}

/// The answer to a failed call.
pub fn error(error: &Error, call: CallId, manner: Manner<'_>) -> Response<Body> {
    if let (ErrorKind::UnknownResource, Some(dialect)) = (error.kind(), manner.dialect) {
        return dialect.not_found(manner.operation.unwrap_or(Operation::OTHER), error, call);
    }
    let status = status(error);
    let told = manner.dialect.and_then(|dialect| dialect.error_body(error, status, call));
    let (content_type, body) = match told {
        Some((content_type, body)) => (HeaderValue::from_static(content_type), body),
        None => (PROBLEM, problem(error, status, call)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    if let Some(delay) = error.retry_delay() {
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        manner.challenges.iter().for_each(|challenge| {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        });
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let words: Vec<&str> = manner.allowed.iter().map(Method::as_str).collect();
        headers.extend(HeaderValue::from_str(&words.join(", ")).ok().map(|words| (ALLOW, words)));
    }
    response
}

/// Repeats fields of the request in an answer of our own.
pub fn echo(echoed: &[(HeaderName, HeaderValue)], response: &mut Response<Body>) {
    for (name, value) in echoed {
        response.headers_mut().insert(name.clone(), value.clone());
    }
}

/// A body as RFC 9457 describes, with the call's id, whose fault it was, and advice.
pub fn problem(error: &Error, status: StatusCode, call: CallId) -> Bytes {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": error.public(),
        "fault": fault(error.fault()),
        "call": call.to_string(),
    });
    if let Value::Object(members) = &mut body {
        if !error.advice().is_empty() {
            members.insert("advice".into(), error.advice().into());
        }
        if !error.candidates().is_empty() {
            let names = error.candidates().iter().map(|name| Value::from(name.as_str()));
            members.insert("candidates".into(), names.collect());
        }
    }
    Bytes::from(body.to_string())
}

/// Who has to change something, as one word a machine can read.
pub fn fault(fault: &Fault) -> String {
    match fault {
        Fault::Caller => "caller".into(),
        Fault::Proxy => "proxy".into(),
        Fault::Provider(name) => format!("provider:{name}"),
    }
}

/// Whether a head holds `Via` entries of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Earlier {
    /// None.
    #[default]
    None,
    /// Some.
    Some,
}

/// Adds our own entry to `Via` (RFC 9110, section 7.6.3), behind those that are there.
pub fn add_via(headers: &mut HeaderMap, entry: &HeaderValue, earlier: Earlier) {
    if earlier == Earlier::None {
        headers.insert(VIA, entry.clone());
        return;
    }
    let mut line = String::new();
    for part in headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()) {
        let _ = write!(line, "{part}, ");
    }
    line.push_str(entry.to_str().unwrap_or_default());
    if let Ok(line) = HeaderValue::from_str(&line) {
        headers.insert(VIA, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use standpipe_api::{Kind, Resource};

    #[test]
    fn a_problem_says_what_happened_to_whom_and_what_to_do() {
        let db = Resource::new(Kind::of("resource"), "db");
        let problem = Error::ambiguous(&db, vec!["alpha".into(), "beta".into()]);
        let answer = error(&problem, CallId::from_bits(0xabc), Manner::default());
        assert_eq!(answer.status(), 409);
        let body: Value = serde_json::from_slice(answer.body().as_bytes().unwrap()).unwrap();
        assert_eq!(body["candidates"], json!(["alpha", "beta"]));
        assert_eq!(body["call"], "00000000000000000000000000000abc");
        assert_eq!(body["fault"], "caller");
        assert!(body["detail"].as_str().unwrap().contains("resource db"));
        assert!(body["advice"].as_str().unwrap().contains("Standpipe-Provider"));
    }

    #[test]
    fn what_cannot_be_known_says_when_to_ask_again() {
        let answer =
            error(&Error::could_not_ask("db", vec!["beta".into()]), CallId::from_bits(1), Manner::default());
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn the_cause_of_an_error_stays_in_the_log() {
        let hidden = Error::store(std::io::Error::other("SELECT secret"));
        let answer = error(&hidden, CallId::from_bits(1), Manner::default());
        assert!(!String::from_utf8_lossy(answer.body().as_bytes().unwrap()).contains("SELECT"));
        assert!(hidden.log_text().contains("SELECT secret"));
    }

    #[test]
    fn via_entries_of_others_stay_in_front() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.0 a"));
        headers.append(VIA, HeaderValue::from_static("1.1 b"));
        add_via(&mut headers, &HeaderValue::from_static("1.1 standpipe"), Earlier::Some);
        assert_eq!(headers[VIA], "1.0 a, 1.1 b, 1.1 standpipe");
        assert_eq!(headers.get_all(VIA).iter().count(), 1);
    }
}
