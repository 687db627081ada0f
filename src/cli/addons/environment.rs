//! Credentials as an app reads them from its environment: `SERVICE_KEY`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use standpipe_extensions::env_file::variable;

/// Names and values. Keys of nested objects are joined by `_`; `uri` becomes `URL` where there is no `url` beside it; lists are
/// JSON; what is null is left out.
///
/// # Errors
/// Two keys want one name.
pub(super) fn names(
    service: &str,
    credentials: &Map<String, Value>,
) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    add(service, credentials, &mut found)?;
    Ok(found)
}

fn add(
    prefix: &str,
    values: &Map<String, Value>,
    found: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let has_url = values.keys().any(|key| key.eq_ignore_ascii_case("url"));
    for (key, value) in values {
        let key = if key.eq_ignore_ascii_case("uri") && !has_url { "url" } else { key };
        let name = format!("{prefix}_{key}");
        let text = match value {
            Value::Null => continue,
            Value::Object(inner) => {
                add(&name, inner, found)?;
                continue;
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = variable(&name);
        if found.contains_key(&name) {
            return Err(format!(
                "two of its credentials want the name {name}; print them with --json --print-env instead"
            ));
        }
        found.insert(name, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(service: &str, text: &str) -> Result<Vec<String>, String> {
        let found = names(service, &serde_json::from_str(text).unwrap())?;
        Ok(found.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn names_are_of_service_and_key() {
        let text = r#"{"uri":"postgres://u:p@h/d","port":5432,"tls":{"ca.pem":"x","on":true},"hosts":["a","b"],"none":null}"#;
        assert_eq!(
            of("postgresql", text).unwrap(),
            [
                r#"POSTGRESQL_HOSTS=["a","b"]"#,
                "POSTGRESQL_PORT=5432",
                "POSTGRESQL_TLS_CA_PEM=x",
                "POSTGRESQL_TLS_ON=true",
                "POSTGRESQL_URL=postgres://u:p@h/d",
            ]
        );
        assert_eq!(
            of("amazon-rds", r#"{"uri":"a","url":"b"}"#).unwrap(),
            ["AMAZON_RDS_URI=a", "AMAZON_RDS_URL=b"]
        );
        assert_eq!(of("2fa", r#"{"k":"v"}"#).unwrap(), ["_2FA_K=v"]);
        assert!(of("x", r#"{"a-b":"1","a_b":"2"}"#).unwrap_err().contains("X_A_B"));
    }
}
