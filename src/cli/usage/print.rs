//! What was used, as a table, CSV or JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Map, Value, json};
use standpipe_api::Timestamp;

use super::By;
use super::lifetimes::Group;
use crate::cli::table::Table;

type Groups = BTreeMap<String, Group>;

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// A row per group.
pub(super) fn table(out: &mut dyn Write, by: By, groups: &Groups) -> io::Result<()> {
    let head = [&by.as_str().to_uppercase(), "INSTANCES", "HOURS", "COST", "NOT INCLUDED"];
    let mut table = Table::new(out, &head);
    for (name, group) in groups {
        let costs = group.costs.iter().map(|(currency, money)| format!("{} {currency}", money.shown()));
        let (instances, hours) = (group.instances().to_string(), group.hours());
        table.row(&[name, &instances, &hours, &joined(costs), &joined(group.metered.iter().cloned())])?;
    }
    table.end()
}

/// A line per group and currency; one without a currency for a group without prices.
pub(super) fn csv(out: &mut dyn Write, by: By, groups: &Groups) -> io::Result<()> {
    write!(out, "{},instances,hours,currency,cost,not_included\r\n", by.as_str())?;
    for (name, group) in groups {
        let mut costs: Vec<(&str, String)> =
            group.costs.iter().map(|(currency, money)| (currency.as_str(), money.shown())).collect();
        if costs.is_empty() {
            costs.push(("", String::new()));
        }
        let metered: Vec<&str> = group.metered.iter().map(String::as_str).collect();
        for (currency, money) in costs {
            let (instances, hours) = (group.instances().to_string(), group.hours());
            let fields = [name, instances.as_str(), &hours, currency, &money, &metered.join("; ")];
            write!(out, "{}\r\n", fields.map(quoted).join(","))?;
        }
    }
    out.flush()
}

/// As RFC 4180 quotes, and so that no table program takes a name for a formula.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '@', '\t', '\r'])
        || (field.starts_with(['+', '-']) && field.len() > 1 && !is_number(field));
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

fn is_number(field: &str) -> bool {
    field.chars().skip(1).all(|c| c.is_ascii_digit() || c == '.')
}

/// One object; costs are texts, so that no reader makes binary fractions of them.
pub(super) fn json(
    out: &mut dyn Write,
    (by, begins, to): (By, Option<Timestamp>, Timestamp),
    groups: &Groups,
) -> io::Result<()> {
    let group = |(name, group): (&String, &Group)| {
        let costs: Map<String, Value> =
            group.costs.iter().map(|(currency, money)| (currency.clone(), money.shown().into())).collect();
        json!({
            by.as_str(): name,
            "instances": group.instances(),
            "hours": group.hours(),
            "costs": costs,
            "not_included": group.metered,
        })
    };
    let usage: Vec<Value> = groups.iter().map(group).collect();
    let whole = json!({ "events_begin": begins, "to": to, "usage": usage });
    serde_json::to_writer_pretty(&mut *out, &whole)?;
    writeln!(out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_one_field_and_no_formula() {
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(quoted("=cmd()"), "'=cmd()");
        assert_eq!(
            (quoted("-"), quoted("-1.50"), quoted("-1+1")),
            ("-".into(), "-1.50".into(), "'-1+1".into())
        );
    }
}
