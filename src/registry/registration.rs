//! What one provider is registered with: its table as the configuration would have it, and its secrets beside it.
//!
//! In: JSON of an operator, bytes of the store. Out: a table that holds references only. A secret's value never comes
//! out again but to the credential it belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use standpipe_api::{Problem, Problems, ProviderId};
use toml::{Table, Value};
use zeroize::Zeroizing;

use crate::store::SecretBytes;
use crate::token::Sealed;

/// Where credentials stand in a provider's table; secrets may be given there.
const CREDENTIALS: [&str; 2] = ["credential", "credentials"];
/// What else lets standpipe in.
const DOCUMENT: &str = "credentials_document";
/// How a reference to a sealed value begins.
const SEALED: &str = "sealed:";

/// A provider that is registered at run time.
pub struct Registration {
    /// Its name.
    pub name: ProviderId,
    /// Its table, without a secret's value.
    pub table: Table,
    /// The values that the table refers to as `sealed:KEY`.
    pub secrets: Arc<Sealed>,
}

/// What an operator gave, not yet held against what is known.
pub struct Given {
    table: Table,
    secrets: Sealed,
    /// Keys of the table in which it is said that a sealed value stays.
    kept: BTreeSet<String>,
    /// The keys of the credentials that were given.
    credentials: BTreeSet<String>,
}

/// How a change is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The whole table.
    Replace,
    /// What differs (RFC 7396): `null` removes a key.
    Merge,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    table: Table,
    #[serde(borrow)]
    secrets: BTreeMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>>,
}

impl Registration {
    /// The word for the API it speaks, checked or not.
    pub fn dialect(&self) -> &str {
        self.table.get("dialect").and_then(Value::as_str).unwrap_or_default()
    }

    /// The bytes that are sealed in the store.
    pub fn to_bytes(&self) -> SecretBytes {
        let secrets = self.secrets.iter();
        let secrets = secrets.map(|(key, secret)| (key.as_str().into(), secret.expose_secret().into()));
        let stored = Stored { table: self.table.clone(), secrets: secrets.collect() };
        // Texts, numbers and tables of them can always be written.
        Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// What the store keeps under a name; `None`: it is no registration.
    pub fn of_bytes(name: ProviderId, bytes: &SecretBytes) -> Option<Self> {
        let stored: Stored<'_> = serde_json::from_slice(bytes).ok()?;
        let secrets = stored.secrets.into_iter();
        let secrets =
            secrets.map(|(key, secret)| (key.into_owned(), SecretString::from(secret.into_owned())));
        Some(Self { name, table: stored.table, secrets: Arc::new(secrets.collect()) })
    }

    /// The same table with a change, and the secrets it goes on with.
    ///
    /// # Errors
    /// A sealed value would be used with something else than it was given for.
    pub fn changed(&self, body: serde_json::Value, change: Change) -> Result<Self, Problems> {
        let asked: BTreeSet<String> = match &body {
            serde_json::Value::Object(members) => members.keys().cloned().collect(),
            _ => BTreeSet::new(),
        };
        let body = match change {
            Change::Replace => body,
            Change::Merge => {
                let mut whole = serde_json::to_value(&self.table).unwrap_or_default();
                merge(&mut whole, body);
                whole
            }
        };
        let mut given = Given::read(body)?;
        if change == Change::Merge {
            given.credentials.retain(|key| asked.contains(key));
        }
        given.table.entry("name").or_insert_with(|| self.name.as_str().into());
        let mut problems = Problems::new();
        if given.table.get("name").and_then(Value::as_str) != Some(self.name.as_str()) {
            problems.push(Problem::at("name", "cannot change; add another provider and drain this one"));
        }
        for key in &given.kept {
            if given.table.get(key) != self.table.get(key) {
                problems.push(Problem::at(
                    key,
                    "has changed: give its secrets again, as references or as {\"value\": \"...\"}",
                ));
            }
        }
        let moved = addresses(&given.table).difference(&addresses(&self.table)).next().is_some();
        let again = !given.credentials.is_empty() && given.kept.is_empty();
        if moved && has_credentials(&given.table) && !again {
            let text =
                "has changed, or another address has: give the credentials again, which were for the old one";
            problems.push(Problem::at("url", text));
        }
        for (key, secret) in self.secrets.iter() {
            let root = key.split(['.', '[']).next().unwrap_or_default();
            if given.kept.contains(root) {
                given.secrets.insert(key.clone(), secret.clone());
            }
        }
        if problems.is_empty() { Ok(given.into_registration(self.name.clone())) } else { Err(problems) }
    }
}

impl Given {
    /// Reads a provider's table written as JSON. In a credential, `{"value": "..."}` may stand for a reference to a secret.
    ///
    /// # Errors
    /// It is no table, or a value is no text. What is said repeats nothing of it.
    pub fn read(body: serde_json::Value) -> Result<Self, Problems> {
        let no_table = "must be a provider's table as a JSON object, without null; see [[provider]] in the configuration";
        let wrong = || vec![Problem::at("", no_table)];
        let mut table: Table = serde_json::from_value(body).map_err(|_| wrong())?;
        let (mut secrets, mut kept, mut problems) = (Sealed::new(), BTreeSet::new(), Problems::new());
        for key in CREDENTIALS {
            let Some(value) = table.get_mut(key) else { continue };
            let mut taking = Taking { secrets: &mut secrets, kept: false, problems: &mut problems };
            taking.take(key.to_owned(), value);
            if taking.kept {
                kept.insert(key.to_owned());
            }
        }
        let given = CREDENTIALS.iter().chain([&DOCUMENT]).filter(|key| table.contains_key(**key));
        let credentials = given.map(|key| (*key).to_owned()).collect();
        if problems.is_empty() { Ok(Self { table, secrets, kept, credentials }) } else { Err(problems) }
    }

    /// A registration that nothing was known of before.
    ///
    /// # Errors
    /// It refers to values that were sealed before.
    pub fn first(self) -> Result<Registration, Problems> {
        if let Some(key) = self.kept.first() {
            let text =
                "nothing is sealed here yet: give the secret as env:NAME, file:/path or {\"value\": \"...\"}";
            return Err(vec![Problem::at(key, text)]);
        }
        let name = self.table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(self.into_registration(name.into()))
    }

    fn into_registration(self, name: ProviderId) -> Registration {
        Registration { name, table: self.table, secrets: Arc::new(self.secrets) }
    }
}

/// Takes secrets out of a credential's table.
struct Taking<'a> {
    secrets: &'a mut Sealed,
    /// Whether a value that was sealed before is referred to.
    kept: bool,
    problems: &'a mut Problems,
}

impl Taking<'_> {
    fn take(&mut self, path: String, value: &mut Value) {
        match value {
            Value::Table(table) if table.len() == 1 && table.contains_key("value") => {
                match table.get("value").and_then(Value::as_str) {
                    Some(secret) if !secret.is_empty() => {
                        self.secrets.insert(path.clone(), SecretString::from(secret));
                        *value = Value::String(format!("{SEALED}{path}"));
                    }
                    _ => self.problems.push(Problem::at(path, "the value of a secret must be a text")),
                }
            }
            Value::Table(table) => {
                table.iter_mut().for_each(|(key, inner)| self.take(format!("{path}.{key}"), inner));
            }
            Value::Array(values) => {
                let each = values.iter_mut().enumerate();
                each.for_each(|(at, inner)| self.take(format!("{path}[{at}]"), inner));
            }
            Value::String(text) => self.kept |= text.starts_with(SEALED),
            _ => {}
        }
    }
}

/// A merge patch (RFC 7396).
fn merge(target: &mut serde_json::Value, patch: serde_json::Value) {
    let serde_json::Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = serde_json::Value::Object(serde_json::Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            members.remove(&key);
        } else {
            merge(members.entry(key).or_insert(serde_json::Value::Null), value);
        }
    }
}

/// Every address a table holds, but those inside of credentials: a credential may be sent to any of them.
fn addresses(table: &Table) -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) if text.contains("://") => {
                found.insert(text.trim_end_matches('/').to_owned());
            }
            Value::Table(table) => table.values().for_each(|inner| collect(inner, found)),
            Value::Array(values) => values.iter().for_each(|inner| collect(inner, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    let outside = table.iter().filter(|(key, _)| !CREDENTIALS.contains(&key.as_str()));
    outside.for_each(|(_, value)| collect(value, &mut found));
    found
}

fn has_credentials(table: &Table) -> bool {
    CREDENTIALS.iter().chain([&DOCUMENT]).any(|key| table.contains_key(*key))
}

/// The keys of a table by which standpipe would read secrets or files of its own machine, and that are not the same in
/// `before`.
pub(super) fn reads_machine(table: &Table, before: Option<&Table>) -> Vec<String> {
    fn refers(value: &Value) -> bool {
        match value {
            Value::String(text) => text.starts_with("env:") || text.starts_with("file:"),
            Value::Table(table) => table.values().any(refers),
            Value::Array(values) => values.iter().any(refers),
            _ => false,
        }
    }
    let here = |(key, value): &(&String, &Value)| match key.as_str() {
        DOCUMENT | "tls" => true,
        key => CREDENTIALS.contains(&key) && refers(value),
    };
    let found = table.iter().filter(here);
    found
        .filter(|(key, value)| before.and_then(|before| before.get(*key)) != Some(*value))
        .map(|(key, _)| key.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(body: serde_json::Value) -> Registration {
        Given::read(body).and_then(Given::first).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn alpha() -> Registration {
        first(json!({
            "name": "alpha", "dialect": "osb", "url": "https://a.example", "concurrency": 9,
            "credential": { "kind": "basic", "username": "ann", "password": { "value": "hunter2" } },
        }))
    }

    #[track_caller]
    fn refused(changed: Result<Registration, Problems>, key: &str) {
        let problems = changed.err().expect("it was taken");
        assert!(problems.iter().any(|problem| problem.path == key), "{problems:?}");
        assert!(problems.iter().all(|problem| !problem.to_string().contains("hunter2")), "{problems:?}");
    }

    fn password(registration: &Registration) -> Option<&str> {
        registration.secrets.get("credential.password").map(|secret| secret.expose_secret())
    }

    #[test]
    fn a_secret_is_taken_out_of_its_table_and_comes_back_from_the_store() {
        let alpha = alpha();
        assert!(!format!("{:?}", alpha.table).contains("hunter2"));
        assert_eq!(alpha.table["credential"]["password"].as_str(), Some("sealed:credential.password"));
        let again = Registration::of_bytes("alpha".into(), &alpha.to_bytes()).unwrap();
        assert_eq!((&again.table, password(&again)), (&alpha.table, Some("hunter2")));
        let several =
            first(json!({"name": "b", "credentials": [{"token": "env:A"}, {"token": {"value": "t"}}]}));
        assert_eq!(several.secrets.keys().collect::<Vec<_>>(), ["credentials[1].token"]);
        for wrong in [json!(7), json!({"url": null}), json!({"credential": {"password": {"value": 7}}})] {
            assert!(Given::read(wrong.clone()).is_err(), "{wrong}");
        }
        refused(
            Given::read(json!({"credential": {"password": "sealed:x"}})).and_then(Given::first),
            "credential",
        );
    }

    #[test]
    fn a_sealed_value_stays_only_with_what_it_was_given_for() {
        let alpha = alpha();
        let shown = serde_json::to_value(&alpha.table).unwrap();
        let same = alpha.changed(shown.clone(), Change::Replace).unwrap();
        assert_eq!(password(&same), Some("hunter2"), "what is shown can be put back");
        let slower =
            alpha.changed(json!({"response_timeout": "9s", "concurrency": null}), Change::Merge).unwrap();
        assert_eq!((password(&slower), slower.table.get("concurrency")), (Some("hunter2"), None));
        let other =
            alpha.changed(json!({"credential": {"password": {"value": "new"}}}), Change::Merge).unwrap();
        assert_eq!((password(&other), other.secrets.len()), (Some("new"), 1));
        let elsewhere = json!({"credential": {"kind": "oauth2", "token_endpoint": "https://evil.example"}});
        refused(alpha.changed(elsewhere, Change::Merge), "credential");
        refused(alpha.changed(json!({"name": "beta"}), Change::Merge), "name");
    }

    #[test]
    fn another_address_wants_the_credentials_again() {
        let alpha = alpha();
        let moved = json!({"url": "https://b.example"});
        refused(alpha.changed(moved, Change::Merge), "url");
        let resources = json!({"resources": [{"id": "db", "url": "https://b.example"}]});
        refused(alpha.changed(resources, Change::Merge), "url");
        let mut whole = serde_json::to_value(&alpha.table).unwrap();
        whole["url"] = json!("https://b.example");
        refused(alpha.changed(whole, Change::Replace), "url");
        let credential = json!({"kind": "basic", "username": "ann", "password": {"value": "new"}});
        let moved = json!({"url": "https://b.example", "credential": credential});
        assert_eq!(password(&alpha.changed(moved.clone(), Change::Merge).unwrap()), Some("new"));
        assert!(alpha.changed(moved, Change::Replace).is_ok());
        let open = json!({"url": "https://b.example", "credential": null});
        assert!(alpha.changed(open, Change::Merge).unwrap().secrets.is_empty(), "nothing is sent there");
        let referred =
            first(json!({"name": "c", "url": "https://a.example", "credential": {"token": "env:T"}}));
        refused(referred.changed(json!({"url": "https://b.example"}), Change::Merge), "url");
    }

    #[test]
    fn what_reads_this_machine_is_named_unless_it_was_there_before() {
        let table = |text: &str| text.parse::<Table>().unwrap();
        let reading =
            table("credential = { password = 'file:/etc/x' }\ntls = { roots = 'r.pem' }\nurl = 'http://a'");
        assert_eq!(reads_machine(&reading, None), ["credential", "tls"]);
        assert_eq!(reads_machine(&reading, Some(&reading)), Vec::<String>::new());
        let earlier = table("credential = { password = 'file:/etc/y' }\ntls = { roots = 'r.pem' }");
        assert_eq!(reads_machine(&reading, Some(&earlier)), ["credential"]);
        assert_eq!(reads_machine(&table("credentials_document = {}"), None), ["credentials_document"]);
        assert!(reads_machine(&alpha().table, None).is_empty());
    }
}
