//! The table of all providers.

use std::io::Write;

use http::Method;
use serde_json::Value;

use super::super::AdminClient;
use super::super::mappings::Failure;
use super::super::table::Table;
use super::ask;

const HEAD: [&str; 10] =
    ["NAME", "DIALECT", "ORIGIN", "STATE", "BREAKER", "IN FLIGHT", "INDEXED", "URL", "LAST ERROR", "NOTES"];

/// Prints the providers, those that could not be put to work last.
///
/// # Errors
/// The server does not answer, or nothing can be printed.
pub(super) async fn list(client: &AdminClient, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let all: Value = ask(client, Method::GET, &[], &[], String::new()).await?;
    if json {
        return Ok(writeln!(out, "{all}")?);
    }
    let mut table = Table::new(out, &HEAD);
    for key in ["providers", "left_out"] {
        for provider in all.get(key).and_then(Value::as_array).into_iter().flatten() {
            table.row(&row(provider).each_ref().map(String::as_str))?;
        }
    }
    Ok(table.end()?)
}

fn row(provider: &Value) -> [String; HEAD.len()] {
    let text = |key: &str| match provider.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let last = provider.pointer("/last_error/error").and_then(Value::as_str).unwrap_or("-");
    let notes = provider.get("notes").and_then(Value::as_array).into_iter().flatten();
    let note = |note: &'_ Value| {
        let part = |key: &str| note.get(key).and_then(Value::as_str).unwrap_or_default();
        format!("{}: {}", part("word"), part("text"))
    };
    let notes: Vec<String> = notes.map(note).collect();
    let problems = provider.get("problems").map(ToString::to_string);
    [
        text("name"),
        text("dialect"),
        text("origin"),
        if problems.is_some() { "left out".to_owned() } else { text("availability") },
        text("breaker"),
        text("in_flight"),
        text("indexed"),
        text("url"),
        problems.unwrap_or_else(|| last.to_owned()),
        if notes.is_empty() { "-".to_owned() } else { notes.join("; ") },
    ]
}
