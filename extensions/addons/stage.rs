//! How far an add-on is, and what an answer of its broker means for it: no I/O, so that every row can be tried.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use standpipe_api::{Timestamp, backoff};

use super::record::{Addon, Bound, Plan};
use crate::osb::client::Reply;

/// How long a broker may take to take a request in, tries included, before a command fails.
const SENDING: Duration = Duration::from_secs(600);
/// How long to wait when a broker does not say: the shortest and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The longest that a broker may ask us to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// How far an add-on is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Something is being done.
    Working(Work),
    /// It can be used.
    Ready,
    /// A command failed, and the add-on cannot be used.
    Failed(Left),
}

/// Whether anything may be left at the broker of what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Left {
    /// Nothing.
    Nothing,
    /// The instance, or its binding.
    Perhaps,
}

/// What is being done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    /// What.
    pub task: Task,
    /// How far.
    pub progress: Progress,
    /// The broker is not asked before.
    pub ask_after: Timestamp,
    /// When it has failed.
    pub deadline: Timestamp,
    /// How often the broker was asked.
    pub attempts: u32,
}

/// One request to a broker, and what follows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Provisions the instance.
    Provision,
    /// Binds it.
    Bind,
    /// Moves it to another plan, or gives it other parameters.
    Update(Box<Update>),
    /// Unbinds it.
    Unbind(Why),
    /// Deprovisions it.
    Deprovision(Why),
}

/// What an add-on is to become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Update {
    /// Its plan, which may be the one it has.
    pub plan: Plan,
    /// Its parameters, when they change.
    pub parameters: Option<Map<String, Value>>,
}

/// Why something is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Why {
    /// Its user wants it.
    Wanted,
    /// Adding it failed, and something may be left of it (spec, "Orphan mitigation").
    Failure,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Progress {
    /// The request is to be sent, perhaps again: its ids are the same each time.
    Unsent,
    /// The broker is at it, under this name.
    Accepted(Option<String>),
}

/// What was heard of a task.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// The answer to its request.
    Answered(Reply),
    /// The answer to the question how it goes.
    Polled(Reply),
    /// Nobody knows what became of the request.
    Lost,
    /// It took too long.
    Overdue,
}

impl Stage {
    /// The first stage of all.
    pub(super) fn provision(now: Timestamp) -> Self {
        Self::begin(Task::Provision, now)
    }

    /// A task that is to be done at once.
    pub(super) fn begin(task: Task, now: Timestamp) -> Self {
        Self::Working(Work {
            task,
            progress: Progress::Unsent,
            ask_after: now,
            deadline: now.plus(SENDING),
            attempts: 0,
        })
    }

    /// The word that users see.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed(_) => "failed",
            Self::Working(work) => match work.task {
                Task::Provision => "provisioning",
                Task::Bind => "binding",
                Task::Update(_) => "updating",
                Task::Unbind(_) | Task::Deprovision(_) => "removing",
            },
        }
    }
}

impl Addon {
    /// What it is after something was heard of its task; `None`: it is gone.
    pub(super) fn after(mut self, heard: Heard, now: Timestamp) -> Option<Self> {
        let Stage::Working(work) = self.stage.clone() else { return Some(self) };
        let is_delete = matches!(work.task, Task::Unbind(_) | Task::Deprovision(_));
        match heard {
            Heard::Overdue => self.failed("the broker did not finish in time".into(), Left::Perhaps, now),
            Heard::Lost => self.later(work, None, now),
            Heard::Answered(reply) => match reply.status {
                StatusCode::ACCEPTED => {
                    self.dashboard = url(&reply.body).or(self.dashboard);
                    let operation = reply.body.get("operation").and_then(Value::as_str);
                    let progress = Progress::Accepted(operation.map(str::to_owned));
                    let deadline = now.plus(self.plan.patience());
                    self.later(Work { progress, deadline, attempts: 0, ..work }, reply.retry_after, now)
                }
                StatusCode::OK | StatusCode::CREATED => self.done(&reply.body, now),
                StatusCode::GONE if is_delete => self.done(&reply.body, now),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    self.later(work, reply.retry_after, now)
                }
                _ if is_concurrency(&reply.body) => self.later(work, reply.retry_after, now),
                status => {
                    let left = if status.is_client_error() { Left::Nothing } else { Left::Perhaps };
                    self.failed(said(&reply), left, now)
                }
            },
            Heard::Polled(reply) => match (reply.status, reply.body.get("state").and_then(Value::as_str)) {
                (StatusCode::OK, Some("succeeded")) => self.done(&reply.body, now),
                (StatusCode::OK, Some("failed")) => self.failed(said(&reply), Left::Perhaps, now),
                (StatusCode::GONE, _) if is_delete => self.done(&reply.body, now),
                (StatusCode::GONE | StatusCode::NOT_FOUND, _) => {
                    self.failed(said(&reply), Left::Perhaps, now)
                }
                _ => self.later(work, reply.retry_after, now),
            },
        }
    }

    fn later(mut self, work: Work, wait: Option<Duration>, now: Timestamp) -> Option<Self> {
        let wait = wait.unwrap_or_else(|| backoff(work.attempts, WAITS)).clamp(WAITS.0, LONGEST_WAIT);
        let attempts = work.attempts.saturating_add(1);
        self.stage = Stage::Working(Work { ask_after: now.plus(wait), attempts, ..work });
        Some(self)
    }

    fn done(mut self, body: &Map<String, Value>, now: Timestamp) -> Option<Self> {
        let Stage::Working(work) = self.stage.clone() else { return Some(self) };
        self.stage = match work.task {
            Task::Provision => {
                self.dashboard = url(body).or(self.dashboard);
                if self.plan.bindable {
                    self.bound = Bound::Perhaps;
                    Stage::begin(Task::Bind, now)
                } else {
                    Stage::Ready
                }
            }
            Task::Bind => {
                let given = body.get("credentials").and_then(Value::as_object);
                self.credentials = given.filter(|_| !self.plan.retrievable).cloned();
                Stage::Ready
            }
            Task::Update(update) => {
                self.dashboard = url(body).or(self.dashboard);
                self.plan = update.plan;
                self.parameters = update.parameters.or(self.parameters);
                Stage::Ready
            }
            Task::Unbind(why) => {
                (self.bound, self.credentials) = (Bound::No, None);
                Stage::begin(Task::Deprovision(why), now)
            }
            Task::Deprovision(Why::Wanted) => return None,
            Task::Deprovision(Why::Failure) => Stage::Failed(Left::Nothing),
        };
        Some(self)
    }

    fn failed(mut self, why: String, left: Left, now: Timestamp) -> Option<Self> {
        let Stage::Working(work) = self.stage.clone() else { return Some(self) };
        let (stage, error) = match (work.task, left) {
            (Task::Provision, Left::Nothing) => (Stage::Failed(Left::Nothing), why),
            (Task::Provision, Left::Perhaps) => (Stage::begin(Task::Deprovision(Why::Failure), now), why),
            (Task::Bind, Left::Nothing) => {
                self.bound = Bound::No;
                (Stage::begin(Task::Deprovision(Why::Failure), now), why)
            }
            (Task::Bind, Left::Perhaps) => (Stage::begin(Task::Unbind(Why::Failure), now), why),
            (Task::Update(_), _) => (Stage::Ready, why),
            (Task::Unbind(Why::Wanted) | Task::Deprovision(Why::Wanted), _) => {
                (Stage::Failed(Left::Perhaps), why)
            }
            (Task::Unbind(Why::Failure) | Task::Deprovision(Why::Failure), _) => {
                let first = self.error.take().unwrap_or_default();
                (
                    Stage::Failed(Left::Perhaps),
                    format!("{first}; what is left of it could not be removed: {why}"),
                )
            }
        };
        (self.stage, self.error) = (stage, Some(error));
        Some(self)
    }

    /// The stage in which it is taken away, as its user wants it; `None`: nothing of it is at the broker.
    pub(super) fn removal(&self, now: Timestamp) -> Option<Stage> {
        if self.stage == Stage::Failed(Left::Nothing) {
            return None;
        }
        Some(match self.bound {
            Bound::Perhaps => Stage::begin(Task::Unbind(Why::Wanted), now),
            Bound::No => Stage::begin(Task::Deprovision(Why::Wanted), now),
        })
    }
}

fn url(body: &Map<String, Value>) -> Option<String> {
    body.get("dashboard_url").and_then(Value::as_str).map(str::to_owned)
}

fn is_concurrency(body: &Map<String, Value>) -> bool {
    body.get("error").and_then(Value::as_str) == Some("ConcurrencyError")
}

/// The broker's own text, else its status.
fn said(reply: &Reply) -> String {
    let text = ["description", "error"].iter().find_map(|key| reply.body.get(*key)?.as_str());
    let own = text.filter(|text| !text.is_empty()).map(str::to_owned);
    own.unwrap_or_else(|| format!("the broker answered {} and did not say why", reply.status))
}
