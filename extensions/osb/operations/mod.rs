//! Operations at brokers: rows from before a request leaves until it is settled, so that nothing is lost with this process and
//! nothing stays in progress for ever.
//!
//! `operation` is the row, `step` what an answer means for it. [`Operations`] writes it down, in one transaction with mappings
//! and the feed. Polls of platforms settle operations; what nobody asks about, `reconcile` does.

mod asking;
mod lanes;
mod left_behind;
mod operation;
mod reconcile;
mod step;
mod sweep;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use serde_json::{Map, Value};
use standpipe_api::{Change, Error, MappingState, ProviderId, Record, Resource, Result, State};

pub(super) use operation::{Beside, Made, Operation, OperationId, OperationKind, OperationState, Reconciled};
pub(super) use reconcile::reconcile;
pub(super) use step::Heard;
pub(super) use sweep::{Schedules, sweep};

use self::operation::{ACTIVE, LEFT_BEHIND, UNKNOWN, group};
use self::step::{Step, corrected, given_up, step, told, under_way};
use super::dialect::{BINDING, INSTANCE};
use super::event::kind as event;
use super::tell;

/// Unsettled operations of one resource that are looked at.
const MOST_AT_ONCE: usize = 64;
/// Bindings of an instance that are read, and moved, at once.
const BINDINGS_AT_ONCE: usize = 200;
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

    /// Writes down what a broker said of one of a resource's operations when it was asked how it goes.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn polled(
        &self,
        (provider, resource): (&ProviderId, &Resource),
        external: Option<&str>,
        heard: Heard<'_>,
    ) -> Result<()> {
        let mut known = self.of(resource).await?;
        known.retain(|operation| {
            operation.provider == *provider && operation.state == OperationState::Accepted
        });
        match known.iter().rev().find(|operation| is_meant(operation, external)) {
            Some(operation) => self.heard(operation, heard).await,
            None => self.correct((provider, resource), heard, |other| is_meant(other, external)).await,
        }
    }

    /// Writes down that a broker has shown a resource: a creation of which nobody knew what became has worked.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn shown(&self, at: (&ProviderId, &Resource)) -> Result<()> {
        let lives = [("state".to_owned(), "succeeded".into())].into_iter().collect();
        let heard = Heard::Polled(StatusCode::OK, &lives, None);
        self.correct(at, heard, |other| other.kind == OperationKind::Create).await
    }

    /// Corrects the last operation that counts as unknown and is the one heard of, unless another is under way.
    async fn correct(
        &self,
        (provider, resource): (&ProviderId, &Resource),
        heard: Heard<'_>,
        is_it: impl Fn(&Operation) -> bool,
    ) -> Result<()> {
        let unknown = self.rows(UNKNOWN, resource).await?;
        let mut unknown = unknown.iter().rev().filter_map(read);
        let found = unknown.find(|other| other.provider == *provider && is_it(other));
        let Some(operation) = found else { return Ok(()) };
        if !self.of(resource).await?.is_empty() {
            return Ok(());
        }
        self.rewrite(&operation.settled_key(), |operation| corrected(operation, heard)).await
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

    /// With its deletion, whatever else is still open of a resource at its provider is over; with proof that it lives, so is what
    /// was lost of its creation, so that nobody deletes it.
    async fn superseded(&self, operation: &Operation, mut changes: Vec<Change>) -> Result<Vec<Change>> {
        let moved_to =
            |wanted| move |change: &Change| matches!(change, Change::Move(_, _, state) if *state == wanted);
        let is_gone = changes.iter().any(moved_to(MappingState::Gone));
        let accepted = operation.state == OperationState::Accepted && operation.kind != OperationKind::Delete;
        let lives = accepted || changes.iter().any(moved_to(MappingState::Live));
        if !is_gone && !lives {
            return Ok(changes);
        }
        let mut records = self.rows(ACTIVE, &operation.resource).await?;
        records.extend(self.rows(LEFT_BEHIND, &operation.resource).await?);
        if is_gone && operation.resource.kind == INSTANCE {
            self.unbind(&operation.provider, &operation.resource).await?;
            let of_bindings = left_behind::of_bindings(&operation.resource);
            records.extend(self.state()?.list(&of_bindings, None, BINDINGS_AT_ONCE).await?);
        }
        if let (true, Some(instance)) = (lives, &operation.resource.parent) {
            // A binding is proof that its instance lives.
            let instance = Resource {
                scope: operation.resource.scope.clone(),
                ..Resource::new(INSTANCE, instance.clone())
            };
            records.extend(self.rows(ACTIVE, &instance).await?);
            records.extend(self.rows(LEFT_BEHIND, &instance).await?);
        }
        if is_gone || changes.iter().any(tells_creation) {
            // Of what is told here nothing is to be found out any more.
            records.extend(self.rows(UNKNOWN, &operation.resource).await?);
        }
        for record in records {
            let Some(other) = read(&record).filter(|other| other.provider == operation.provider) else {
                continue;
            };
            let is_left_behind = record.key.starts_with(LEFT_BEHIND);
            let is_over = if is_gone {
                other.resource == operation.resource
            } else {
                matches!(other.state, OperationState::Lost | OperationState::Unknown)
            };
            if is_left_behind || is_over && other.id != operation.id {
                changes.push(Change::Remove { key: record.key, expected: record.revision });
            }
        }
        Ok(changes)
    }

    /// With an instance go its bindings. They go first: if this breaks off, so does the instance's end, and it is tried again.
    async fn unbind(&self, provider: &ProviderId, instance: &Resource) -> Result<()> {
        let state = self.state()?;
        let mut after = None;
        loop {
            let page = state.within(&BINDING, &instance.id, after.as_ref(), BINDINGS_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.resource.clone());
            let of_it = page.into_iter().filter(|binding| {
                let is_its = binding.provider == *provider && binding.resource.scope == instance.scope;
                is_its && binding.state != MappingState::Gone
            });
            let changes: Vec<Change> = of_it
                .flat_map(|binding| {
                    let told = tell::unbound(&binding);
                    [
                        Change::Move(binding.resource, binding.provider, MappingState::Gone),
                        Change::Event(told),
                    ]
                })
                .collect();
            if !changes.is_empty() {
                let written = state.commit(changes).await?;
                written.map_err(|conflict| Error::internal(format!("{} is no record here", conflict.key)))?;
            }
        }
    }
}

fn tells_creation(change: &Change) -> bool {
    let Change::Event(told) = change else { return false };
    [event::INSTANCE_CREATED, event::BINDING_CREATED].contains(&told.kind())
}

/// Whether a poll is about an operation: it names it, or it names none, or the broker gave no name. One public checker says what
/// kind of operation it means, whatever the broker called it.
fn is_meant(operation: &Operation, external: Option<&str>) -> bool {
    let Some(named) = external.filter(|named| !named.is_empty()) else { return true };
    let word = match operation.kind {
        OperationKind::Create => "provision",
        OperationKind::Update => "update",
        OperationKind::Delete => "deprovision",
    };
    operation.external.as_deref().is_none_or(|own| own == named || named == word)
}

fn read(record: &Record) -> Option<Operation> {
    let read = serde_json::from_slice(&record.value);
    read.inspect_err(|error| tracing::error!(key = record.key, %error, "an operation cannot be read")).ok()
}

/// A body as far as it is a JSON object.
pub(super) fn object(body: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(body).unwrap_or_default()
}
