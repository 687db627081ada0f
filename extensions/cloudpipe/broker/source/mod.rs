//! Where a pipe's data comes from.
//!
//! In: an event in a pipe's life and the pipe as JSON. Out: top-level keys for the `data` of its own end.
//! It never writes a pipe.

mod generate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Outbound, Problem, Problems, Result};

use self::generate::Random;

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
    kind: SourceKind,
    rotate_every: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
enum SourceKind {
    Table(Map<String, Value>),
    Random(&'static [&'static str]),
}

impl SourceSettings {
    /// Reads one source table: `kind` is `table` (with `data`), `basic` or `secret`; `rotate_every` is a span.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(table: &toml::Table) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut wrong = |key: &str, text: &str| problems.push(Problem::at(key, text));
        let kind = match table.get("kind").and_then(toml::Value::as_str) {
            Some("table") => match table.get("data").map(serde_json::to_value) {
                Some(Ok(Value::Object(data))) => SourceKind::Table(data),
                _ => {
                    wrong("data", "must be a table");
                    SourceKind::Random(&[])
                }
            },
            Some("basic") => SourceKind::Random(generate::BASIC),
            Some("secret") => SourceKind::Random(generate::SECRET),
            _ => {
                wrong("kind", "must be \"table\", \"basic\" or \"secret\"");
                SourceKind::Random(&[])
            }
        };
        let span = table
            .get("rotate_every")
            .map(|span| span.as_str().and_then(|text| humantime::parse_duration(text).ok()));
        if span == Some(None) {
            wrong("rotate_every", "must be a span of time, such as \"30d\"");
        }
        let known = if matches!(kind, SourceKind::Table(_)) {
            &["kind", "rotate_every", "data"][..]
        } else {
            &["kind", "rotate_every"]
        };
        table.keys().filter(|key| !known.contains(&key.as_str())).for_each(|key| wrong(key, "unknown key"));
        if problems.is_empty() { Ok(Self { kind, rotate_every: span.flatten() }) } else { Err(problems) }
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
    let rotate_every = settings.rotate_every;
    match &settings.kind {
        SourceKind::Table(data) => Arc::new(Fixed { data: data.clone(), rotate_every }),
        SourceKind::Random(keys) => Arc::new(Random { keys, rotate_every }),
    }
}

struct Fixed {
    data: Map<String, Value>,
    rotate_every: Option<Duration>,
}

#[async_trait]
impl Source for Fixed {
    async fn produce(&self, _event: Event, _pipe: &Value) -> Result<Map<String, Value>> {
        Ok(self.data.clone())
    }

    fn rotate_every(&self) -> Option<Duration> {
        self.rotate_every
    }
}
