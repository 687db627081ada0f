//! What a user can add: the catalog as add-ons, and the plan that a name stands for.

use serde_json::{Value, json};
use standpipe_api::{Error, ErrorKind, Fault, Federation, Result};

use super::record::{Addon, Plan, documentation};
use super::stage::Stage;
use crate::osb::Brokers;
use crate::osb::event::Cost;
use crate::osb::offered::Offered;

/// Names that are given back with one that nobody knows.
const SUGGESTIONS: usize = 10;

/// What a caller sees. Right after a start the brokers' catalogs are waited for.
pub(super) async fn offered(brokers: &Brokers, fed: &dyn Federation) -> Vec<Offered> {
    let offered = brokers.offered(fed);
    if !offered.is_empty() && brokers.missing(fed).is_empty() {
        return offered;
    }
    brokers.first_round(fed).await;
    brokers.offered(fed)
}

/// The plan that a service's and a plan's name stand for. The one an add-on has is its own, whether or not it is still offered.
///
/// # Errors
/// As [`choose`].
pub(super) fn plan(
    offered: &[Offered],
    (name, plan): (&str, Option<&str>),
    own: Option<&Addon>,
) -> Result<Plan> {
    let is_there = |addon: &&Addon| !matches!(addon.stage, Stage::Failed(_));
    let own = own.filter(is_there).map(|addon| &addon.plan);
    let own = own.filter(|own| plan.is_none_or(|plan| plan == own.name));
    match (choose(offered, name, plan), own) {
        (Ok(chosen), _) => Ok(Plan::of(chosen)),
        (Err(_), Some(own)) => Ok(own.clone()),
        (Err(error), None) => Err(error),
    }
}

/// Services and their plans, in the order of the catalog.
pub(super) fn catalog(offered: &[Offered]) -> Value {
    let of_one = |plans: &[Offered]| plans.first().map(|first| service(first, plans));
    offered.chunk_by(|a, b| a.service_id == b.service_id).filter_map(of_one).collect()
}

/// One service.
///
/// # Errors
/// No service has the name, or no plan of it the other; the nearest are told.
pub(super) fn one(offered: &[Offered], name: &str, plan: Option<&str>) -> Result<Value> {
    let plans: Vec<Offered> = match plan {
        Some(plan) => vec![choose(offered, name, Some(plan))?.clone()],
        None => plans(offered, name)?.into_iter().cloned().collect(),
    };
    Ok(plans.first().map(|first| service(first, &plans)).unwrap_or_default())
}

fn service(first: &Offered, plans: &[Offered]) -> Value {
    let plans: Vec<Value> = plans
        .iter()
        .map(|plan| {
            let fields = Value::from(plan.plan_fields.clone());
            json!({
                "name": plan.plan,
                "description": fields.get("description"),
                "free": fields.get("free").and_then(Value::as_bool).unwrap_or(true),
                "bindable": plan.is_bindable(),
                "costs": Cost::of_plan(&fields),
            })
        })
        .collect();
    json!({
        "name": first.service,
        "description": first.service_fields.get("description"),
        "documentation_url": documentation(&first.service_fields),
        "provider": first.provider,
        "plans": plans,
    })
}

/// The plan that names stand for. A service with one plan needs no second name.
///
/// # Errors
/// As [`one`]; or the service has several plans and none is named.
fn choose<'a>(offered: &'a [Offered], name: &str, plan: Option<&str>) -> Result<&'a Offered> {
    let plans = plans(offered, name)?;
    let names = || plans.iter().map(|offered| offered.plan.as_str());
    match plan {
        Some(wanted) => plans.iter().find(|offered| offered.plan == wanted).copied().ok_or_else(|| {
            let near = nearest(wanted, names());
            unknown(format!("{name} has no plan {wanted}{near}"), "plans", names())
        }),
        None => match plans.as_slice() {
            [only] => Ok(only),
            _ => {
                let text = format!("{name} has more than one plan: {}", listed(names()));
                Err(Error::invalid(text).advise("choose one with --plan (`plan` in the request)"))
            }
        },
    }
}

fn plans<'a>(offered: &'a [Offered], name: &str) -> Result<Vec<&'a Offered>> {
    let plans: Vec<&Offered> = offered.iter().filter(|offered| offered.service == name).collect();
    if !plans.is_empty() {
        return Ok(plans);
    }
    let mut names: Vec<&str> = offered.iter().map(|offered| offered.service.as_str()).collect();
    names.dedup();
    let near = nearest(name, names.iter().copied());
    Err(unknown(format!("no add-on is named {name}{near}"), "add-ons", names.into_iter()))
}

fn unknown<'a>(text: String, what: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let there = listed(names);
    let advice =
        if there.is_empty() { "no broker offers anything".to_owned() } else { format!("{what}: {there}") };
    Error::new(ErrorKind::Invalid, Fault::Caller, text).advise(advice)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SUGGESTIONS).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SUGGESTIONS { format!("{shown} and {} more", names.len() - SUGGESTIONS) } else { shown }
}

/// What may have been meant: a name that differs little.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let most = wanted.chars().count() / 3 + 1;
    let near = names.map(|name| (distance(wanted, name), name)).filter(|(distance, _)| *distance <= most);
    near.min().map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default()
}

/// How many letters are to be put in, taken out or changed (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let (mut left, mut corner) = (line + 1, line);
        for (above, other) in row.iter_mut().skip(1).zip(&to) {
            let changed = corner + usize::from(letter != *other);
            corner = *above;
            left = changed.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(service: &str, plan: &str) -> Offered {
        Offered {
            provider: "alpha".into(),
            service_id: format!("{service}-id"),
            service: service.into(),
            plan_id: format!("{service}-{plan}"),
            plan: plan.into(),
            service_fields: serde_json::Map::new(),
            plan_fields: serde_json::Map::new(),
        }
    }

    #[test]
    fn letters_are_counted() {
        for (a, b, count) in
            [("", "", 0), ("", "abc", 3), ("mysqk", "mysql", 1), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (count, count), "{a} {b}");
        }
    }

    #[test]
    fn what_is_unknown_or_ambiguous_says_what_there_is() {
        let offered = [
            offer("mysql", "free"),
            offer("rds", "small"),
            offer("rds", "large"),
            offer("mysql-beta", "free"),
        ];
        assert_eq!(choose(&offered, "mysql", None).unwrap().plan_id, "mysql-free");
        assert_eq!(choose(&offered, "rds", Some("large")).unwrap().plan_id, "rds-large");
        let told = |name, plan| {
            let error = choose(&offered, name, plan).unwrap_err();
            format!("{} | {}", error.public(), error.advice())
        };
        assert_eq!(
            told("mysqk", None),
            "no add-on is named mysqk; did you mean mysql? | add-ons: mysql, rds, mysql-beta"
        );
        assert_eq!(told("oracle", None), "no add-on is named oracle | add-ons: mysql, rds, mysql-beta");
        assert_eq!(
            told("rds", Some("smal")),
            "rds has no plan smal; did you mean small? | plans: small, large"
        );
        assert!(told("rds", None).starts_with("rds has more than one plan: small, large | choose one"));
        assert_eq!(catalog(&offered).as_array().unwrap().len(), 3);
    }
}
