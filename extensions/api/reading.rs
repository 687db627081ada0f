//! A table becomes a serde type, with every mistake that can be told apart, each at its key path.
//!
//! Serde stops at the first mistake. So what is wrong is taken out and the rest read again, until nothing is wrong any more.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::Value;

use super::settings::{Problem, Problems};

/// Mistakes that are looked for; whoever has more has enough to do.
const MOST: usize = 100;

/// A step of a key path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Key(String),
    /// As it was counted before anything was taken out.
    Nth(usize),
}

/// Reads a table as far as it goes: what is wrong is as if it were absent; `None` where it cannot be. And the mistakes. Of several
/// keys that a table lacks the first is told.
pub(super) fn examine<T: DeserializeOwned>(table: &toml::Table) -> (Option<T>, Problems) {
    let mut left = Value::Table(table.clone());
    let mut problems = Problems::new();
    let mut removed: BTreeSet<Vec<Step>> = BTreeSet::new();
    while problems.len() < MOST {
        let error = match serde_path_to_error::deserialize::<_, T>(left.clone()) {
            Ok(read) => return (Some(read), problems),
            Err(error) => error,
        };
        let path: Vec<Step> = error.path().iter().map_while(step).collect();
        let text = error.into_inner().message().to_owned();
        let here = before(&path, &removed);
        match text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            None => problems.push(Problem::at(written(&here), text)),
            Some(key) => {
                let mut missing = here.clone();
                missing.push(Step::Key(key.to_owned()));
                // What was wrong and taken out is not missing.
                if !removed.contains(&missing) {
                    problems.push(Problem::at(written(&missing), "is missing"));
                }
            }
        }
        if !take_out(&mut left, &path) {
            break;
        }
        removed.insert(here);
    }
    (None, problems)
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Nth(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// A path as it was before anything was taken out: what stood before an item of a list counts again.
fn before(path: &[Step], removed: &BTreeSet<Vec<Step>>) -> Vec<Step> {
    let mut whole = Vec::with_capacity(path.len());
    for step in path {
        let mut step = step.clone();
        if let Step::Nth(now) = &mut step {
            let gone = removed.iter().filter_map(|path| match path.split_last()? {
                (Step::Nth(nth), list) if *list == whole => Some(*nth),
                _ => None,
            });
            // A set is in order, so that each counts those before it.
            gone.for_each(|nth| *now += usize::from(nth <= *now));
        }
        whole.push(step);
    }
    whole
}

/// Takes out what stands at a path; `false`: nothing does, or it is the whole.
fn take_out(value: &mut Value, path: &[Step]) -> bool {
    match (path, value) {
        ([Step::Key(key)], Value::Table(table)) => table.remove(key).is_some(),
        ([Step::Nth(nth)], Value::Array(list)) if *nth < list.len() => {
            list.remove(*nth);
            true
        }
        ([Step::Key(key), rest @ ..], Value::Table(table)) => {
            table.get_mut(key).is_some_and(|value| take_out(value, rest))
        }
        ([Step::Nth(nth), rest @ ..], Value::Array(list)) => {
            list.get_mut(*nth).is_some_and(|value| take_out(value, rest))
        }
        _ => false,
    }
}

fn written(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Nth(nth) => text.push_str(&format!("[{nth}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::Settings;
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct House {
        name: String,
        rooms: Vec<Room>,
        garden: Option<Room>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Room {
        size: u32,
        colour: Option<String>,
    }

    fn mistakes(text: &str) -> Vec<String> {
        let problems = Settings::read::<House>(&text.parse().unwrap()).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_told_once_and_where_it_is() {
        let text = r#"
            nme = "x"
            rooms = [{ size = "big" }, { size = 1, color = "red" }, { colour = "red" }, { size = 2, colour = 3 }]
            garden = { size = 1, colour = ["a"], tree = 1 }
        "#;
        assert_eq!(
            mistakes(text),
            [
                "garden.colour: invalid type: sequence, expected a string",
                "garden.tree: unknown field `tree`, expected `size` or `colour`",
                "nme: unknown field `nme`, expected one of `name`, `rooms`, `garden`",
                "rooms[0].size: invalid type: string \"big\", expected u32",
                "rooms[1].color: unknown field `color`, expected `size` or `colour`",
                "rooms[2].size: is missing",
                "rooms[3].colour: invalid type: integer `3`, expected a string",
                "name: is missing",
            ]
        );
        assert!(Settings::read::<House>(&"name = \"x\"\nrooms = []".parse().unwrap()).is_ok());
        assert_eq!(mistakes("name = \"x\""), ["rooms: is missing"]);
    }
    #[test]
    fn what_is_wrong_does_not_hide_what_is_right() {
        let (house, problems) = examine::<House>(
            &"name = \"x\"\nrooms = [{ size = \"big\" }, { size = 2, colour = 3 }]".parse().unwrap(),
        );
        assert_eq!(problems.len(), 2, "{problems:?}");
        let House { name, rooms, .. } = house.unwrap();
        assert_eq!((&*name, rooms.len(), rooms[0].size, &rooms[0].colour), ("x", 1, 2, &None));
        let (nameless, problems) = examine::<House>(&"rooms = []".parse().unwrap());
        assert_eq!((nameless.is_none(), problems.len()), (true, 1));
    }
}
