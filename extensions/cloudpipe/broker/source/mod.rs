//! Where a pipe's data comes from.
//!
//! In: an event in a pipe's life and the pipe as JSON. Out: top-level keys for the `data` of its own end.
//! It never writes a pipe.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Outbound, Problem, Problems, Result};

/// What happens to the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is being created.
    Bind,
    /// A caller changed it.
    Update,
    /// Its data is to be made anew.
    Rotate,
    /// It is gone.
    Unbind,
}

/// A checked source table.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    data: Map<String, Value>,
}

impl SourceSettings {
    /// Reads one source table.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(table: &toml::Table) -> Result<Self, Problems> {
        let kind = table.get("kind").and_then(toml::Value::as_str);
        if kind != Some("table") {
            return Err(vec![Problem::at("kind", "must be \"table\"")]);
        }
        match table.get("data").map(serde_json::to_value) {
            Some(Ok(Value::Object(data))) => Ok(Self { data }),
            _ => Err(vec![Problem::at("data", "must be a table")]),
        }
    }
}

/// A place data comes from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The data for a pipe, called at least once per event.
    ///
    /// # Errors
    /// It could not be had.
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>>;

    /// How often its data is to be made anew.
    fn rotate_every(&self) -> Option<Duration>;
}

/// Builds a source.
pub fn build(settings: &SourceSettings, _outbound: Arc<dyn Outbound>) -> Arc<dyn Source> {
    Arc::new(Fixed(settings.data.clone()))
}

struct Fixed(Map<String, Value>);

#[async_trait]
impl Source for Fixed {
    async fn produce(&self, _event: Event, _pipe: &Value) -> Result<Map<String, Value>> {
        Ok(self.0.clone())
    }

    fn rotate_every(&self) -> Option<Duration> {
        None
    }
}
