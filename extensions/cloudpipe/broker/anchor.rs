//! Relative paths in a broker's table begin at the folder of the configuration file.

use std::path::Path;

use toml::{Table, Value};

use crate::outside::anchored;

/// The table with the paths of its sources and sinks made absolute.
pub(super) fn anchor(table: &Table, folder: &Path) -> Table {
    table.iter().map(|(key, value)| (key.clone(), within(key, value, folder))).collect()
}

fn within(key: &str, value: &Value, folder: &Path) -> Value {
    match value {
        Value::Table(table) if key == "source" || key == "sink" => settings(table, folder).into(),
        // An app's own data is not ours to change, except for where its secrets are.
        Value::Table(table) if key == "data" => secrets(table, folder).into(),
        Value::Table(table) if key != "schema" => anchor(table, folder).into(),
        other => other.clone(),
    }
}

fn settings(table: &Table, folder: &Path) -> Table {
    let entry = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("path" | "ca_certificate" | "ca_key", Value::String(path)) => text(&folder.join(path)),
            ("token", value) => reference(value, folder),
            ("command", Value::Array(words)) => {
                let mut words = words.clone();
                if let Some(Value::String(program)) = words.first_mut() {
                    *program = anchored(program, folder).display().to_string();
                }
                Value::Array(words)
            }
            ("data", Value::Table(data)) => secrets(data, folder).into(),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    table.iter().map(entry).collect()
}

fn secrets(data: &Table, folder: &Path) -> Table {
    let entry = |(key, value): (&String, &Value)| {
        let secret = value.as_table().filter(|table| table.len() == 1).and_then(|table| table.get("secret"));
        let value = match secret {
            Some(secret) => Table::from_iter([("secret".to_owned(), reference(secret, folder))]).into(),
            None => value.clone(),
        };
        (key.clone(), value)
    };
    data.iter().map(entry).collect()
}

fn reference(value: &Value, folder: &Path) -> Value {
    match value.as_str().and_then(|text| text.strip_prefix("file:")) {
        Some(path) => format!("file:{}", folder.join(path).display()).into(),
        None => value.clone(),
    }
}

fn text(path: &Path) -> Value {
    path.display().to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_sources_and_sinks_begin_at_the_folder_and_nothing_else_changes() {
        let table: Table = toml::from_str(
            r#"
            [resource.db]
            data = { path = "x", S = { secret = "file:s" }, T = { secret = "env:T" } }
            [resource.web]
            sink = { kind = "env-file", path = "web.env" }
            source = { kind = "command", command = ["./make", "./argument"] }
            [adapter.a.need.source]
            ca_key = "/etc/ca.key"
            token = "file:t"
            command = ["make"]
            "#,
        )
        .unwrap();
        let anchored = anchor(&table, Path::new("/etc/standpipe"));
        let expected: Table = toml::from_str(
            r#"
            [resource.db]
            data = { path = "x", S = { secret = "file:/etc/standpipe/s" }, T = { secret = "env:T" } }
            [resource.web]
            sink = { kind = "env-file", path = "/etc/standpipe/web.env" }
            source = { kind = "command", command = ["/etc/standpipe/./make", "./argument"] }
            [adapter.a.need.source]
            ca_key = "/etc/ca.key"
            token = "file:/etc/standpipe/t"
            command = ["make"]
            "#,
        )
        .unwrap();
        assert_eq!(anchored, expected);
    }
}
