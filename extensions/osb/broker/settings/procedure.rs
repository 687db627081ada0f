//! How one operation is carried out: at once or asynchronously, by a hook, with simulated steps and faults.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use standpipe_api::{Problem, Problems, Settings};

use super::{keep, span};
use crate::osb::broker::records::Failure;
use crate::outside::{Program, Server, anchored};

/// How long a hook may take unless its table says otherwise, and at most: an attempt at a job has five minutes.
const USUAL: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(240);
/// Bytes a hook may print.
const LONGEST: u64 = 1 << 20;
/// Simulated steps of one operation.
const STEPS: usize = 100;

/// How one operation is carried out.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Procedure {
    pub(in super::super) asynchronous: Asynchronous,
    /// Seconds that a platform is told to wait between polls.
    pub(in super::super) retry_after: Option<u64>,
    pub(in super::super) hook: Option<Hook>,
    pub(in super::super) steps: Vec<Step>,
    /// The step, counted from one, that fails in place of being done, or the end.
    pub(in super::super) fails: Option<(Option<usize>, Failure)>,
    /// What becomes of the answers to requests.
    pub(in super::super) played: Played,
}

/// Whether an operation is asynchronous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Asynchronous {
    /// Never, even if the platform would wait.
    #[default]
    Never,
    /// If the platform accepts it; otherwise the request waits.
    Accepted,
    /// Always: a platform that does not accept it is told `AsyncRequired`.
    Only,
}

/// Who does the work.
#[derive(Clone, Debug)]
pub(in super::super) enum Hook {
    /// A program: JSON on standard input, JSON on standard output.
    Command(Program),
    /// A server that is posted the same.
    Http(Server),
}

/// A simulated step.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Step {
    #[serde(default)]
    pub(in super::super) description: Option<String>,
    #[serde(default, deserialize_with = "delay")]
    pub(in super::super) delay: Duration,
}

/// What becomes of an answer after the work has begun, or, where the request waits, was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Played {
    /// It comes later.
    pub(in super::super) after: Duration,
    /// It says this instead.
    pub(in super::super) status: Option<u16>,
    /// It breaks off.
    pub(in super::super) dropped: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Switch(bool),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    r#async: Option<Word>,
    retry_after: Option<String>,
    hook: Option<toml::Table>,
    simulate: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHook {
    command: Option<Vec<String>>,
    url: Option<String>,
    token: Option<String>,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSimulation {
    #[serde(default)]
    steps: Vec<Step>,
    fail: Option<String>,
    fail_at: Option<usize>,
    fail_status: Option<u16>,
    fail_error: Option<String>,
    instance_usable: Option<bool>,
    update_repeatable: Option<bool>,
    answer_after: Option<String>,
    answer_status: Option<u16>,
    #[serde(default)]
    answer_dropped: bool,
}

impl Procedure {
    /// Reads the table of one operation.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub(super) fn read(table: &toml::Table, folder: &Path) -> Result<Self, Problems> {
        let (written, mut found) = Settings::examine::<Written>(table);
        let Some(written) = written else { return Err(found) };
        let asynchronous = match written.r#async {
            None | Some(Word::Switch(false)) => Asynchronous::Never,
            Some(Word::Switch(true)) => Asynchronous::Accepted,
            Some(Word::Text(text)) if text == "only" => Asynchronous::Only,
            Some(Word::Text(_)) => {
                found.push(Problem::at("async", "must be false, true or \"only\""));
                Asynchronous::Never
            }
        };
        let retry_after = span("retry_after", written.retry_after.as_deref(), &mut found);
        let retry_after = retry_after.map(|span| span.as_secs().max(1));
        let mut procedure = Self { asynchronous, retry_after, ..Self::default() };
        procedure.hook = written.hook.and_then(|table| keep(Hook::read(&table, folder), "hook", &mut found));
        if let Some(table) = written.simulate {
            keep(procedure.simulate(&table), "simulate", &mut found);
        }
        if found.is_empty() { Ok(procedure) } else { Err(found) }
    }

    fn simulate(&mut self, table: &toml::Table) -> Result<(), Problems> {
        let written: WrittenSimulation = Settings::read(table)?;
        let mut found = Problems::new();
        if written.steps.len() > STEPS {
            found.push(Problem::at("steps", format!("there may be at most {STEPS}")));
        }
        let is_error = |status: &u16| (400..600).contains(status);
        for (key, status) in [("fail_status", written.fail_status), ("answer_status", written.answer_status)]
        {
            if status.is_some_and(|status| !is_error(&status)) {
                found.push(Problem::at(key, "must be the status of an error, 400 to 599"));
            }
        }
        if written.fail_at.is_some_and(|at| at == 0 || at > written.steps.len()) {
            found.push(Problem::at("fail_at", "must be the number of one of the steps, counted from 1"));
        }
        if written.fail.is_none() && (written.fail_at.is_some() || written.fail_status.is_some()) {
            found.push(Problem::at("fail", "is missing: the description of the failure"));
        }
        let after = span("answer_after", written.answer_after.as_deref(), &mut found).unwrap_or_default();
        self.played = Played { after, status: written.answer_status, dropped: written.answer_dropped };
        self.fails = written.fail.map(|description| {
            let failure = Failure {
                status: written.fail_status.unwrap_or(500),
                error: written.fail_error,
                description,
                instance_usable: written.instance_usable,
                update_repeatable: written.update_repeatable,
            };
            (written.fail_at, failure)
        });
        self.steps = written.steps;
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// How long a request waits for the operation at most.
    pub(in super::super) fn patience(&self) -> Duration {
        const BESIDE: Duration = Duration::from_secs(30);
        let steps: Duration = self.steps.iter().map(|step| step.delay).sum();
        steps + BESIDE + self.hook.as_ref().map_or(Duration::ZERO, |_| MOST)
    }
}

impl Hook {
    fn read(table: &toml::Table, folder: &Path) -> Result<Self, Problems> {
        let written: WrittenHook = Settings::read(table)?;
        let mut found = Problems::new();
        let limit = span("timeout", written.timeout.as_deref(), &mut found).unwrap_or(USUAL);
        if limit > MOST {
            found.push(Problem::at("timeout", format!("must be at most {} seconds", MOST.as_secs())));
        }
        let hook = match (written.command, &written.url) {
            (Some(mut words), None) => match words.first_mut().filter(|word| !word.is_empty()) {
                Some(program) => {
                    *program = anchored(program, folder).display().to_string();
                    Some(Self::Command(Program { words, limit, longest: LONGEST }))
                }
                None => {
                    found.push(Problem::at("command", "must be a list: the program, then its arguments"));
                    None
                }
            },
            (None, Some(url)) => {
                let token = written.token.as_deref().map(|token| match token.strip_prefix("file:") {
                    Some(path) => format!("file:{}", folder.join(path).display()),
                    None => token.to_owned(),
                });
                keep(Server::read(Some(url), token.as_deref(), limit), "", &mut found).map(Self::Http)
            }
            _ => {
                found.push(Problem::at("", "must have either `command` or `url`"));
                None
            }
        };
        match hook {
            Some(hook) if found.is_empty() => Ok(hook),
            _ => Err(found),
        }
    }
}

fn delay<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const MOST: Duration = Duration::from_secs(3600);
    let text = String::deserialize(from)?;
    let span = humantime::parse_duration(&text).ok().filter(|span| *span <= MOST);
    span.ok_or_else(|| serde::de::Error::custom("a delay is a span of time such as \"2s\", at most \"1h\""))
}
