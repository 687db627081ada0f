//! What nobody asks about: overdue operations come to an end, and, where the operator wants it, standpipe asks and cleans up
//! itself (`asking`), broker by broker (`lanes`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use standpipe_api::{Background, Error, Provider, ProviderId, Result, Timestamp};
use tokio::time::{Instant, sleep};

use super::asking::{clean_up, may_be_deleted, poll, set_down};
use super::lanes::{Due, Lanes, Turn};
use super::left_behind::{self, left_behind};
use super::operation::{ACTIVE, Beside, Operation, OperationKind, OperationState};
use super::step::{CLEANING, Step, is_left, is_overdue, left};
use super::{Heard, Operations, read};
use crate::osb::settings::ProviderSettings;

/// Why an operation comes to an end that nobody reported.
const TOO_LATE: &str = "nobody found out in time";
/// How often the open operations are looked through; rarer where that takes long, so that it never is most of what is done.
const EVERY: Duration = Duration::from_secs(2);
const REST: u32 = 4;
/// How many are read, and how many changed, at once.
const PAGE: usize = 200;
const AT_ONCE: usize = 16;
/// A request is on its way no longer than this.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// Looks after open operations until the end.
pub(in crate::osb) async fn reconcile(operations: Arc<Operations>, background: Rc<dyn Background>) {
    let reconciler = Rc::new(Reconciler::new(operations, background.handle(), Timestamp::now()));
    loop {
        let began = Instant::now();
        if let Err(error) = reconciler.round().await {
            tracing::warn!(error = error.log_text(), "open operations cannot be looked through");
        }
        tokio::select! {
            () = background.stopped() => return reconciler.lanes.close(),
            () = sleep(EVERY.max(began.elapsed().saturating_mul(REST))) => {}
        }
    }
}

/// Looks through the open operations, and asks about those that are due. A look waits for no broker.
pub(super) struct Reconciler {
    operations: Arc<Operations>,
    background: Rc<dyn Background>,
    began: Timestamp,
    lanes: Lanes,
}

impl Reconciler {
    /// What was on its way before `began` was sent by nobody here.
    pub(super) fn new(operations: Arc<Operations>, background: Rc<dyn Background>, began: Timestamp) -> Self {
        Self { operations, background, began, lanes: Lanes::default() }
    }

    /// Looks through them once.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn round(self: &Rc<Self>) -> Result<()> {
        let providers: BTreeMap<ProviderId, (Provider, ProviderSettings)> = self
            .background
            .with_left_out()
            .into_iter()
            .map(|provider| (provider.id.clone(), (provider.clone(), ProviderSettings::of(&provider))))
            .collect();
        let asked = providers.values().filter(|(_, settings)| settings.reconcile);
        let due = RefCell::new(Due::of(asked.map(|(provider, _)| provider.clone()).collect()));
        let mut after = None;
        loop {
            let page = self.operations.state()?.list(ACTIVE, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            let (providers, due) = (&providers, &due);
            let open = page.iter().filter_map(read).filter(|operation| !self.lanes.is_asked(operation));
            futures_util::stream::iter(open)
                .for_each_concurrent(AT_ONCE, |operation| async move {
                    let settings = providers.get(&operation.provider).map(|(_, settings)| settings);
                    match self.care(settings, &operation).await {
                        Ok(Asking::Now) => due.borrow_mut().add(&operation),
                        Ok(Asking::NotNow) => {}
                        Err(error) => unsettled(&error),
                    }
                })
                .await;
        }
        for turn in self.lanes.begin(due.into_inner()) {
            let this = self.clone();
            self.background.spawn(Box::pin(async move { this.ask_from(turn).await }));
        }
        left_behind::note(&self.operations, &*self.background).await
    }

    /// Asks about an operation and those whose turn it is behind it.
    async fn ask_from(&self, first: Turn) {
        let mut turn = Some(first);
        while let Some(now) = turn {
            if let Err(error) = self.ask_about(&now).await {
                unsettled(&error);
            }
            turn = self.lanes.next(&now);
        }
    }

    async fn ask_about(&self, turn: &Turn) -> Result<()> {
        // It may have changed since it was found.
        let record = self.operations.state()?.get(&turn.key).await?;
        let Some(operation) = record.as_ref().and_then(read) else { return Ok(()) };
        let settings = ProviderSettings::of(&turn.provider);
        if self.care(Some(&settings), &operation).await? == Asking::NotNow {
            return Ok(());
        }
        let (operations, background) = (&*self.operations, &*self.background);
        match operation.state {
            OperationState::Lost => {
                clean_up(operations, background, &turn.provider, &settings, operation).await
            }
            _ => poll(operations, background, &turn.provider, &settings, operation).await,
        }
    }

    /// Settles what can be settled without its broker, whose settings are `None` when it is no longer there.
    async fn care(&self, settings: Option<&ProviderSettings>, operation: &Operation) -> Result<Asking> {
        let operations = &self.operations;
        let now = Timestamp::now();
        let settings = settings.cloned().unwrap_or_default();
        let sent_by_nobody_here =
            operation.started_at < self.began || now > operation.started_at.plus(LONGEST_CALL);
        match operation.state {
            OperationState::Requested if sent_by_nobody_here => {
                self.interrupted(&settings, operation).await?;
                return Ok(Asking::NotNow);
            }
            OperationState::Requested => return Ok(Asking::NotNow),
            // What somebody here is at does not come here: nobody is at it any more.
            OperationState::Cleaning => {
                operations.rewrite(&operation.key(), set_down).await?;
                return Ok(Asking::NotNow);
            }
            // Nobody asks how it goes, and nobody is to be kept from the resource.
            OperationState::Removing if !settings.reconcile => {
                operations.rewrite(&operation.key(), set_down).await?;
                return Ok(Asking::NotNow);
            }
            _ => {}
        }
        let is_open = matches!(
            operation.state,
            OperationState::Accepted | OperationState::Removing | OperationState::Lost
        );
        let is_asked = settings.reconcile && is_open;
        if is_overdue(operation, now) {
            // Its broker may have been at its end all the time, and this process not there to hear it.
            if is_asked && operation.asked_at <= operation.deadline {
                return Ok(Asking::Now);
            }
            self.end(&settings, operation, now).await?;
            return Ok(Asking::NotNow);
        }
        let quiet = operation.asked_at.plus(settings.reconcile_after);
        let is_due = now >= quiet && now >= operation.ask_after;
        Ok(if is_due && is_asked { Asking::Now } else { Asking::NotNow })
    }

    /// What becomes of an operation whose request was on its way when its process ended. A deletion was asked for, and nobody was
    /// told what came of it.
    async fn interrupted(&self, settings: &ProviderSettings, operation: &Operation) -> Result<()> {
        let is_to_go = operation.kind == OperationKind::Delete && operation.beside == Beside::Nothing;
        if settings.reconcile && is_to_go {
            let deadline = operation.deadline.max(Timestamp::now().plus(CLEANING));
            let again = |now| Step::GoesOn(Box::new(Operation { deadline, ..left(now) }));
            return self.operations.rewrite(&operation.key(), again).await;
        }
        self.operations.heard(operation, Heard::Lost).await
    }

    /// Brings an operation to an end that is overdue, or gives it another term.
    async fn end(&self, settings: &ProviderSettings, operation: &Operation, now: Timestamp) -> Result<()> {
        let operations = &self.operations;
        let term = settings.maximum_polling_duration.max(CLEANING);
        // A broker that is at it for ever gets no third term (decision 51).
        let has_another = operation.deadline < operation.started_at.plus(term.saturating_mul(2));
        let is_under_way = operation.state == OperationState::Accepted && has_another;
        if settings.reconcile && is_under_way && may_be_deleted(operation) {
            let later = now.plus(term);
            let lost = |operation| Step::GoesOn(Box::new(Operation { deadline: later, ..left(operation) }));
            return operations.rewrite(&operation.key(), lost).await;
        }
        if settings.reconcile && is_left(operation) {
            tracing::warn!(provider = %operation.provider, resource = %operation.resource, "cleaning up is given up; something may be left");
            return operations.rewrite(&operation.key(), |operation| left_behind(operation, TOO_LATE)).await;
        }
        operations.give_up(operation, TOO_LATE).await
    }
}

/// Whether an operation's broker is to be asked about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    Now,
    NotNow,
}

fn unsettled(error: &Error) {
    tracing::warn!(error = error.log_text(), "an open operation cannot be settled now");
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use http::StatusCode;
    use serde_json::json;
    use standpipe_api::testing::{FakeBackground, json_answer, provider};
    use standpipe_api::{Change, Resource, Settings, State as _};

    use super::super::tests::operation;
    use super::*;
    use crate::osb::dialect::{INSTANCE, NAME};

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_never_ends_its_answers_holds_up_no_other_and_what_is_asked_of_it_is_left_alone() {
        let settings = ProviderSettings { reconcile: true, ..ProviderSettings::default() };
        let reconciled =
            |name| Provider { settings: Settings::new(settings.clone()), ..provider(name, NAME) };
        let background =
            FakeBackground::answering(vec![reconciled("alpha"), reconciled("beta")], |target, _| {
                let done = json_answer(StatusCode::OK, &json!({ "state": "succeeded" }));
                (target.provider == "beta".into()).then_some(Ok(done))
            });
        let (operations, memory) = (Arc::new(Operations::default()), background.memory());
        operations.open(background.state());
        let begin = async |at: &str, id: String, state| {
            let resource = Resource::new(INSTANCE, id);
            let deadline = Timestamp::now().plus(LONGEST_CALL);
            let row = Operation {
                provider: at.into(),
                resource,
                state,
                deadline,
                ..operation(OperationKind::Create)
            };
            let put = Change::Put { key: row.key(), value: row.written(), expected: None };
            memory.commit(vec![put]).await.unwrap().unwrap();
            row.resource
        };
        for number in 0..20 {
            begin("alpha", format!("accepted {number}"), OperationState::Accepted).await;
        }
        let lost = begin("alpha", "a lost one".into(), OperationState::Lost).await;
        // The last to be found.
        let others = begin("beta", "other".into(), OperationState::Accepted).await;

        let reconciler =
            Rc::new(Reconciler::new(operations.clone(), background.handle(), Timestamp::from_millis(0)));
        reconciler.round().await.unwrap();
        let stuck = join_all(background.spawned_work());
        let look = async {
            // Time stands still while there is something to do.
            while !operations.of(&others).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let cleaned = async || operations.of(&lost).await.unwrap()[0].state;
            assert_eq!(cleaned().await, OperationState::Cleaning);
            reconciler.round().await.unwrap();
            assert_eq!(cleaned().await, OperationState::Cleaning, "its DELETE is still on its way");
            assert!(background.spawned_work().is_empty(), "all places of that broker are taken");
        };
        tokio::select! {
            biased;
            _ = stuck => unreachable!("what was not answered came to an end"),
            () = look => {}
        }
    }
}
