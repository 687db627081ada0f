//! `table`: the same data for every pipe; secrets in it stand elsewhere.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Error, Problem, Problems, Result, SecretRef};

use super::{Event, Source};
use crate::outside::secret;

/// Data as it is declared: values, and where secret ones are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    data: Map<String, Value>,
    secrets: BTreeMap<String, SecretRef>,
}

impl Table {
    /// Takes `{ secret = "env:NAME" }` out of the data.
    pub(super) fn read(data: Map<String, Value>) -> Result<Self, Problems> {
        let (mut plain, mut secrets, mut problems) = (Map::new(), BTreeMap::new(), Problems::new());
        for (key, value) in data {
            let reference = match value.as_object().filter(|object| object.len() == 1) {
                Some(object) => object.get("secret").and_then(Value::as_str),
                None => None,
            };
            let Some(reference) = reference else {
                plain.insert(key, value);
                continue;
            };
            let at = format!("data.{key}.secret");
            let found = SecretRef::parse(reference).and_then(|found| secret::read(&found).map(|_| found));
            match found {
                Ok(reference) => drop(secrets.insert(key, reference)),
                Err(text) => problems.push(Problem::at(at, text)),
            }
        }
        if problems.is_empty() { Ok(Self { data: plain, secrets }) } else { Err(problems) }
    }

    /// The secrets as they are now; one that cannot be read is told when a pipe needs it.
    pub(super) fn secrets(&self) -> BTreeMap<String, String> {
        let now =
            |(key, reference): (&String, &SecretRef)| Some((key.clone(), secret::read(reference).ok()?));
        self.secrets.iter().filter_map(now).collect()
    }
}

/// Declared data.
pub(super) struct Fixed(pub(super) Table);

#[async_trait]
impl Source for Fixed {
    async fn produce(&self, _event: Event, _pipe: &Value) -> Result<Map<String, Value>> {
        let mut data = self.0.data.clone();
        for (key, reference) in &self.0.secrets {
            let secret = secret::read(reference).map_err(|error| {
                Error::internal(format!("the secret {key} cannot be read")).because(error)
            })?;
            data.insert(key.clone(), secret.into());
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_secret_is_read_where_it_is_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n").unwrap();
        let data =
            json!({"A": 1, "S": {"secret": format!("file:{}", file.path().display())}, "O": {"secret": 1}});
        let source = Fixed(Table::read(data.as_object().unwrap().clone()).unwrap());
        let made = |source: Fixed| async move { source.produce(Event::Bind, &json!({})).await.unwrap() };
        assert_eq!(
            Value::from(made(Fixed(source.0.clone())).await),
            json!({"A": 1, "O": {"secret": 1}, "S": "one"})
        );
        std::fs::write(file.path(), "two").unwrap();
        assert_eq!(made(source).await["S"], "two");
        let missing = json!({"S": {"secret": "env:STANDPIPE_UNSET"}, "T": {"secret": "hunter2"}});
        let problems = Table::read(missing.as_object().unwrap().clone()).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("data.S.secret") && told[0].contains("STANDPIPE_UNSET"), "{told:?}");
        assert!(!told[1].contains("hunter2"), "{told:?}");
    }
}
