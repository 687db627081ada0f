//! What standpipe itself asks of brokers: how an operation goes, and that what one has left be deleted (spec, "Orphan
//! Mitigation").

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{Answer, Background, Provider, Result, Target, backoff};
use tokio::time::timeout;

use super::operation::{Beside, Made, Operation, OperationKind, OperationState};
use super::step::{LONGEST_WAIT, Step, failed, gone, left, step, succeeded, text};
use super::{Heard, Operations};
use crate::osb::question::{self, Asked};
use crate::osb::settings::ProviderSettings;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits between attempts to clean up.
const WAITS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// Asks a broker how an operation goes.
pub(super) async fn poll(
    operations: &Operations,
    background: &dyn Background,
    provider: &Provider,
    settings: &ProviderSettings,
    operation: Operation,
) -> Result<()> {
    let query = question::last_operation(
        &asked(Method::GET, &operation),
        operation.external.as_deref(),
        &settings.api_version,
    );
    let Some(answer) = ask(background, provider, query).await else {
        return operations.rewrite(&operation.key(), again).await;
    };
    let body = question::said(answer.headers(), answer.body(), &provider.id);
    let (status, wait) = (answer.status(), question::retry_after(answer.headers()));
    let heard = |operation: Operation| match operation.state {
        OperationState::Removing => removing(operation, status, &body, wait),
        _ => match step(operation.clone(), Heard::Polled(status, &body, wait)) {
            Step::Stays => no_news(operation, status, &body),
            step => step,
        },
    };
    operations.rewrite(&operation.key(), heard).await
}

/// What it means that a broker had nothing to say. One that is at it is asked again in its time; one that says it knows nothing of
/// an operation may be one that is just not there: only the answer to a DELETE settles what became of the resource.
fn no_news(operation: Operation, status: StatusCode, body: &Map<String, Value>) -> Step {
    match (status, text(body, "state").as_deref()) {
        (StatusCode::OK, Some("in progress")) => Step::GoesOn(Box::new(operation.asked(Duration::ZERO))),
        (StatusCode::NOT_FOUND | StatusCode::GONE, _) if may_be_deleted(&operation) => {
            Step::GoesOn(Box::new(left(operation)))
        }
        _ => again(operation),
    }
}

/// Whether its resource is there because of it, or is to go because of it.
pub(super) fn may_be_deleted(operation: &Operation) -> bool {
    match operation.kind {
        OperationKind::Create => operation.made == Made::Here,
        OperationKind::Update => false,
        OperationKind::Delete => true,
    }
}

/// Deletes what may be left of a creation, or deletes again.
pub(super) async fn clean_up(
    operations: &Operations,
    background: &dyn Background,
    provider: &Provider,
    settings: &ProviderSettings,
    operation: Operation,
) -> Result<()> {
    let query = question::request(&asked(Method::DELETE, &operation), &settings.api_version);
    if !fenced(operations, &operation).await? {
        return Ok(());
    }
    let Some(answer) = ask(background, provider, query).await else {
        return operations.rewrite(&operation.key(), again).await;
    };
    let body = question::said(answer.headers(), answer.body(), &provider.id);
    let status = answer.status();
    operations.rewrite(&operation.key(), |operation| cleaned_up(operation, status, &body)).await
}

/// Keeps calls of the platform off the resource while what may be left of it is deleted; `false`: the platform is at it.
async fn fenced(operations: &Operations, operation: &Operation) -> Result<bool> {
    let others = async || -> Result<bool> {
        let known = operations.of(&operation.resource).await?;
        Ok(known.iter().any(|other| other.id != operation.id && other.state != OperationState::Lost))
    };
    if others().await? {
        operations.rewrite(&operation.key(), wait_anew).await?;
        return Ok(false);
    }
    let clean = |now: Operation| match now.state {
        OperationState::Lost => {
            let now = now.asked(Duration::ZERO);
            Step::GoesOn(Box::new(Operation { state: OperationState::Cleaning, ..now }))
        }
        _ => Step::Stays,
    };
    operations.rewrite(&operation.key(), clean).await?;
    let known = operations.of(&operation.resource).await?;
    let is_mine = |other: &Operation| other.id == operation.id && other.state == OperationState::Cleaning;
    if !known.iter().any(is_mine) {
        return Ok(false);
    }
    if others().await? {
        operations.rewrite(&operation.key(), wait_anew).await?;
        return Ok(false);
    }
    Ok(true)
}

/// Nothing was sent, so that this was no attempt; those that have waited longer come first.
fn wait_anew(operation: Operation) -> Step {
    match operation.state {
        OperationState::Lost | OperationState::Cleaning => {
            let state = OperationState::Lost;
            Step::GoesOn(Box::new(Operation { state, ..operation.asked(Duration::ZERO) }))
        }
        _ => Step::Stays,
    }
}

/// What the answer to a DELETE means that cleans up after an operation.
pub(super) fn cleaned_up(operation: Operation, status: StatusCode, body: &Map<String, Value>) -> Step {
    // Nothing was beside this one.
    let operation = Operation { beside: Beside::Nothing, ..operation };
    match status {
        StatusCode::OK | StatusCode::GONE if operation.kind == OperationKind::Create => removed(operation),
        StatusCode::OK | StatusCode::GONE => {
            let changes = succeeded(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Succeeded, None)), changes)
        }
        StatusCode::ACCEPTED => match step(operation, Heard::Answered(status, body)) {
            Step::GoesOn(mut operation) => {
                if operation.kind == OperationKind::Create {
                    operation.state = OperationState::Removing;
                }
                Step::GoesOn(Box::new(operation.asked(Duration::ZERO)))
            }
            other => other,
        },
        // The broker will not, and a platform that asked would have been told so; it may be asked later for something else.
        refused if operation.kind == OperationKind::Delete && is_final(refused) => {
            let changes = failed(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Failed, None)), changes)
        }
        _ => again(operation),
    }
}

/// Whether a refusal stands, whoever asks again: not for being late, busy or not there just now.
fn is_final(status: StatusCode) -> bool {
    let passing = [
        StatusCode::NOT_FOUND,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::UNPROCESSABLE_ENTITY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !passing.contains(&status)
}

/// What a broker says of the deletion of what a creation may have left.
pub(super) fn removing(
    operation: Operation,
    status: StatusCode,
    body: &Map<String, Value>,
    wait: Option<Duration>,
) -> Step {
    match (status, text(body, "state").as_deref()) {
        (StatusCode::OK, Some("succeeded")) | (StatusCode::GONE, _) => removed(operation),
        (StatusCode::OK, Some("in progress")) => {
            let wait = wait.unwrap_or_default().min(LONGEST_WAIT);
            Step::GoesOn(Box::new(operation.asked(wait)))
        }
        (StatusCode::OK, Some("failed")) | (StatusCode::NOT_FOUND, _) => set_down(operation),
        _ => again(operation),
    }
}

/// Nothing is left of a creation.
fn removed(operation: Operation) -> Step {
    let changes = gone(&operation);
    let said = "nobody knew what became of it, and it was deleted".to_owned();
    let said = operation.settled_at.is_none().then_some(said);
    Step::Settled(Box::new(operation.ended(OperationState::Failed, said)), changes)
}

/// Not now; the next attempt waits longer.
fn again(mut operation: Operation) -> Step {
    let wait = backoff(operation.attempts, WAITS);
    operation.attempts = operation.attempts.saturating_add(1);
    if operation.state == OperationState::Cleaning {
        operation.state = OperationState::Lost;
    }
    Step::GoesOn(Box::new(operation.asked(wait)))
}

/// The same; nobody is kept from the resource until then.
pub(super) fn set_down(operation: Operation) -> Step {
    match operation.state {
        OperationState::Cleaning | OperationState::Removing => {
            again(Operation { state: OperationState::Lost, ..operation })
        }
        _ => Step::Stays,
    }
}

fn asked(method: Method, operation: &Operation) -> Asked<'_> {
    let Operation { resource, service_id, plan_id, .. } = operation;
    Asked { method, resource, service_id, plan_id }
}

async fn ask(
    background: &dyn Background,
    provider: &Provider,
    query: Option<standpipe_api::Query>,
) -> Option<Answer> {
    let target = Target::from(provider);
    match timeout(PATIENCE, background.query(&target, query?)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(provider = %provider.id, error = error.log_text(), "no answer about an operation");
            None
        }
        Err(_) => None,
    }
}
