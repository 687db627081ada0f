//! What nobody asks about: overdue operations come to an end, and, where the operator wants it, standpipe asks and cleans up
//! itself (spec, "Orphan Mitigation").

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use standpipe_api::{Answer, Background, Change, Provider, Result, Target, Timestamp, backoff};
use tokio::time::{sleep, timeout};

use super::operation::{ACTIVE, Operation, OperationKind, OperationState};
use super::step::{Step, is_overdue, step, succeeded};
use super::{Heard, Operations, object, read};
use crate::osb::question::{self, Asked};
use crate::osb::settings::ProviderSettings;

/// How often the open operations are looked through.
const EVERY: Duration = Duration::from_secs(2);
/// How many are read at once, and asked about at once.
const PAGE: usize = 200;
const AT_ONCE: usize = 16;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Waits between attempts to clean up.
const WAITS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// A request is on its way no longer than this.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// Looks after open operations until the end.
pub(in crate::osb) async fn reconcile(operations: Arc<Operations>, background: Rc<dyn Background>) {
    let began = Timestamp::now();
    loop {
        if let Err(error) = round(&operations, &*background, began).await {
            tracing::warn!(error = error.log_text(), "open operations cannot be looked through");
        }
        tokio::select! {
            () = background.stopped() => return,
            () = sleep(EVERY) => {}
        }
    }
}

pub(super) async fn round(
    operations: &Operations,
    background: &dyn Background,
    began: Timestamp,
) -> Result<()> {
    let providers = background.providers();
    let mut after = None;
    loop {
        let page = operations.state()?.list(ACTIVE, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        let open = futures_util::stream::iter(page.iter().filter_map(read));
        open.for_each_concurrent(AT_ONCE, |operation| async {
            let provider = providers.iter().find(|provider| provider.id == operation.provider);
            if let Err(error) = care(operations, background, provider, operation, began).await {
                tracing::warn!(error = error.log_text(), "an open operation cannot be settled now");
            }
        })
        .await;
    }
}

async fn care(
    operations: &Operations,
    background: &dyn Background,
    provider: Option<&Provider>,
    operation: Operation,
    began: Timestamp,
) -> Result<()> {
    let now = Timestamp::now();
    let settings = provider.map(ProviderSettings::of).unwrap_or_default();
    let sent_by_nobody_here = operation.started_at < began || now > operation.started_at.plus(LONGEST_CALL);
    if operation.state == OperationState::Requested && sent_by_nobody_here {
        return operations.heard(&operation, Heard::Lost).await;
    }
    if is_overdue(&operation, now) {
        return operations.settle(&operation, OperationState::Unknown, "nobody found out in time").await;
    }
    let Some(provider) = provider.filter(|_| settings.reconcile) else { return Ok(()) };
    let quiet = operation.asked_at.plus(settings.reconcile_after);
    if now < quiet || now < operation.ask_after {
        return Ok(());
    }
    match (operation.state, operation.kind) {
        (OperationState::Accepted, _) | (OperationState::Lost, OperationKind::Update) => {
            poll(operations, background, provider, &settings, operation).await
        }
        (OperationState::Lost, _) => clean_up(operations, background, provider, &settings, operation).await,
        _ => Ok(()),
    }
}

/// Asks a broker how an operation goes.
async fn poll(
    operations: &Operations,
    background: &dyn Background,
    provider: &Provider,
    settings: &ProviderSettings,
    operation: Operation,
) -> Result<()> {
    let asked = Asked {
        method: Method::GET,
        resource: &operation.resource,
        service_id: &operation.service_id,
        plan_id: &operation.plan_id,
    };
    let query = question::last_operation(&asked, operation.external.as_deref(), &settings.api_version);
    let Some(answer) = ask(background, provider, query).await else {
        return operations.rewrite(&operation.key(), again).await;
    };
    let body = object(answer.body());
    let heard = Heard::Polled(answer.status(), &body, retry_after(&answer));
    let status = answer.status();
    operations
        .rewrite(&operation.key(), |operation| gone_or(step(operation.clone(), heard), operation, status))
        .await
}

/// A broker that has nothing left of an operation's resource has settled it.
fn gone_or(step: Step, operation: Operation, status: StatusCode) -> Step {
    let is_absent = matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
    match (step, operation.kind) {
        (Step::Stays, OperationKind::Create) if is_absent => {
            let gone = vec![Change::Forget(operation.resource.clone())];
            let said = Some("the broker does not know it any more".to_owned());
            Step::Settled(Box::new(operation.ended(OperationState::Failed, said)), gone)
        }
        (Step::Stays, OperationKind::Delete) if is_absent => {
            let changes = succeeded(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Succeeded, None)), changes)
        }
        (Step::Stays, _) => again(operation),
        (step, _) => step,
    }
}

/// Deletes what may be left of a creation, or deletes again.
async fn clean_up(
    operations: &Operations,
    background: &dyn Background,
    provider: &Provider,
    settings: &ProviderSettings,
    operation: Operation,
) -> Result<()> {
    let asked = Asked {
        method: Method::DELETE,
        resource: &operation.resource,
        service_id: &operation.service_id,
        plan_id: &operation.plan_id,
    };
    let query = question::request(&asked, &settings.api_version);
    let Some(answer) = ask(background, provider, query).await else {
        return operations.rewrite(&operation.key(), again).await;
    };
    let (status, body) = (answer.status(), object(answer.body()));
    operations.rewrite(&operation.key(), |operation| cleaned_up(operation, status, &body)).await
}

fn cleaned_up(
    mut operation: Operation,
    status: StatusCode,
    body: &serde_json::Map<String, serde_json::Value>,
) -> Step {
    match status {
        StatusCode::OK | StatusCode::GONE if operation.kind == OperationKind::Create => {
            let gone = vec![Change::Forget(operation.resource.clone())];
            let said = Some("nobody knew what became of it, and it was deleted".to_owned());
            Step::Settled(Box::new(operation.ended(OperationState::Failed, said)), gone)
        }
        StatusCode::OK | StatusCode::GONE => {
            let changes = succeeded(&operation);
            Step::Settled(Box::new(operation.ended(OperationState::Succeeded, None)), changes)
        }
        StatusCode::ACCEPTED => {
            operation.kind = OperationKind::Delete;
            match step(operation, Heard::Answered(status, body)) {
                Step::GoesOn(operation) => Step::GoesOn(Box::new(operation.asked(Duration::ZERO))),
                other => other,
            }
        }
        _ => again(operation),
    }
}

/// Not now; the next attempt waits longer.
fn again(mut operation: Operation) -> Step {
    let wait = backoff(operation.attempts, WAITS);
    operation.attempts = operation.attempts.saturating_add(1);
    Step::GoesOn(Box::new(operation.asked(wait)))
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

fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}
