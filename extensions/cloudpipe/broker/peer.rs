//! News from the broker of the other end: who may bring it, and what it may say.
//!
//! A token counts when it was signed by the pipe's `other.issuer`, for `this.uri`, in the name of `other.uri`, compared as
//! they are: what looks alike is somebody else. With it comes the right to change `other.data`, and no other.

use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use standpipe_api::{ErrorKind, ResourceId};

use super::answer::Refusal;
use super::core::Broker;
use super::pipe::{Pipe, PipeId};
use super::update::By;
use super::wire::Setup;

/// The other end, as a token names it.
pub(super) struct OtherEnd {
    issuer: String,
    uri: String,
}

impl OtherEnd {
    /// Whether a pipe is connected to this end.
    pub(super) fn check(&self, pipe: &Pipe) -> Result<(), Refusal> {
        let is = |told: &Option<String>, known: &String| told.as_ref() == Some(known);
        if is(&pipe.other.issuer, &self.issuer) && is(&pipe.other.uri, &self.uri) {
            Ok(())
        } else {
            Err(Refusal::unauthenticated())
        }
    }
}

/// The bearer token of a request (RFC 6750, section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

impl Broker {
    /// Merges what the other end's broker says into `other.data`.
    pub(super) async fn hear_news(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
        token: &SecretString,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let refused = |why: &str| {
            tracing::warn!(broker = %self.name, %resource, pipe = %id, why, "a broker's token was refused");
            Refusal::unauthenticated()
        };
        // Whether there is such a pipe is nobody's business but its other end's.
        let Some(stored) = self.find(resource, id).await? else {
            return Err(refused("there is no such pipe"));
        };
        let audience = setup.uri(resource, id);
        // Nobody's keys are fetched for a token that could not count anyway.
        let claimed = claimed(token).ok_or_else(|| refused("it is no JWT"))?;
        named(&claimed, &audience)
            .and_then(|other| fits(&other, &stored.pipe))
            .map_err(|why| refused(&why))?;
        let verified = self.engine()?.verifier.verify(token).await;
        let claims = verified.map_err(|error| match error.kind() {
            ErrorKind::Unauthenticated => refused(&error.log_text()),
            _ => {
                tracing::warn!(broker = %self.name, error = error.log_text(), "a broker's token could not be checked");
                Refusal::busy("the token could not be checked now")
            }
        })?;
        let other = named(&claims, &audience).map_err(|why| refused(&why))?;
        only_data(body)?;
        self.update(setup, resource, id, By::OtherEnd(&other), body).await
    }
}

/// The claims of a token as they stand there; nobody has verified them.
fn claimed(token: &SecretString) -> Option<Value> {
    use base64::Engine as _;
    let claims = token.expose_secret().split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// Who a token says it is of, when it is for this pipe.
fn named(claims: &Value, audience: &str) -> Result<OtherEnd, String> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let (Some(issuer), Some(uri)) = (text("iss"), text("sub")) else {
        return Err("it has no iss or sub".to_owned());
    };
    let for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => matches!(several.as_slice(), [Value::String(one)] if one == audience),
        _ => false,
    };
    if !for_us {
        return Err(format!("its aud is {}, not {audience}", claims.get("aud").unwrap_or(&Value::Null)));
    }
    Ok(OtherEnd { issuer: issuer.to_owned(), uri: uri.to_owned() })
}

fn fits(other: &OtherEnd, pipe: &Pipe) -> Result<(), String> {
    other.check(pipe).map_err(|_| format!("the other end is not {:?} of {:?}", other.uri, other.issuer))
}

/// `other.data` and nothing else (decision 44).
fn only_data(body: &[u8]) -> Result<(), Refusal> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad("", format!("the body must be a JSON object: {error}")))?;
    let only = |value: &Value, name: &str| {
        value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(name)).cloned()
    };
    let data = only(&body, "other").and_then(|other| only(&other, "data"));
    let text = "the other end's broker may change other.data and nothing else";
    data.map(drop).ok_or_else(|| Refusal::new(StatusCode::FORBIDDEN, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_audience_is_compared_as_it_is() {
        let claims = |aud: Value| json!({"iss": "i", "sub": "s", "aud": aud});
        for good in [json!("http://a/db/pipes/x"), json!(["http://a/db/pipes/x"])] {
            assert!(named(&claims(good), "http://a/db/pipes/x").is_ok());
        }
        for bad in [
            json!("http://a/db/pipes/xy"),
            json!("http://a/db/pipes/"),
            json!([]),
            json!(null),
            json!(5),
            json!(["http://a/db/pipes/x", "y"]),
        ] {
            assert!(named(&claims(bad.clone()), "http://a/db/pipes/x").is_err(), "{bad}");
        }
        assert!(named(&json!({"sub": "s", "aud": "a"}), "a").is_err());
        assert!(named(&json!({"iss": "i", "aud": "a"}), "a").is_err());
    }

    #[test]
    fn nothing_but_the_other_ends_data_is_changed() {
        for good in [json!({"other": {"data": {"a": 1}}}), json!({"other": {"data": null}})] {
            assert!(only_data(good.to_string().as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            json!({"other": {"data": {}, "uri": "u"}}),
            json!({"other": {"data": {}}, "this": {}}),
            json!({"this": {"data": {}}}),
            json!({"pipe": {"other": {"data": {}}}}),
            json!({"other": {"Data": {}}}),
            json!([]),
        ] {
            assert!(only_data(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
    }
}
