//! Tokens that brokers show each other, as far as they can be read without keys: whose they say they are, and what the
//! bearer may do.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

/// What a token says; nobody has verified it, unless it was read from verified claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) issuer: String,
    pub(super) subject: String,
    audience: Option<String>,
}

impl Claimed {
    /// Reads a compact JWS (RFC 7515); `None` when it is none, or names nobody.
    pub(super) fn read(token: &SecretString) -> Option<Self> {
        let claims = token.expose_secret().split('.').nth(1)?;
        Self::of(&serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?)
    }

    /// Reads claims.
    pub(super) fn of(claims: &Value) -> Option<Self> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => Some(one.clone()),
            // One among several would make the token good elsewhere too.
            Some(Value::Array(several)) => match several.as_slice() {
                [Value::String(one)] => Some(one.clone()),
                _ => None,
            },
            _ => None,
        };
        Some(Self { issuer: text("iss")?, subject: text("sub")?, audience })
    }

    /// Whether it is for this address, compared as it is.
    pub(super) fn is_for(&self, address: &str) -> bool {
        self.audience.as_deref() == Some(address)
    }

    /// Whether verified claims say the same.
    pub(super) fn fits(&self, verified: &Value) -> bool {
        Self::of(verified).as_ref() == Some(self)
    }
}

/// The data of `{"other":{"data":..}}`, where `None` takes everything back; nothing when the body says anything else: a broker
/// may change `other.data` and no more (decision 44).
pub(super) fn only_data(body: &[u8]) -> Option<Option<Map<String, Value>>> {
    let only = |value: Value, name: &str| match value {
        Value::Object(mut members) if members.len() == 1 => members.remove(name),
        _ => None,
    };
    let other = only(serde_json::from_slice(body).ok()?, "other")?;
    match only(other, "data")? {
        Value::Null => Some(None),
        Value::Object(data) => Some(Some(data)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_audience_is_compared_as_it_is() {
        let is_for = |aud: Value| {
            let claims = json!({"iss": "i", "sub": "s", "aud": aud});
            Claimed::of(&claims).is_some_and(|claimed| claimed.is_for("http://a/db/pipes/x"))
        };
        assert!(is_for(json!("http://a/db/pipes/x")) && is_for(json!(["http://a/db/pipes/x"])));
        for bad in [
            json!("http://a/db/pipes/xy"),
            json!("http://a/db/pipes/"),
            json!([]),
            json!(null),
            json!(5),
            json!(["http://a/db/pipes/x", "y"]),
        ] {
            assert!(!is_for(bad.clone()), "{bad}");
        }
        assert_eq!(Claimed::of(&json!({"sub": "s", "aud": "a"})), None);
        assert_eq!(Claimed::of(&json!({"iss": "i", "aud": "a"})), None);
    }

    #[test]
    fn nothing_but_the_other_ends_data_is_changed() {
        let read = |body: Value| only_data(body.to_string().as_bytes());
        assert!(read(json!({"other": {"data": {"a": 1}}})).is_some_and(|data| data.is_some()));
        assert_eq!(read(json!({"other": {"data": null}})), Some(None));
        for bad in [
            json!({"other": {"data": {}, "uri": "u"}}),
            json!({"other": {"data": {}}, "this": {}}),
            json!({"this": {"data": {}}}),
            json!({"pipe": {"other": {"data": {}}}}),
            json!({"other": {"Data": {}}}),
            json!({"other": {"data": 5}}),
            json!([]),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }
}
