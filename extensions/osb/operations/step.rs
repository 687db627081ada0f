//! What an answer means for an operation: no I/O, so that every row of the tables can be tried.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use standpipe_api::{Change, MappingState, NewEvent, Resource, Timestamp};

use super::operation::{Operation, OperationKind, OperationState, Reconciled};
use crate::osb::dialect::BINDING;
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
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What an answer means.
pub(super) fn step(operation: Operation, heard: Heard<'_>) -> Step {
    match heard {
        Heard::NotSent => Step::Leaves(Vec::new()),
        Heard::Lost => lost(operation),
        Heard::Answered(status, body) => answered(operation, status, body),
        Heard::Polled(status, body, wait) => polled(operation, status, body, wait),
    }
}

fn lost(mut operation: Operation) -> Step {
    operation.state = OperationState::Lost;
    Step::GoesOn(Box::new(operation))
}

fn answered(mut operation: Operation, status: StatusCode, body: &Map<String, Value>) -> Step {
    let is_delete = operation.kind == OperationKind::Delete;
    match status {
        StatusCode::ACCEPTED => {
            operation.state = OperationState::Accepted;
            operation.external = text(body, "operation");
            Step::GoesOn(Box::new(operation))
        }
        StatusCode::OK if is_delete => Step::Leaves(succeeded(&operation)),
        // The resource existed already, as it was asked for: nothing has happened.
        StatusCode::OK if operation.kind == OperationKind::Create => Step::Leaves(Vec::new()),
        StatusCode::OK | StatusCode::CREATED => Step::Leaves(succeeded(&operation)),
        StatusCode::GONE if is_delete => Step::Leaves(vec![Change::Forget(operation.resource)]),
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
    let said = text(body, "description");
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
        (StatusCode::OK, Some("failed"))
            if operation.kind == OperationKind::Create && operation.reconciled == Reconciled::Here =>
        {
            operation.description = said.or(operation.description);
            operation.state = OperationState::Lost;
            Step::GoesOn(Box::new(operation.asked(Duration::ZERO)))
        }
        (StatusCode::OK, Some("failed")) => {
            let changes = failed(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Failed, said)), changes)
        }
        (StatusCode::OK, Some("in progress")) => {
            operation.state = OperationState::Accepted;
            operation.description = said.or(operation.description);
            Step::GoesOn(Box::new(operation.asked(wait.unwrap_or_default().min(LONGEST_WAIT))))
        }
        _ => Step::Stays,
    }
}

/// What the world looks like after an operation.
pub(super) fn succeeded(operation: &Operation) -> Vec<Change> {
    let resource = operation.resource.clone();
    let is_binding = resource.kind == BINDING;
    let (kind, change) = match operation.kind {
        OperationKind::Create => (
            if is_binding { event::BINDING_CREATED } else { event::INSTANCE_CREATED },
            Change::Move(resource.clone(), MappingState::Live),
        ),
        OperationKind::Update => {
            (event::INSTANCE_UPDATED, Change::Move(resource.clone(), MappingState::Live))
        }
        OperationKind::Delete => (
            if is_binding { event::BINDING_DELETED } else { event::INSTANCE_DELETED },
            Change::Forget(resource.clone()),
        ),
    };
    vec![change, Change::Event(event_of(operation, kind, resource))]
}

fn failed(operation: &Operation) -> Vec<Change> {
    let resource = operation.resource.clone();
    match operation.kind {
        // The platform, or reconciling, deletes what may be left of it.
        OperationKind::Create => vec![Change::Move(resource, MappingState::Maybe)],
        OperationKind::Update => Vec::new(),
        OperationKind::Delete => vec![Change::Move(resource, MappingState::Live)],
    }
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

fn text(body: &Map<String, Value>, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Whether an operation is past the time in which its broker must have settled it.
pub(super) fn is_overdue(operation: &Operation, now: Timestamp) -> bool {
    now > operation.deadline
}
