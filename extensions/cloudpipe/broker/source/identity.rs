//! `oidc`: who comes through the pipe, as the declared identity and the pipe's own addresses say. As long as one of
//! them is not known there is no identity, not a part of one.

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::Result;

use super::{Event, Source};

/// The identity as declared; what is left out follows from the pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    /// `ISS`; else the issuer of this end.
    pub(super) issuer: Option<String>,
    /// `SUB`; else the uri of this end.
    pub(super) subject: Option<String>,
    /// `AUD`; else the uri of the other end, once that is known.
    pub(super) audience: Option<String>,
}

/// What `auth:oidc` carries.
pub(super) struct Identity(pub(super) Declared);

#[async_trait]
impl Source for Identity {
    async fn produce(&self, _event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let of_pipe = |pointer: &str| pipe.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let keys = [
            ("AUD", self.0.audience.clone().or_else(|| of_pipe("/other/uri"))),
            ("ISS", self.0.issuer.clone().or_else(|| of_pipe("/this/issuer"))),
            ("SUB", self.0.subject.clone().or_else(|| of_pipe("/this/uri"))),
        ];
        let known = keys.into_iter().map(|(key, value)| Some((key.to_owned(), value?.into())));
        Ok(known.collect::<Option<_>>().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_not_declared_follows_from_the_pipe() {
        let pipe =
            json!({"this": {"uri": "https://t/p", "issuer": "https://t"}, "other": {"uri": "https://o/p"}});
        let made = Identity(Declared::default()).produce(Event::Bind, &pipe).await.unwrap();
        assert_eq!(
            Value::from(made),
            json!({"AUD": "https://o/p", "ISS": "https://t", "SUB": "https://t/p"})
        );
        let declared = Declared { subject: Some("svc".into()), ..Declared::default() };
        let made = Identity(declared.clone()).produce(Event::Update, &pipe).await.unwrap();
        assert_eq!(Value::from(made), json!({"AUD": "https://o/p", "ISS": "https://t", "SUB": "svc"}));
        let pending = json!({"this": {"uri": "https://t/p", "issuer": "https://t"}, "other": {}});
        assert!(Identity(declared).produce(Event::Bind, &pending).await.unwrap().is_empty());
    }
}
