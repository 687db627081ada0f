//! Where an app's configuration goes.
//!
//! In: all pipes of a resource. Out: the app configured from them. It never changes a pipe.

mod env_file;
mod names;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use standpipe_api::{Problem, Problems, Result};

use self::env_file::EnvFile;
use self::names::Names;

/// A checked sink table.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSettings {
    path: PathBuf,
    names: Names,
}

impl SinkSettings {
    /// Reads one sink table: `kind = "env-file"`, `path`, and perhaps `names`.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(table: &toml::Table) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        if table.get("kind").and_then(toml::Value::as_str) != Some("env-file") {
            problems.push(Problem::at("kind", "must be \"env-file\""));
        }
        let path = table.get("path").and_then(toml::Value::as_str).filter(|path| !path.is_empty());
        if path.is_none() {
            problems.push(Problem::at("path", "must name the file"));
        }
        let names = match table.get("names") {
            None => Names::All,
            Some(value) => match value.clone().try_into::<BTreeMap<String, Vec<String>>>() {
                Ok(names) => Names::read(names, &mut problems),
                Err(_) => {
                    let text = "must be a table of lists, as DATABASE_URL = [\"database:other.URI\"]";
                    problems.push(Problem::at("names", text));
                    Names::All
                }
            },
        };
        let unknown = table.keys().filter(|key| !["kind", "path", "names"].contains(&key.as_str()));
        problems.extend(unknown.map(|key| Problem::at(key, "unknown key")));
        if problems.is_empty() {
            Ok(Self { path: path.unwrap_or_default().into(), names })
        } else {
            Err(problems)
        }
    }
}

/// A place configuration goes.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Configures the app of one resource from all its pipes, in id order; idempotent.
    ///
    /// # Errors
    /// The app could not be configured.
    async fn apply(&self, resource: &str, pipes: &[Value]) -> Result<()>;
}

/// Builds a sink.
pub fn build(settings: &SinkSettings) -> Arc<dyn Sink> {
    Arc::new(EnvFile::new(settings.path.clone(), settings.names.clone()))
}
