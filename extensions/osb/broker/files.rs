//! Parts of the catalog that are written in a way of their own: images, schemas, costs, a dashboard's client.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use standpipe_api::{Problem, Problems, SecretRef, Settings};

use super::settings::Schemas;
use crate::outside::secret;
use crate::schema::Schema;

/// Bytes of an image: it travels with every catalog.
const IMAGE_BYTES: u64 = 256 * 1024;
/// Bytes of a schema, as the specification says.
const SCHEMA_BYTES: u64 = 64 * 1024;

/// A table as JSON.
pub(super) fn json(table: &toml::Table) -> Result<Value, String> {
    serde_json::to_value(table).map_err(|error| error.to_string())
}

/// An image file as a data URI.
pub(super) fn image(file: &str, folder: &Path) -> Result<String, String> {
    let kind = match Path::new(file).extension().and_then(|word| word.to_str()) {
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        _ => return Err("must be a png, svg, jpg, gif, webp or ico file".to_owned()),
    };
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(read(file, folder, IMAGE_BYTES)?)))
}

fn read(file: &str, folder: &Path, most: u64) -> Result<Vec<u8>, String> {
    let path = folder.join(file);
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(&path).map_err(wrong)?.take(most + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > most {
        return Err(format!("{} has more than {most} bytes", path.display()));
    }
    Ok(bytes)
}

/// A plan's metadata, whose `costs` must be what the specification's profile says they are.
pub(super) fn plan_metadata(table: &toml::Table) -> Result<Value, Problems> {
    let metadata = json(table).map_err(|text| vec![Problem::at("", text)])?;
    let mut found = Problems::new();
    match metadata.get("costs").map(Value::as_array) {
        None => {}
        Some(None) => found.push(Problem::at("costs", "must be an array")),
        Some(Some(costs)) => {
            for (index, cost) in costs.iter().enumerate() {
                let amounts = cost.get("amount").and_then(Value::as_object);
                let fits = amounts.is_some_and(|amounts| amounts.values().all(Value::is_number))
                    && cost.get("unit").is_some_and(Value::is_string);
                if !fits {
                    let text = "must be such as { amount = { usd = 0.06 }, unit = \"hour\" }";
                    found.push(Problem::at(format!("costs[{index}]"), text));
                }
            }
        }
    }
    if found.is_empty() { Ok(metadata) } else { Err(found) }
}

/// The client of a dashboard; its secret stands elsewhere.
pub(super) fn dashboard_client(table: &toml::Table, folder: &Path) -> Result<Value, Problems> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        id: String,
        secret: String,
        redirect_uri: Option<String>,
    }
    let written: Written = Settings::read(table)?;
    let reference = match written.secret.strip_prefix("file:") {
        Some(path) => format!("file:{}", folder.join(path).display()),
        None => written.secret,
    };
    let secret = SecretRef::parse(&reference).and_then(|reference| secret::read(&reference));
    let secret = secret.map_err(|text| vec![Problem::at("secret", text)])?;
    let mut client = json!({"id": written.id, "secret": secret});
    if let (Some(uri), Some(client)) = (written.redirect_uri, client.as_object_mut()) {
        client.insert("redirect_uri".to_owned(), uri.into());
    }
    Ok(client)
}

/// The schemas of a plan's parameters, as the catalog says them and ready to be used. Each `parameters` is a table,
/// or the name of a JSON file.
pub(super) fn schemas(table: &toml::Table, folder: &Path) -> Result<(Value, Schemas), Problems> {
    let (mut wire, mut schemas, mut found) = (Map::new(), Schemas::default(), Problems::new());
    let unknown =
        "unknown key; there are service_instance.create, service_instance.update and service_binding.create";
    for (group, value) in table {
        let is_known = ["service_instance", "service_binding"].contains(&group.as_str());
        let Some(table) = value.as_table().filter(|_| is_known) else {
            found.push(Problem::at(group, if is_known { "must be a table" } else { unknown }));
            continue;
        };
        let mut actions = Map::new();
        for (action, value) in table {
            let path = format!("{group}.{action}");
            let slot = match (group.as_str(), action.as_str()) {
                ("service_instance", "create") => &mut schemas.provision,
                ("service_instance", "update") => &mut schemas.update,
                ("service_binding", "create") => &mut schemas.bind,
                _ => {
                    found.push(Problem::at(path, unknown));
                    continue;
                }
            };
            match parameters(value, folder) {
                Ok(schema) => {
                    actions.insert(action.clone(), json!({"parameters": schema.json()}));
                    *slot = Some(schema);
                }
                Err((key, text)) => found.push(Problem::at(format!("{path}.{key}"), text)),
            }
        }
        wire.insert(group.clone(), actions.into());
    }
    if found.is_empty() { Ok((wire.into(), schemas)) } else { Err(found) }
}

/// The schema of an action; else the key that is wrong in it, and why.
fn parameters<'a>(value: &'a toml::Value, folder: &Path) -> Result<Schema, (&'a str, String)> {
    let other = value.as_table().and_then(|table| table.keys().find(|key| *key != "parameters"));
    match other {
        Some(other) => Err((other, "unknown key; there is `parameters`".to_owned())),
        None => schema(value.get("parameters"), folder).map_err(|text| ("parameters", text)),
    }
}

fn schema(written: Option<&toml::Value>, folder: &Path) -> Result<Schema, String> {
    let schema = match written {
        Some(toml::Value::Table(table)) => json(table)?,
        Some(toml::Value::String(file)) => {
            let text = read(file, folder, SCHEMA_BYTES)?;
            serde_json::from_slice(&text).map_err(|error| format!("{file} is no JSON: {error}"))?
        }
        _ => return Err("must be a JSON Schema: a table, or the name of a JSON file".to_owned()),
    };
    if schema.to_string().len() as u64 > SCHEMA_BYTES {
        return Err(format!("has more than {SCHEMA_BYTES} bytes"));
    }
    Schema::compile_any_draft(schema)
}
