//! The platform's `context`, signed for brokers that are to trust it: `context.signature` is a JWS (RFC 7515) of type
//! `osb-context+jwt` whose claims are `iss` (standpipe), `aud` (the provider's url), `iat` and `context`, the object as it was
//! without its signature. The keys are at standpipe's `/.well-known/jwks.json`, the next one an hour before it signs.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request};
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use standpipe_api::{Body, Federation, Provider, Result, SigningAlgorithm};

use super::catalog::{place, replaced};

/// The type of the token, so that it is taken for no other.
const TYPE: &str = "osb-context+jwt";

/// Signs the context of a request, if it has one.
///
/// # Errors
/// standpipe has no key to sign with.
pub(super) async fn sign(
    request: &mut Request<Body>,
    provider: &Provider,
    algorithm: SigningAlgorithm,
    fed: &dyn Federation,
) -> Result<()> {
    let Some(body) = request.body().as_bytes() else { return Ok(()) };
    let Some(mut context) = context(body) else { return Ok(()) };
    context.remove("signature");
    let claims = json!({ "aud": provider.url, "context": context });
    let signature = fed.sign(&claims, algorithm, TYPE).await?;
    if let Some(signed) = with_signature(body, signature.expose_secret()) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(signed.len()));
        *request.body_mut() = Body::from(signed);
    }
    Ok(())
}

fn context(body: &Bytes) -> Option<Map<String, Value>> {
    let body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    body.get("context")?.as_object().cloned()
}

type Members<'a> = HashMap<String, &'a RawValue>;

/// The body with the signature as the first member of its context, or in place of the one that is there; every other byte stays.
fn with_signature(body: &Bytes, signature: &str) -> Option<Bytes> {
    let whole: &RawValue = serde_json::from_slice(body).ok()?;
    let members: Members<'_> = serde_json::from_str(whole.get()).ok()?;
    let context = *members.get("context")?;
    let inner: Members<'_> = serde_json::from_str(context.get()).ok()?;
    let value = Value::from(signature).to_string();
    let change = match inner.get("signature") {
        Some(old) => (place(old, whole), value),
        None => {
            let start = place(context, whole).start + 1;
            let comma = if inner.is_empty() { "" } else { "," };
            (start..start, format!("\"signature\":{value}{comma}"))
        }
    };
    Some(Bytes::from(replaced(whole.get(), &[change])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_goes_in_and_every_other_byte_stays() {
        let signed = |body: &'static str| {
            let body = with_signature(&Bytes::from_static(body.as_bytes()), "s.i.g")?;
            Some(String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            signed(r#"{ "a":1.0, "context": { "x":1e2 }}"#).unwrap(),
            r#"{ "a":1.0, "context": {"signature":"s.i.g", "x":1e2 }}"#
        );
        assert_eq!(signed(r#"{"context":{}}"#).unwrap(), r#"{"context":{"signature":"s.i.g"}}"#);
        assert_eq!(
            signed(r#"{"context":{"x":1,"signature":"forged"}}"#).unwrap(),
            r#"{"context":{"x":1,"signature":"s.i.g"}}"#
        );
        assert_eq!(signed(r#"{"context":[]}"#), None);
    }
}
