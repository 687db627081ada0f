//! From pipes to names and values, as twelve-factor apps read them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use standpipe_api::{Error, Problem, Problems, Result};

use crate::env_file::variable;

/// Which names an app gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Names {
    /// `PIPE_<ID>_THIS_<KEY>` and `PIPE_<ID>_OTHER_<KEY>`; `<ID>_AUDIENCE`, for which the app asks tokens to
    /// present at the other end, from its own `AUD`; `INCOMING_IDENTITY`, who may present tokens here, from `ISS`,
    /// `SUB` and `AUD` of all other ends.
    All,
    /// These, each from the first place that has a value.
    Table(BTreeMap<String, Vec<Place>>),
}

/// `database:other.URI`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    pipe: String,
    end: String,
    key: String,
}

impl Names {
    /// Reads the `names` table.
    pub(super) fn read(table: BTreeMap<String, Vec<String>>, problems: &mut Problems) -> Self {
        let mut names = BTreeMap::new();
        for (name, places) in table {
            if name != variable(&name) || name.is_empty() {
                let text = "must be of A-Z, 0-9 and _, and not begin with a digit";
                problems.push(Problem::at(format!("names.{name}"), text));
            }
            let read = |text: &String| {
                let place = Place::read(text);
                if place.is_none() {
                    let text = format!("`{text}` must be as database:other.URI");
                    problems.push(Problem::at(format!("names.{name}"), text));
                }
                place
            };
            let places = places.iter().filter_map(read).collect();
            names.insert(name, places);
        }
        Self::Table(names)
    }

    /// The names and values for an app with these pipes.
    ///
    /// # Errors
    /// Two things want one name; both are told.
    pub(super) fn config(&self, pipes: &[Value]) -> Result<BTreeMap<String, String>> {
        match self {
            Self::All => all(pipes),
            Self::Table(names) => {
                let found = |places: &Vec<Place>| places.iter().find_map(|place| place.value(pipes));
                Ok(names
                    .iter()
                    .filter_map(|(name, places)| Some((name.clone(), text(found(places)?))))
                    .collect())
            }
        }
    }
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (pipe, rest) = text.split_once(':')?;
        let (end, key) = rest.split_once('.')?;
        let good = !pipe.is_empty() && !key.is_empty() && (end == "this" || end == "other");
        good.then(|| Self { pipe: pipe.into(), end: end.into(), key: key.into() })
    }

    fn value<'a>(&self, pipes: &'a [Value]) -> Option<&'a Value> {
        let pipe = pipes.iter().find(|pipe| pipe.get("id").and_then(Value::as_str) == Some(&self.pipe))?;
        pipe.get(&self.end)?.get("data")?.get(&self.key)
    }
}

fn all(pipes: &[Value]) -> Result<BTreeMap<String, String>> {
    let mut config: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut put = |from: String, value: String| {
        let name = variable(&from);
        match config.insert(name.clone(), (from.clone(), value)) {
            Some((earlier, _)) => {
                Err(Error::conflict(format!("{earlier} and {from} both want the name {name}")))
            }
            None => Ok(()),
        }
    };
    let mut incoming = Map::new();
    for pipe in pipes {
        let id = pipe.get("id").and_then(Value::as_str).unwrap_or_default();
        for end in ["this", "other"] {
            let data = pipe.get(end).and_then(|end| end.get("data")).and_then(Value::as_object);
            for (key, value) in data.into_iter().flatten() {
                put(format!("PIPE_{id}_{end}_{key}"), text(value))?;
            }
        }
        let datum = |end: &str, key: &str| pipe.get(end)?.get("data")?.get(key)?.as_str();
        if let Some(audience) = datum("this", "AUD") {
            put(format!("{id}_AUDIENCE"), audience.to_owned())?;
        }
        if let (Some(iss), Some(sub), Some(aud)) =
            (datum("other", "ISS"), datum("other", "SUB"), datum("other", "AUD"))
        {
            incoming.insert(id.to_owned(), json!({"iss": iss, "sub": sub, "aud": aud}));
        }
    }
    if !incoming.is_empty() {
        put("INCOMING_IDENTITY".into(), Value::Object(incoming).to_string())?;
    }
    Ok(config.into_iter().map(|(name, (_, value))| (name, value)).collect())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pipe_has_its_names_and_all_identities_survive() {
        let identity = |name: &str| json!({"ISS": "https://i", "SUB": name, "AUD": format!("{name}-aud")});
        let pipes = [
            json!({"id": "db", "this": {"data": identity("web")}, "other": {"data": {"URI": "x", "port": 5}}}),
            json!({"id": "my-app", "other": {"data": identity("app")}}),
            json!({"id": "1st", "this": {"data": {"AUD": "a"}}, "other": {"data": identity("first")}}),
        ];
        let config = Names::All.config(&pipes).unwrap();
        assert_eq!(config["PIPE_DB_OTHER_URI"], "x");
        assert_eq!(config["PIPE_DB_OTHER_PORT"], "5");
        assert_eq!(config["PIPE_MY_APP_OTHER_SUB"], "app");
        assert_eq!((config["DB_AUDIENCE"].as_str(), config["_1ST_AUDIENCE"].as_str()), ("web-aud", "a"));
        let incoming: Value = serde_json::from_str(&config["INCOMING_IDENTITY"]).unwrap();
        assert_eq!(incoming["db"], json!(null), "that end has no identity");
        assert_eq!(incoming["my-app"], json!({"iss": "https://i", "sub": "app", "aud": "app-aud"}));
        assert_eq!(incoming["1st"]["sub"], "first");
    }

    #[test]
    fn a_clash_names_both() {
        let pipe = |id: &str| json!({"id": id, "other": {"data": {"A": "1"}}});
        let error = Names::All.config(&[pipe("a-b"), pipe("a_b")]).unwrap_err();
        assert!(
            error.public().contains("PIPE_a-b_other_A") && error.public().contains("PIPE_a_b_other_A"),
            "{error}"
        );
    }

    #[test]
    fn the_first_alternative_that_exists_is_taken() {
        let table = [(
            "DATABASE_URL".to_owned(),
            vec!["database:other.URI".to_owned(), "database:other.URL".to_owned()],
        )];
        let mut problems = Problems::new();
        let names = Names::read(table.into(), &mut problems);
        assert!(problems.is_empty());
        let pipe = json!({"id": "database", "other": {"data": {"URL": "second"}}});
        assert_eq!(names.config(&[pipe]).unwrap()["DATABASE_URL"], "second");
        assert!(names.config(&[]).unwrap().is_empty());
        let bad = [("a-b".to_owned(), vec!["nonsense".to_owned()])];
        Names::read(bad.into(), &mut problems);
        assert_eq!(problems.len(), 2);
    }
}
