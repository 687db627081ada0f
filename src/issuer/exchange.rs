//! The wire of `/oauth2/token`: a token exchange (RFC 8693) in, a token or an error of RFC 6749 out.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;
use standpipe_api::{Body, Timestamp};

/// The one grant there is.
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What a subject or actor token may be (RFC 8693, section 3).
const KINDS: [&str; 3] = [
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
];
/// What is given.
const GIVEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A request for an exchange.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// On whose behalf.
    pub subject: String,
    /// Who acts for them.
    pub actor: Option<String>,
    /// Where the token is to be used: names or addresses of providers.
    pub targets: Vec<String>,
}

/// An error answer (RFC 6749, section 5.2; RFC 8693, section 2.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub error: &'static str,
    /// What is wrong, for the developer.
    pub description: String,
    /// The status; 400 but for clients that are nobody, and parties that do not answer.
    pub status: StatusCode,
}

impl Refused {
    /// An error with status 400.
    pub fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into(), status: StatusCode::BAD_REQUEST }
    }

    /// The client is nobody we know.
    pub fn client(description: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, ..Self::new("invalid_client", description) }
    }

    /// The answer.
    pub fn response(&self, challenges: &[HeaderValue]) -> Response<Body> {
        let mut response = answer(
            self.status,
            &json!({"error": self.error, "error_description": self.description}).to_string(),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            challenges.iter().for_each(|challenge| {
                response.headers_mut().append(WWW_AUTHENTICATE, challenge.clone());
            });
        }
        response
    }
}

/// Reads the form.
///
/// # Errors
/// What is missing, doubled or not supported.
pub fn read(headers: &HeaderMap, body: &Bytes) -> Result<Exchange, Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::new("invalid_request", "send application/x-www-form-urlencoded"));
    }
    fields(body)
}

fn fields(body: &Bytes) -> Result<Exchange, Refused> {
    let invalid = |text: String| Refused::new("invalid_request", text);
    let text = std::str::from_utf8(body).map_err(|_| invalid("the form is not UTF-8".into()))?;
    let mut found = Exchange::default();
    let (mut grant, mut subject_kind, mut actor_kind) = (None, None, None);
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
        let once = |slot: &mut Option<String>, value: String| match slot.replace(value) {
            Some(_) => Err(Refused::new("invalid_request", format!("{name} stands there twice"))),
            None => Ok(()),
        };
        match name {
            "grant_type" => once(&mut grant, value)?,
            "subject_token" if found.subject.is_empty() => found.subject = value,
            "subject_token" => return Err(invalid("subject_token stands there twice".into())),
            "subject_token_type" => once(&mut subject_kind, value)?,
            "actor_token" => once(&mut found.actor, value)?,
            "actor_token_type" => once(&mut actor_kind, value)?,
            "audience" | "resource" => found.targets.push(value),
            "requested_token_type" if !KINDS[..2].contains(&value.as_str()) => {
                return Err(invalid(format!("{value} cannot be requested")));
            }
            // Scopes are the provider's configuration, not the caller's choice.
            _ => {}
        }
    }
    if grant.as_deref() != Some(GRANT) {
        return Err(Refused::new("unsupported_grant_type", format!("grant_type must be {GRANT}")));
    }
    if found.subject.is_empty() {
        return Err(invalid("subject_token is missing".into()));
    }
    for (name, kind, token) in
        [("subject_token_type", subject_kind, true), ("actor_token_type", actor_kind, found.actor.is_some())]
    {
        let known = kind.as_deref().is_some_and(|kind| KINDS.contains(&kind));
        if token != kind.is_some() || (token && !known) {
            return Err(invalid(format!("{name} must be one of {}", KINDS.join(", "))));
        }
    }
    Ok(found)
}

/// The answer with a token (RFC 8693, section 2.2.1).
pub fn granted(token: &str, expires_at: Option<Timestamp>) -> Response<Body> {
    let mut body = json!({"access_token": token, "issued_token_type": GIVEN, "token_type": "Bearer"});
    if let (Some(end), Some(members)) = (expires_at, body.as_object_mut()) {
        let left = (end.as_millis() - Timestamp::now().as_millis()).max(0) / 1000;
        members.insert("expires_in".into(), left.into());
    }
    answer(StatusCode::OK, &body.to_string())
}

fn answer(status: StatusCode, body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: &str) -> Result<Exchange, Refused> {
        let form = form.replace("GRANT", GRANT).replace("JWT", KINDS[1]);
        fields(&Bytes::from(form))
    }

    #[test]
    fn a_whole_form_is_read() {
        let found = read(
            "grant_type=GRANT&subject_token=a.b.c&subject_token_type=JWT&audience=al%20pha&resource=http%3A%2F%2Fx",
        );
        let expected = Exchange {
            subject: "a.b.c".into(),
            actor: None,
            targets: vec!["al pha".into(), "http://x".into()],
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_is_missing_or_doubled_is_named() {
        for (form, error, word) in [
            ("", "unsupported_grant_type", "grant_type"),
            ("grant_type=password", "unsupported_grant_type", "grant_type"),
            ("grant_type=GRANT", "invalid_request", "subject_token"),
            ("grant_type=GRANT&subject_token=a", "invalid_request", "subject_token_type"),
            ("grant_type=GRANT&subject_token=a&subject_token=b", "invalid_request", "twice"),
            ("grant_type=GRANT&grant_type=GRANT", "invalid_request", "twice"),
            (
                "grant_type=GRANT&subject_token=a&subject_token_type=JWT&actor_token=b",
                "invalid_request",
                "actor_token_type",
            ),
            (
                "grant_type=GRANT&subject_token=a&subject_token_type=saml",
                "invalid_request",
                "subject_token_type",
            ),
            ("grant_type=GRANT&requested_token_type=saml", "invalid_request", "saml"),
        ] {
            let refused = read(form).unwrap_err();
            assert!(refused.error == error && refused.description.contains(word), "{form}: {refused:?}");
        }
    }
}
