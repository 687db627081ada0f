//! A source table in, checked settings out.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use standpipe_api::{Problem, Problems, Result, Settings};

use super::certificate::Authority;
use super::fixed::Table;
use super::generate::{BASIC, SECRET};
use super::identity::Declared;
use crate::outside::{Program, Server};

/// Bytes of data that a command prints or a server answers: those of a pipe.
const LONGEST: u64 = 1 << 20;
/// How long a command or server may take unless the table says otherwise, and at most.
const USUAL: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(50);

/// A checked source table.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    pub(super) kind: SourceKind,
    pub(super) rotate_every: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceKind {
    Table(Table),
    Random(&'static [&'static str]),
    Identity(Declared),
    Certificate(Authority),
    Command(Program),
    Http(Server),
}

/// The table as it is written; which keys belong to which kind is checked afterwards.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kind: String,
    rotate_every: Option<String>,
    data: Option<Map<String, Value>>,
    command: Option<Vec<String>>,
    url: Option<String>,
    token: Option<String>,
    timeout: Option<String>,
    ca_certificate: Option<PathBuf>,
    ca_key: Option<PathBuf>,
    lifetime: Option<String>,
    issuer: Option<String>,
    subject: Option<String>,
    audience: Option<String>,
}

impl SourceSettings {
    /// Reads one source table. `kind` is `table` (with `data`), `basic`, `secret`, `oidc`, `mtls`, `command` or `http`;
    /// `rotate_every` is a span.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(table: &toml::Table) -> Result<Self, Problems> {
        let written: Written = Settings::read(table)?;
        let mut problems = Problems::new();
        let rotate_every = span("rotate_every", written.rotate_every.as_deref(), &mut problems);
        let (kind, keys) = kind(&written, &mut problems);
        let known = |key: &&String| !keys.contains(&key.as_str()) && *key != "kind" && *key != "rotate_every";
        for key in table.keys().filter(known) {
            problems.push(Problem::at(key, format!("is no key of the kind `{}`", written.kind)));
        }
        match kind {
            Some(kind) if problems.is_empty() => Ok(Self { kind, rotate_every }),
            _ => Err(problems),
        }
    }
}

fn kind(written: &Written, problems: &mut Problems) -> (Option<SourceKind>, &'static [&'static str]) {
    match written.kind.as_str() {
        "table" => {
            let table = written.data.clone().ok_or_else(|| vec![Problem::at("data", "is missing")]);
            (told(table.and_then(Table::read), problems).map(SourceKind::Table), &["data"])
        }
        "basic" => (Some(SourceKind::Random(BASIC)), &[]),
        "secret" => (Some(SourceKind::Random(SECRET)), &[]),
        "oidc" => {
            let (issuer, subject) = (written.issuer.clone(), written.subject.clone());
            let declared = Declared { issuer, subject, audience: written.audience.clone() };
            (Some(SourceKind::Identity(declared)), &["issuer", "subject", "audience"])
        }
        "mtls" => (
            authority(written, problems).map(SourceKind::Certificate),
            &["ca_certificate", "ca_key", "lifetime"],
        ),
        "command" => (command(written, problems).map(SourceKind::Command), &["command", "timeout"]),
        "http" => (server(written, problems).map(SourceKind::Http), &["url", "token", "timeout"]),
        other => {
            let known = "table, basic, secret, oidc, mtls, command, http";
            problems.push(Problem::at("kind", format!("`{other}` is unknown; known are {known}")));
            (None, &["data", "command", "url", "token", "timeout", "ca_certificate", "ca_key", "lifetime"])
        }
    }
}

fn told<T>(read: Result<T, Problems>, problems: &mut Problems) -> Option<T> {
    read.map_err(|found| problems.extend(found)).ok()
}

fn span(key: &str, text: Option<&str>, problems: &mut Problems) -> Option<Duration> {
    let text = text?;
    let span = humantime::parse_duration(text).ok().filter(|span| *span >= Duration::from_secs(1));
    if span.is_none() {
        problems.push(Problem::at(key, "must be a span of time of at least a second, such as \"30d\""));
    }
    span
}

fn patience(written: &Written, problems: &mut Problems) -> Duration {
    let limit = span("timeout", written.timeout.as_deref(), problems).unwrap_or(USUAL);
    if limit > MOST {
        problems.push(Problem::at("timeout", format!("must be at most {} seconds", MOST.as_secs())));
    }
    limit
}

fn command(written: &Written, problems: &mut Problems) -> Option<Program> {
    let limit = patience(written, problems);
    let words = written.command.clone().filter(|words| words.first().is_some_and(|word| !word.is_empty()));
    if words.is_none() {
        problems.push(Problem::at("command", "must be a list: the program, then its arguments"));
    }
    Some(Program { words: words?, limit, longest: LONGEST })
}

fn server(written: &Written, problems: &mut Problems) -> Option<Server> {
    let limit = patience(written, problems);
    told(Server::read(written.url.as_deref(), written.token.as_deref(), limit), problems)
}

fn authority(written: &Written, problems: &mut Problems) -> Option<Authority> {
    /// Long enough that a renewal may fail for weeks.
    const USUAL: Duration = Duration::from_secs(90 * 24 * 3600);
    let lifetime = span("lifetime", written.lifetime.as_deref(), problems).unwrap_or(USUAL);
    for (key, path) in [("ca_certificate", &written.ca_certificate), ("ca_key", &written.ca_key)] {
        if path.is_none() {
            problems.push(Problem::at(key, "is missing: a PEM file of the authority that signs"));
        }
    }
    let authority =
        Authority { certificate: written.ca_certificate.clone()?, key: written.ca_key.clone()?, lifetime };
    authority.check().map_err(|text| problems.push(Problem::at("ca_key", text))).ok()?;
    Some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SourceSettings, String> {
        let told =
            |problems: Problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        SourceSettings::read(&toml::from_str(text).unwrap()).map_err(told)
    }

    #[test]
    fn every_kind_has_its_own_keys() {
        assert!(read("kind = 'basic'\nrotate_every = '30d'").is_ok());
        assert!(read("kind = 'command'\ncommand = ['true']\ntimeout = '5s'").is_ok());
        assert!(read("kind = 'http'\nurl = 'http://h/x'\ntoken = 'env:PATH'").is_ok());
        for (text, mistake) in [
            ("kind = 'basic'\nurl = 'http://h'", "url: is no key of the kind `basic`"),
            ("kind = 'nothing'", "known are table"),
            ("kind = 'command'", "command: must be a list"),
            ("kind = 'command'\ncommand = ['x']\ntimeout = '5m'", "timeout: must be at most 50"),
            ("kind = 'http'\nurl = 'ftp://h'", "url: must be an http"),
            ("kind = 'http'\nurl = 'http://h'\ntoken = 'hunter2'", "token: must be `env:NAME`"),
            (
                "kind = 'http'\nurl = 'http://h'\ntoken = 'env:STANDPIPE_UNSET'",
                "token: the environment variable STANDPIPE_UNSET",
            ),
            ("kind = 'table'", "data: is missing"),
            ("kind = 'mtls'", "ca_key: is missing"),
            ("kind = 'table'\ndata = {}\nrotate_every = 'soon'", "rotate_every: must be"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(mistake) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
