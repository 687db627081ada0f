//! Credentials made at random, for each pipe its own.

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Error, Result};

use super::{Event, Source};
use crate::outside::secret;

/// What `auth:basic` carries.
pub(super) const BASIC: &[&str] = &["USER", "PASS"];
/// What `auth:secret` carries.
pub(super) const SECRET: &[&str] = &["SECRET"];

/// Random values under fixed keys. An update keeps what the pipe has; bind and rotate make new ones.
pub(super) struct Random {
    pub(super) keys: &'static [&'static str],
}

#[async_trait]
impl Source for Random {
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let known = |key: &str| pipe.pointer("/this/data").and_then(|data| data.get(key)).cloned();
        let each = |key: &&str| {
            let kept = if event == Event::Update { known(key) } else { None };
            Ok(((*key).to_owned(), kept.map_or_else(random, Ok)?))
        };
        self.keys.iter().map(each).collect()
    }
}

fn random() -> Result<Value> {
    secret::random().map(Value::String).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn each_pipe_has_its_own_until_it_is_rotated() {
        let source = Random { keys: BASIC };
        let one = source.produce(Event::Bind, &json!({})).await.unwrap();
        let other = source.produce(Event::Bind, &json!({})).await.unwrap();
        assert_ne!(one, other);
        let pipe = json!({"this": {"data": one}});
        assert_eq!(source.produce(Event::Update, &pipe).await.unwrap(), one);
        let rotated = source.produce(Event::Rotate, &pipe).await.unwrap();
        assert_ne!(rotated["PASS"], one["PASS"]);
    }
}
