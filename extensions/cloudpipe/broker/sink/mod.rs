//! Where an app's configuration goes.
//!
//! In: all pipes of a resource. Out: the app configured from them. It never changes a pipe.

mod command;
mod env_file;
mod names;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use standpipe_api::{Problem, Problems, Result, Settings};

use self::command::Configurator;
use self::env_file::EnvFile;
use self::names::Names;
use crate::outside::Program;

/// How long a command may take to configure an app, unless the table says otherwise.
const USUAL: Duration = Duration::from_secs(60);
/// Bytes that such a command may print.
const LONGEST: u64 = 1 << 20;

/// A checked sink table.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkSettings {
    to: To,
    names: Names,
}

#[derive(Clone, Debug, PartialEq)]
enum To {
    EnvFile(PathBuf),
    Command(Program),
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    path: Option<PathBuf>,
    command: Option<Vec<String>>,
    timeout: Option<String>,
    names: Option<BTreeMap<String, Vec<String>>>,
}

impl SinkSettings {
    /// Reads one sink table: `kind = "env-file"` with `path`, or `kind = "command"` with `command` and perhaps `timeout`;
    /// either perhaps with `names`.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(table: &toml::Table) -> Result<Self, Problems> {
        let written: Written = Settings::read(table)?;
        let mut problems = Problems::new();
        let (to, keys): (_, &[&str]) = match written.kind.as_str() {
            "env-file" => (env_file(written.path, &mut problems), &["path"]),
            "command" => (command(written.command, written.timeout, &mut problems), &["command", "timeout"]),
            _ => {
                problems.push(Problem::at("kind", "must be \"env-file\" or \"command\""));
                (None, &["path", "command", "timeout"])
            }
        };
        let known = |key: &&String| keys.contains(&key.as_str()) || ["kind", "names"].contains(&key.as_str());
        for key in table.keys().filter(|key| !known(key)) {
            problems.push(Problem::at(key, format!("is no key of the kind `{}`", written.kind)));
        }
        let names = written.names.map_or(Names::All, |names| Names::read(names, &mut problems));
        match to {
            Some(to) if problems.is_empty() => Ok(Self { to, names }),
            _ => Err(problems),
        }
    }
}

fn env_file(path: Option<PathBuf>, problems: &mut Problems) -> Option<To> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    if path.is_none() {
        problems.push(Problem::at("path", "must name the file"));
    }
    path.map(To::EnvFile)
}

fn command(words: Option<Vec<String>>, timeout: Option<String>, problems: &mut Problems) -> Option<To> {
    let words = words.filter(|words| words.first().is_some_and(|word| !word.is_empty()));
    if words.is_none() {
        problems.push(Problem::at("command", "must be a list: the program, then its arguments"));
    }
    let limit = timeout.map(|text| humantime::parse_duration(&text)).transpose();
    if limit.is_err() {
        problems.push(Problem::at("timeout", "must be a span of time, such as \"30s\""));
    }
    let limit = limit.ok().flatten().unwrap_or(USUAL);
    words.map(|words| To::Command(Program { words, limit, longest: LONGEST }))
}

/// A place configuration goes.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Whether the app could be configured from these pipes.
    ///
    /// # Errors
    /// Two data want the same name.
    fn check(&self, _pipes: &[Value]) -> Result<()> {
        Ok(())
    }

    /// The names it keeps for an app with these pipes, where it has to be told later which of them are gone.
    ///
    /// # Errors
    /// Two things want one name.
    fn names(&self, _pipes: &[Value]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Configures the app of one resource from all its pipes, in id order; idempotent. `gone` are names it kept earlier
    /// and has no longer.
    ///
    /// # Errors
    /// The app could not be configured.
    async fn apply(&self, resource: &str, pipes: &[Value], gone: &[String]) -> Result<()>;
}

/// Builds a sink.
pub fn build(settings: &SinkSettings) -> Arc<dyn Sink> {
    let names = settings.names.clone();
    match &settings.to {
        To::EnvFile(path) => Arc::new(EnvFile::new(path.clone(), names)),
        To::Command(program) => Arc::new(Configurator::new(program.clone(), names)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_a_sink_are_named() {
        let read = |text: &str| SinkSettings::read(&toml::from_str(text).unwrap());
        assert!(read("kind = 'env-file'\npath = 'a'\nnames = { A = ['db:other.URI'] }").is_ok());
        assert!(read("kind = 'command'\ncommand = ['./a.sh', 'app']").is_ok());
        for (text, mistake) in [
            ("kind = 'env-file'", "path: must name the file"),
            ("kind = 'env-file'\npath = 'a'\ncommand = ['x']", "command: is no key of the kind `env-file`"),
            ("kind = 'command'\ncommand = []", "command: must be a list"),
            ("kind = 'carrier-pigeon'", "kind: must be"),
            ("kind = 'command'\ncommand = ['x']\ntimeout = 'soon'", "timeout: must be"),
        ] {
            let problems = read(text).unwrap_err();
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(told.iter().any(|told| told.contains(mistake)), "{text}: {told:?}");
        }
    }
}
