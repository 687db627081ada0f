//! Sources and sinks as the settings declare them, on their way to being built.

use std::fmt;
use std::sync::{Arc, OnceLock};

use standpipe_api::{Outbound, Problem, Problems};

use super::schema::fingerprint;
use super::sink::{self, Sink, SinkSettings};
use super::source::{self, Source, SourceSettings};

/// A source as declared, built when it is first asked.
pub(super) struct DeclaredSource {
    settings: SourceSettings,
    /// Changes when the declaration does.
    pub(super) fingerprint: String,
    /// Whether binding and unbinding do something outside this process.
    pub(super) reach: Reach,
    built: OnceLock<Arc<dyn Source>>,
}

/// How far a source's effects reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It only makes data; there is nothing to release.
    Inside,
    /// It calls a command or a server, which may keep something per pipe.
    Outside,
}

impl DeclaredSource {
    /// Reads one source table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let settings = SourceSettings::read(table)?;
        let json = serde_json::to_value(table).map_err(|error| vec![Problem::at("", error.to_string())])?;
        let kind = table.get("kind").and_then(toml::Value::as_str).unwrap_or_default();
        let makes_data_only = ["table", "basic", "secret", "mtls", "oidc"].contains(&kind);
        Ok(Self {
            settings,
            fingerprint: fingerprint(&json),
            reach: if makes_data_only { Reach::Inside } else { Reach::Outside },
            built: OnceLock::new(),
        })
    }

    /// The source itself.
    pub(super) fn get(&self, outbound: &Arc<dyn Outbound>) -> Arc<dyn Source> {
        self.built.get_or_init(|| source::build(&self.settings, Arc::clone(outbound))).clone()
    }

    #[cfg(test)]
    pub(super) fn replace(&mut self, source: Arc<dyn Source>, reach: Reach) {
        self.built = OnceLock::from(source);
        self.reach = reach;
    }
}

impl fmt::Debug for DeclaredSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeclaredSource(..)")
    }
}

/// A sink as declared.
pub(super) struct DeclaredSink(pub(super) Arc<dyn Sink>);

impl DeclaredSink {
    /// Reads one sink table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        Ok(Self(sink::build(&SinkSettings::read(table)?)))
    }
}

impl fmt::Debug for DeclaredSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeclaredSink(..)")
    }
}
