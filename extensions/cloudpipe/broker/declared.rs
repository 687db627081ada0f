//! Sources and sinks as the settings declare them, on their way to being built.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use standpipe_api::{Outbound, Problem, Problems};

use super::schema::fingerprint;
use super::sink::{self, Sink, SinkSettings};
use super::source::{self, Reach, Source, SourceSettings};

/// A source as declared, built when it is first asked.
pub(super) struct DeclaredSource {
    settings: SourceSettings,
    /// Changes when the declaration does, or a secret in it.
    pub(super) fingerprint: String,
    /// Who has to be told of changes.
    pub(super) reach: Reach,
    built: OnceLock<Arc<dyn Source>>,
}

impl DeclaredSource {
    /// Reads one source table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let settings = SourceSettings::read(table)?;
        let json = serde_json::to_value(table).map_err(|error| vec![Problem::at("", error.to_string())])?;
        let secrets = settings.secrets();
        let fingerprint = match secrets.is_empty() {
            true => fingerprint(&json),
            false => fingerprint(&serde_json::json!([json, secrets])),
        };
        Ok(Self { reach: settings.reach(), settings, fingerprint, built: OnceLock::new() })
    }

    /// The source itself.
    pub(super) fn get(&self, outbound: &Arc<dyn Outbound>) -> Arc<dyn Source> {
        self.built.get_or_init(|| source::build(&self.settings, Arc::clone(outbound))).clone()
    }

    /// How often its data is to be made anew.
    pub(super) fn rotate_every(&self, outbound: &Arc<dyn Outbound>) -> Option<Duration> {
        self.settings.rotate_every().or_else(|| self.get(outbound).rotate_every())
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
