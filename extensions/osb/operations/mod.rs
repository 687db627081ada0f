//! Operations at brokers: rows from before a request leaves until it is settled, so that nothing is lost with this process and
//! nothing stays in progress for ever.
//!
//! `operation` is the row, `step` what an answer means for it. [`Operations`] writes it down, in one transaction with mappings
//! and the feed. Polls of platforms settle operations; what nobody asks about, `reconcile` does.

mod asking;
mod found_out;
mod lanes;
mod left_behind;
mod operation;
mod reconcile;
mod step;
mod superseded;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use standpipe_api::{Change, Error, Record, Resource, Result, State};

pub(super) use operation::{Beside, Made, Operation, OperationId, OperationKind, OperationState, Reconciled};
pub(super) use reconcile::reconcile;
pub(super) use step::Heard;
pub(super) use sweep::{Schedules, sweep};

use self::operation::{ACTIVE, group};
use self::step::{Step, given_up, step, told, under_way};

/// Unsettled operations of one resource that are looked at.
const MOST_AT_ONCE: usize = 64;
/// Attempts to write a row that somebody else writes too.
const ATTEMPTS: usize = 5;

/// The operations of all OSB providers.
#[derive(Default)]
pub(super) struct Operations {
    state: OnceLock<Arc<dyn State>>,
}

impl Operations {
    /// Gives it its records, once, when the extension starts.
    pub(super) fn open(&self, state: Arc<dyn State>) {
        // A second start does not happen, and would bring the same records.
        let _first = self.state.set(state);
    }

    fn state(&self) -> Result<&Arc<dyn State>> {
        self.state.get().ok_or_else(|| Error::internal("operations cannot be written down yet; try again"))
    }

    /// Writes an operation down before its request leaves. Durable on return.
    ///
    /// # Errors
    /// The store does not answer; nothing may be sent then.
    pub(super) async fn begin(&self, operation: &Operation) -> Result<()> {
        let put = Change::Put { key: operation.key(), value: operation.written(), expected: None };
        let written = self.state()?.commit(vec![put]).await?;
        written.map_err(|conflict| Error::internal(format!("{} is there twice", conflict.key)))?;
        // Looked at after it was written: so does whoever begins meanwhile, and cleaning looks again after it has begun, so that
        // one of the two sees the other.
        let others = self.of(&operation.resource).await?;
        self.note_overlap(operation, &others).await?;
        let cleaning =
            |other: &Operation| matches!(other.state, OperationState::Cleaning | OperationState::Removing);
        if operation.kind == OperationKind::Delete || !others.iter().any(cleaning) {
            return Ok(());
        }
        self.heard(operation, Heard::NotSent).await?;
        let text = "what an earlier creation may have left is being deleted; try again when that is done";
        Err(Error::busy(text))
    }

    /// Marks the deletions of a resource that are on their way while a creation of it is.
    async fn note_overlap(&self, begun: &Operation, others: &[Operation]) -> Result<()> {
        let is_there = |other: &&Operation| other.is_on_its_way() && other.provider == begun.provider;
        let on_their_way = |kind| others.iter().filter(is_there).filter(move |other| other.kind == kind);
        let overlapping: Vec<&Operation> = match begun.kind {
            OperationKind::Create => on_their_way(OperationKind::Delete).collect(),
            OperationKind::Delete if on_their_way(OperationKind::Create).next().is_some() => vec![begun],
            OperationKind::Delete | OperationKind::Update => Vec::new(),
        };
        for deletion in overlapping {
            let mark = |now| Step::GoesOn(Box::new(Operation { beside: Beside::Creation, ..now }));
            self.rewrite(&deletion.key(), mark).await?;
        }
        Ok(())
    }

    /// Writes down what was heard of an operation.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn heard(&self, operation: &Operation, heard: Heard<'_>) -> Result<()> {
        self.rewrite(&operation.key(), |operation| step(operation, heard)).await
    }

    /// Brings an operation to an end that nobody reported.
    ///
    /// # Errors
    /// The store does not answer.
    async fn give_up(&self, operation: &Operation, why: &str) -> Result<()> {
        self.rewrite(&operation.key(), |operation| given_up(operation, why)).await
    }

    /// The unsettled operations of a resource, in the order in which they began.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn of(&self, resource: &Resource) -> Result<Vec<Operation>> {
        Ok(self.rows(ACTIVE, resource).await?.iter().filter_map(read).collect())
    }

    async fn rows(&self, place: &str, resource: &Resource) -> Result<Vec<Record>> {
        self.state()?.list(&group(place, resource), None, MOST_AT_ONCE).await
    }

    /// Changes a row that is not settled, or is unknown; one that is settled meanwhile stays so.
    async fn rewrite(&self, key: &str, change: impl Fn(Operation) -> Step) -> Result<()> {
        let state = self.state()?;
        for _ in 0..ATTEMPTS {
            let Some(record) = state.get(key).await? else { return Ok(()) };
            let Some(before) = read(&record) else { return Ok(()) };
            let remove = Change::Remove { key: record.key.clone(), expected: record.revision };
            let changes = match change(before.clone()) {
                Step::Stays => return Ok(()),
                Step::GoesOn(operation) => {
                    let put = Change::Put {
                        key: record.key,
                        value: operation.written(),
                        expected: Some(record.revision),
                    };
                    let more = self.superseded(&operation, under_way(&before, &operation)).await?;
                    [put].into_iter().chain(more).collect()
                }
                Step::Leaves(more) => {
                    [remove].into_iter().chain(self.superseded(&before, more).await?).collect()
                }
                Step::Settled(operation, more) => {
                    let put = Change::Put {
                        key: operation.settled_key(),
                        value: operation.written(),
                        expected: None,
                    };
                    let more = self.superseded(&operation, more).await?;
                    let is_news = before.settled_at.is_none() || before.state == OperationState::Unknown;
                    let event = is_news.then(|| told(&operation));
                    [remove, put].into_iter().chain(event).chain(more).collect()
                }
            };
            if state.commit(changes).await?.is_ok() {
                return Ok(());
            }
        }
        Err(Error::internal("an operation is written by too many at once"))
    }
}

fn read(record: &Record) -> Option<Operation> {
    let read = serde_json::from_slice(&record.value);
    read.inspect_err(|error| tracing::error!(key = record.key, %error, "an operation cannot be read")).ok()
}
