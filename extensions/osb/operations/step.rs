//! What an answer means for an operation: no I/O, so that every row of the tables can be tried.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use standpipe_api::{Change, Hint, MappingState, NewEvent, Resource, Timestamp};

use super::operation::{Beside, Made, Operation, OperationKind, OperationState, Reconciled};
use crate::osb::dialect::{BINDING, PLAN, SERVICE};
use crate::osb::event::kind as event;

/// What became of an operation's request, or of a question how it goes.
#[derive(Clone, Copy, Debug)]
pub(in crate::osb) enum Heard<'a> {
    /// The broker answered the request.
    Answered(StatusCode, &'a Map<String, Value>),
    /// The request never left.
    NotSent,
    /// Nobody knows whether it arrived.
    Lost,
    /// The broker was asked how it goes; the last is what it says to wait.
    Polled(StatusCode, &'a Map<String, Value>, Option<Duration>),
}

/// What is to be done with an operation.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It goes on, as it is now.
    GoesOn(Box<Operation>),
    /// It ended at once, or never began: it leaves no trace but these changes.
    Leaves(Vec<Change>),
    /// It is settled, with these changes.
    Settled(Box<Operation>, Vec<Change>),
    /// Nothing new.
    Stays,
}

/// The longest that a broker may ask us to wait.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Characters of an operation's name (spec, "Asynchronous Operations"); a longer one is not kept.
const LONGEST_NAME: usize = 10_000;
/// Characters of a description that are kept.
const LONGEST_TEXT: usize = 1_000;
/// A poll that brings nothing new is written down no more often.
const SELDOM: Duration = Duration::from_secs(10);
/// How long cleaning up is tried at least.
pub(super) const CLEANING: Duration = Duration::from_secs(24 * 3600);

/// What an answer means.
pub(super) fn step(operation: Operation, heard: Heard<'_>) -> Step {
    match heard {
        Heard::NotSent => Step::Leaves(Vec::new()),
        Heard::Lost => lost(operation),
        Heard::Answered(status, body) => answered(operation, status, body),
        Heard::Polled(status, body, wait) => polled(operation, status, body, wait),
    }
}

/// Only what a lost creation may have left has to be cleaned up after. A repeated one changes nothing that was there before, and a
/// change or deletion that was not answered is for the platform to repeat: it was told.
fn lost(operation: Operation) -> Step {
    if operation.kind != OperationKind::Create || operation.made == Made::Earlier {
        return Step::Leaves(Vec::new());
    }
    Step::GoesOn(Box::new(left(operation)))
}

/// Something may be left of it, and standpipe cleans up where it is to.
pub(super) fn left(operation: Operation) -> Operation {
    let is_ours = operation.reconciled == Reconciled::Here && operation.kind == OperationKind::Create;
    let least = if is_ours { Timestamp::now().plus(CLEANING) } else { operation.deadline };
    let deadline = operation.deadline.max(least);
    Operation { state: OperationState::Lost, deadline, attempts: 0, ..operation }.asked(Duration::ZERO)
}

fn answered(mut operation: Operation, status: StatusCode, body: &Map<String, Value>) -> Step {
    let is_delete = operation.kind == OperationKind::Delete;
    match status {
        StatusCode::ACCEPTED => {
            operation.state = OperationState::Accepted;
            operation.external = text(body, "operation").filter(|name| name.chars().count() <= LONGEST_NAME);
            Step::GoesOn(Box::new(operation))
        }
        // What the creation beside it comes to says more than that there was nothing yet, or something no longer.
        StatusCode::GONE if is_delete && operation.beside == Beside::Creation => Step::Leaves(Vec::new()),
        StatusCode::OK if is_delete => Step::Leaves(succeeded(&operation)),
        // It exists already: nothing has happened, and whatever was lost before has worked.
        StatusCode::OK | StatusCode::CONFLICT if operation.kind == OperationKind::Create => {
            Step::Leaves(vec![moved(&operation, MappingState::Live)])
        }
        StatusCode::OK | StatusCode::CREATED => Step::Leaves(succeeded(&operation)),
        StatusCode::GONE if is_delete => Step::Leaves(vec![moved(&operation, MappingState::Gone)]),
        // The spec's table of orphan mitigation: a 408 promises that nothing has happened, other failures do not.
        StatusCode::REQUEST_TIMEOUT => Step::Leaves(Vec::new()),
        status if status.is_client_error() => Step::Leaves(Vec::new()),
        _ => lost(operation),
    }
}

fn polled(
    mut operation: Operation,
    status: StatusCode,
    body: &Map<String, Value>,
    wait: Option<Duration>,
) -> Step {
    let said = text(body, "description").map(|text| text.chars().take(LONGEST_TEXT).collect());
    let is_delete = operation.kind == OperationKind::Delete;
    match (status, body.get("state").and_then(Value::as_str)) {
        (StatusCode::OK, Some("succeeded")) => {
            let changes = succeeded(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Succeeded, said)), changes)
        }
        (StatusCode::GONE, _) if is_delete => {
            let changes = succeeded(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Succeeded, said)), changes)
        }
        (StatusCode::OK, Some("failed")) if operation.is_cleaned_up_here() => {
            Step::GoesOn(Box::new(left(operation.ended(OperationState::Failed, said))))
        }
        (StatusCode::OK, Some("failed")) => {
            let changes = failed(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Failed, said)), changes)
        }
        (StatusCode::OK, Some("in progress")) => {
            let wait = wait.unwrap_or_default().min(LONGEST_WAIT);
            let is_news = said.is_some() && said != operation.description;
            let is_recent = Timestamp::now() < operation.asked_at.plus(SELDOM);
            if wait.is_zero() && is_recent && !is_news {
                return Step::Stays;
            }
            operation.state = OperationState::Accepted;
            operation.description = said.or(operation.description);
            Step::GoesOn(Box::new(operation.asked(wait)))
        }
        _ => Step::Stays,
    }
}

/// What a later answer means for an operation of which nobody knew what became. Of one that was lost only its success is news; of
/// one that counted as unknown its end, and the platform cleans up.
pub(super) fn corrected(operation: Operation, heard: Heard<'_>) -> Step {
    if !is_open_question(&operation) {
        return Step::Stays;
    }
    let was_lost = operation.state == OperationState::Lost;
    let (state, reconciled) = (OperationState::Accepted, Reconciled::ByPlatform);
    match step(Operation { state, reconciled, settled_at: None, ..operation }, heard) {
        Step::Settled(operation, changes) if !was_lost || operation.state == OperationState::Succeeded => {
            Step::Settled(operation, changes)
        }
        _ => Step::Stays,
    }
}

/// Whether nobody knows what became of an operation, and nobody has asked its broker yet to delete what it may have left: a
/// resource that is shown while a DELETE may be on its way proves nothing.
pub(super) fn is_open_question(operation: &Operation) -> bool {
    match operation.state {
        OperationState::Unknown => true,
        _ => is_lost_creation(operation) && operation.attempts == 0,
    }
}

/// Whether it is a creation of which nobody knows what became; of one that failed, its broker has told.
pub(super) fn is_lost_creation(operation: &Operation) -> bool {
    let is_lost = operation.state == OperationState::Lost && operation.settled_at.is_none();
    is_lost && operation.kind == OperationKind::Create
}

/// What the world looks like after an operation.
pub(super) fn succeeded(operation: &Operation) -> Vec<Change> {
    let resource = operation.resource.clone();
    let is_binding = resource.kind == BINDING;
    let (kind, change) = match operation.kind {
        OperationKind::Create => (
            if is_binding { event::BINDING_CREATED } else { event::INSTANCE_CREATED },
            moved(operation, MappingState::Live),
        ),
        // Without its plan nobody can say what the instance is now.
        OperationKind::Update if operation.plan_id.is_empty() => {
            return vec![moved(operation, MappingState::Live)];
        }
        OperationKind::Update => {
            let event = Change::Event(event_of(operation, event::INSTANCE_UPDATED, resource));
            return vec![moved(operation, MappingState::Live), of_plan(operation), event];
        }
        // Whether the creation beside it came first nobody knows.
        OperationKind::Delete if operation.beside == Beside::Creation => {
            (deleted(operation), moved(operation, MappingState::Maybe))
        }
        OperationKind::Delete => (deleted(operation), moved(operation, MappingState::Gone)),
    };
    vec![change, Change::Event(event_of(operation, kind, resource))]
}

/// The feed's word for the end of an operation's resource.
fn deleted(operation: &Operation) -> &'static str {
    if operation.resource.kind == BINDING { event::BINDING_DELETED } else { event::INSTANCE_DELETED }
}

/// An instance's mapping says of which plan it is now, as platforms know the ids.
fn of_plan(operation: &Operation) -> Change {
    let told = |key: &str, kind| Some(Hint::new(kind, operation.told.get(key)?.as_str()?));
    let hints = [told("service_id", SERVICE), told("plan_id", PLAN)].into_iter().flatten().collect();
    Change::Hint(operation.resource.clone(), operation.provider.clone(), hints)
}

pub(super) fn failed(operation: &Operation) -> Vec<Change> {
    match operation.kind {
        // The platform, or reconciling, deletes what may be left of it.
        OperationKind::Create => vec![moved(operation, MappingState::Maybe)],
        OperationKind::Update => Vec::new(),
        OperationKind::Delete => vec![moved(operation, MappingState::Live)],
    }
}

/// An operation whose end nobody has found out in time, or whose rest could not be deleted in time.
pub(super) fn given_up(operation: Operation, why: &str) -> Step {
    let changes = is_left(&operation).then(|| moved(&operation, MappingState::Maybe)).into_iter().collect();
    let ended = match operation.settled_at {
        Some(_) => operation.ended(OperationState::Failed, None),
        None => operation.ended(OperationState::Unknown, Some(why.to_owned())),
    };
    Step::Settled(Box::new(ended), changes)
}

/// Whether it is a creation of which something may be left.
pub(super) fn is_left(operation: &Operation) -> bool {
    let is_over = matches!(operation.state, OperationState::Lost | OperationState::Removing);
    is_over && operation.kind == OperationKind::Create
}

/// The operation's mapping in another state.
pub(super) fn moved(operation: &Operation, state: MappingState) -> Change {
    Change::Move(operation.resource.clone(), operation.provider.clone(), state)
}

/// That an operation's resource is gone, and the feed's word of it.
pub(super) fn gone(operation: &Operation) -> Vec<Change> {
    succeeded(&Operation { kind: OperationKind::Delete, ..operation.clone() })
}

fn event_of(operation: &Operation, kind: &'static str, resource: Resource) -> NewEvent {
    NewEvent::new(kind, &operation.told)
        .about(resource)
        .at(operation.provider.clone())
        .owned(operation.owner.clone(), operation.tenant.clone())
}

/// The feed's word of an operation that began to take its time, or came to an end.
pub(super) fn told(operation: &Operation) -> Change {
    let payload = serde_json::json!({
        "operation": operation.id.0,
        "kind": operation.kind,
        "state": operation.state,
        "description": operation.description,
        "started_at": operation.started_at,
        "settled_at": operation.settled_at,
    });
    let kind = if operation.settled_at.is_some() { "operation.settled" } else { "operation.started" };
    let event = NewEvent::new(kind, &payload).about(operation.resource.clone());
    Change::Event(
        event.at(operation.provider.clone()).owned(operation.owner.clone(), operation.tenant.clone()),
    )
}

/// What follows of an operation that goes on.
pub(super) fn under_way(before: &Operation, now: &Operation) -> Vec<Change> {
    if before.state == OperationState::Requested && now.state == OperationState::Accepted {
        let leaving = (now.kind == OperationKind::Delete).then(|| moved(now, MappingState::Deleting));
        return std::iter::once(told(now)).chain(leaving).collect();
    }
    if now.kind == OperationKind::Delete && now.state == OperationState::Accepted && before.state != now.state
    {
        return vec![moved(now, MappingState::Deleting)];
    }
    // What is to be deleted, whatever the broker makes of it, is not known to live.
    if before.state == OperationState::Accepted && now.settled_at.is_none() && is_left(now) {
        return vec![moved(now, MappingState::Maybe)];
    }
    if before.settled_at.is_none() && now.settled_at.is_some() {
        // To delete what it has left may take long; that it failed is known now.
        let failed = Operation { state: OperationState::Failed, ..now.clone() };
        return vec![moved(now, MappingState::Maybe), told(&failed)];
    }
    Vec::new()
}

pub(super) fn text(body: &Map<String, Value>, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Whether an operation is past the time in which its broker must have settled it.
pub(super) fn is_overdue(operation: &Operation, now: Timestamp) -> bool {
    now > operation.deadline
}
