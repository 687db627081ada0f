//! What becomes of other operations on a resource, and of an instance's bindings, when one of them shows that it is gone or lives.

use standpipe_api::{Change, Error, MappingState, ProviderId, Record, Resource, Result, Timestamp};

use super::operation::{ACTIVE, Beside, LEFT_BEHIND, Operation, OperationKind, OperationState, UNKNOWN};
use super::step::{is_lost_creation, moved, succeeded, told};
use super::{Operations, left_behind, read};
use crate::osb::dialect::{BINDING, INSTANCE};
use crate::osb::event::kind as event;
use crate::osb::tell;

/// Bindings of an instance that are read, and moved, at once.
pub(super) const BINDINGS_AT_ONCE: usize = 200;

/// What an operation shows of its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Gone,
    Lives,
}

impl Operations {
    /// With its deletion, whatever else is still open of a resource at its provider is over, but for creations that began after it:
    /// whether it lives is theirs to say. With proof that it lives, what was lost of its creation has worked, so that nobody deletes
    /// it; and with a creation the deletion that was under way before it is over.
    pub(super) async fn superseded(
        &self,
        operation: &Operation,
        mut changes: Vec<Change>,
    ) -> Result<Vec<Change>> {
        let Some(shown) = shown(operation, &changes) else { return Ok(changes) };
        let is_gone = shown == Shown::Gone;
        let is_created = changes.iter().any(tells_creation);
        let mut records = self.rows(ACTIVE, &operation.resource).await?;
        records.extend(self.rows(LEFT_BEHIND, &operation.resource).await?);
        if is_gone || is_created {
            // Of what is told here nothing is to be found out any more.
            records.extend(self.rows(UNKNOWN, &operation.resource).await?);
        }
        let younger = records.iter().filter_map(read).filter(|other| is_gone && other.outlives(operation));
        let younger = younger.map(|creation| creation.started_at).min();
        if younger.is_some() {
            changes.iter_mut().for_each(leave_open);
        }
        records.extend(self.beside(operation, shown).await?);
        let is_lost = |other: &Operation| is_lost_creation(other) && is_over(other, operation, shown);
        let lost = records.iter().filter_map(read).find(|other| !is_gone && is_lost(other));
        let mut ended = Vec::new();
        for creation in is_created.then_some(operation).into_iter().chain(&lost) {
            ended.extend(self.end_deletions(creation, &mut records).await?);
        }
        if is_gone && operation.resource.kind == INSTANCE {
            self.unbind(&operation.provider, &operation.resource, younger).await?;
        }
        // What is told here, or will be, is not told again.
        let mut told: Vec<Resource> =
            (is_created || is_creating(operation)).then(|| operation.resource.clone()).into_iter().collect();
        let mut before = Vec::new();
        for record in records {
            let Some(other) = read(&record).filter(|other| other.provider == operation.provider) else {
                continue;
            };
            let is_left_behind = record.key.starts_with(LEFT_BEHIND);
            let is_another = other.id != operation.id && !(is_gone && other.outlives(operation));
            let is_ended = is_left_behind || is_another && is_over(&other, operation, shown);
            if !is_ended {
                continue;
            }
            if !is_gone && is_lost_creation(&other) && !told.contains(&other.resource) {
                told.push(other.resource.clone());
                let lives = moved(&other, MappingState::Live);
                before.extend(worked(record, other).chain([lives]));
            } else if is_gone && other.state == OperationState::Accepted {
                before.extend(cut_short(record, other));
            } else {
                changes.push(Change::Remove { key: record.key, expected: record.revision });
            }
        }
        changes.splice(0..0, ended.into_iter().chain(before));
        Ok(changes)
    }

    /// The rows of other resources that an operation on this one is news of.
    async fn beside(&self, operation: &Operation, shown: Shown) -> Result<Vec<Record>> {
        if shown == Shown::Gone {
            let of_bindings = left_behind::of_bindings(&operation.resource);
            return match operation.resource.kind == INSTANCE {
                true => self.state()?.list(&of_bindings, None, BINDINGS_AT_ONCE).await,
                false => Ok(Vec::new()),
            };
        }
        let Some(instance) = &operation.resource.parent else { return Ok(Vec::new()) };
        // A binding is proof that its instance lives.
        let instance =
            Resource { scope: operation.resource.scope.clone(), ..Resource::new(INSTANCE, instance.clone()) };
        let mut records = self.rows(ACTIVE, &instance).await?;
        records.extend(self.rows(LEFT_BEHIND, &instance).await?);
        Ok(records)
    }

    /// What was created anew had been deleted before: the feed hears of that first, and what is heard of the deletion later says
    /// nothing about what is there now.
    async fn end_deletions(&self, creation: &Operation, records: &mut Vec<Record>) -> Result<Vec<Change>> {
        let ended = records.extract_if(.., |record| {
            read(record).is_some_and(|other| {
                let is_under_way = other.state == OperationState::Accepted;
                is_under_way && other.beside == Beside::Nothing && creation.outlives(&other)
            })
        });
        let mut before = Vec::new();
        for record in ended {
            let Some(deletion) = read(&record) else { continue };
            before.extend(worked(record, deletion));
        }
        if !before.is_empty() && creation.resource.kind == INSTANCE {
            self.unbind(&creation.provider, &creation.resource, Some(creation.started_at)).await?;
        }
        Ok(before)
    }

    /// With an instance go its bindings, of one that was created anew those that were there `before`. They go first: if this breaks
    /// off, so does the instance's end, and it is tried again.
    async fn unbind(
        &self,
        provider: &ProviderId,
        instance: &Resource,
        before: Option<Timestamp>,
    ) -> Result<()> {
        let state = self.state()?;
        let mut after = None;
        loop {
            let page = state.within(&BINDING, &instance.id, after.as_ref(), BINDINGS_AT_ONCE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.resource.clone());
            let of_it = page.into_iter().filter(|binding| {
                let is_its = binding.provider == *provider && binding.resource.scope == instance.scope;
                let was_there = before.is_none_or(|before| binding.created_at < before);
                is_its && was_there && binding.state != MappingState::Gone
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

fn shown(operation: &Operation, changes: &[Change]) -> Option<Shown> {
    let moved_to =
        |wanted| move |change: &Change| matches!(change, Change::Move(_, _, state) if *state == wanted);
    if changes.iter().any(moved_to(MappingState::Gone)) {
        return Some(Shown::Gone);
    }
    let accepted = operation.state == OperationState::Accepted && operation.kind != OperationKind::Delete;
    (accepted || changes.iter().any(moved_to(MappingState::Live))).then_some(Shown::Lives)
}

/// The end of an operation that another one shows to have worked, and what the feed says of it.
fn worked(record: Record, operation: Operation) -> impl Iterator<Item = Change> {
    let done = operation.ended(OperationState::Succeeded, None);
    let events = succeeded(&done).into_iter().filter(|change| matches!(change, Change::Event(_)));
    end(record, &done).into_iter().chain(events)
}

/// The end of an operation that was under way when what it is about went: whoever follows the feed heard that it began.
fn cut_short(record: Record, operation: Operation) -> [Change; 3] {
    let done = match operation.kind {
        OperationKind::Delete => operation.ended(OperationState::Succeeded, None),
        _ => operation.ended(OperationState::Failed, Some("what it was about was deleted".to_owned())),
    };
    end(record, &done)
}

fn end(record: Record, done: &Operation) -> [Change; 3] {
    let remove = Change::Remove { key: record.key, expected: record.revision };
    let put = Change::Put { key: done.settled_key(), value: done.written(), expected: None };
    [remove, put, told(done)]
}

/// Whether another operation is over with what one has shown. What began before it says nothing of what it left.
fn is_over(other: &Operation, operation: &Operation, shown: Shown) -> bool {
    let is_lost = matches!(other.state, OperationState::Lost | OperationState::Unknown);
    match shown {
        Shown::Gone => other.resource == operation.resource,
        Shown::Lives => is_lost && other.started_at <= operation.started_at,
    }
}

/// What would be gone may live by a creation that is not settled.
fn leave_open(change: &mut Change) {
    if let Change::Move(_, _, state @ MappingState::Gone) = change {
        *state = MappingState::Maybe;
    }
}

fn is_creating(operation: &Operation) -> bool {
    operation.kind == OperationKind::Create && operation.state == OperationState::Accepted
}

fn tells_creation(change: &Change) -> bool {
    let Change::Event(told) = change else { return false };
    [event::INSTANCE_CREATED, event::BINDING_CREATED].contains(&told.kind())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::{Map, Value, json};
    use standpipe_api::State as _;
    use standpipe_api::testing::MemoryState;

    use super::super::tests::{kinds, mapped, opened, operation};
    use super::super::{Heard, Made, OperationId};
    use super::*;

    const ACCEPTED: StatusCode = StatusCode::ACCEPTED;

    fn said(word: &str) -> Map<String, Value> {
        json!({ "state": "succeeded", "operation": word }).as_object().cloned().unwrap()
    }

    /// An operation that begins some milliseconds after the others, and is answered.
    async fn begun(operations: &Operations, kind: OperationKind, after: i64, answer: (StatusCode, &str)) {
        let started_at = Timestamp::from_millis(1_000_000 + after);
        let id = OperationId(answer.1.to_owned());
        let row = Operation { id, started_at, ..operation(kind) };
        operations.begin(&row).await.unwrap();
        operations.heard(&row, Heard::Answered(answer.0, &said(answer.1))).await.unwrap();
    }

    async fn polled(operations: &Operations, named: &str) {
        let (provider, resource) = ("alpha".into(), operation(OperationKind::Delete).resource);
        let heard = Heard::Polled(StatusCode::OK, &said(named), None);
        operations.polled((&provider, &resource), Some(named), heard).await.unwrap();
    }

    /// With an instance that is being deleted.
    async fn deleting() -> (Arc<Operations>, Arc<MemoryState>) {
        let (operations, memory) = opened().await;
        begun(&operations, OperationKind::Delete, 0, (ACCEPTED, "d1")).await;
        assert_eq!(mapped(&memory), Some(MappingState::Deleting));
        (operations, memory)
    }

    #[tokio::test]
    async fn what_was_under_way_when_its_resource_went_is_settled() {
        for kind in [OperationKind::Create, OperationKind::Update, OperationKind::Delete] {
            let (operations, memory) = opened().await;
            begun(&operations, kind, 0, (ACCEPTED, "o1")).await;
            begun(&operations, OperationKind::Delete, 1, (StatusCode::OK, "d2")).await;
            assert_eq!(
                kinds(&memory),
                ["operation.started", "operation.settled", "instance.deleted"],
                "{kind:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_was_created_after_a_deletion_began_is_not_buried_by_its_end() {
        let (operations, memory) = deleting().await;
        begun(&operations, OperationKind::Create, 1, (StatusCode::CREATED, "c1")).await;
        polled(&operations, "d1").await;
        assert_eq!(mapped(&memory), Some(MappingState::Live));
        let told = ["operation.started", "operation.settled", "instance.deleted", "instance.created"];
        assert_eq!(kinds(&memory), told);

        for ends_first in ["d1", "c1"] {
            let (operations, memory) = deleting().await;
            begun(&operations, OperationKind::Create, 1, (ACCEPTED, "c1")).await;
            polled(&operations, ends_first).await;
            let expected = if ends_first == "d1" { MappingState::Maybe } else { MappingState::Live };
            assert_eq!(mapped(&memory), Some(expected), "{ends_first} ends first");
            polled(&operations, if ends_first == "d1" { "c1" } else { "d1" }).await;
            assert_eq!(mapped(&memory), Some(MappingState::Live));
            let told = kinds(&memory);
            let about = told.iter().filter(|kind| kind.starts_with("instance.")).collect::<Vec<_>>();
            assert_eq!(about, ["instance.deleted", "instance.created"], "{ends_first} ends first");
            assert_eq!(told.iter().filter(|kind| *kind == "operation.settled").count(), 2);
            assert!(memory.list(ACTIVE, None, 1).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_deletion_that_began_after_a_creation_counts() {
        let (operations, memory) = opened().await;
        begun(&operations, OperationKind::Create, 0, (ACCEPTED, "c1")).await;
        begun(&operations, OperationKind::Delete, 1, (ACCEPTED, "d1")).await;
        polled(&operations, "c1").await;
        polled(&operations, "d1").await;
        assert_eq!(mapped(&memory), None);
        assert_eq!(kinds(&memory).last().map(String::as_str), Some("instance.deleted"));
    }

    #[tokio::test]
    async fn the_end_of_a_deletion_beside_a_creation_leaves_open_which_came_first() {
        let (operations, memory) = opened().await;
        let [create, delete] = [OperationKind::Create, OperationKind::Delete].map(operation);
        for row in [&create, &delete] {
            operations.begin(row).await.unwrap();
        }
        operations.heard(&delete, Heard::Answered(ACCEPTED, &said("d1"))).await.unwrap();
        operations.heard(&create, Heard::Answered(StatusCode::CREATED, &Map::new())).await.unwrap();
        polled(&operations, "d1").await;
        assert_eq!(mapped(&memory), Some(MappingState::Maybe));
    }

    #[tokio::test]
    async fn bindings_of_what_was_deleted_go_and_those_of_what_was_created_anew_stay() {
        let (operations, memory) = deleting().await;
        let bound = [("old", 0), ("new", 9)].map(|(id, after)| {
            let resource = Resource::new(BINDING, id).within("i");
            let at = Timestamp::from_millis(1_000_000 + after);
            Change::Learn(standpipe_api::Mapping::learned(resource, "alpha".into(), at))
        });
        memory.commit(bound.to_vec()).await.unwrap().unwrap();
        begun(&operations, OperationKind::Create, 5, (StatusCode::CREATED, "c1")).await;
        polled(&operations, "d1").await;
        let left = memory.mappings().into_iter().map(|row| row.resource.id.to_string());
        assert_eq!(left.collect::<Vec<_>>(), ["new", "i"]);
    }

    /// With a creation that was lost, of an instance that may be there.
    async fn lost() -> (Arc<Operations>, Arc<MemoryState>) {
        let (operations, memory) = opened().await;
        for id in ["first", "second"] {
            let row = Operation { id: OperationId(id.into()), ..operation(OperationKind::Create) };
            let row = Operation { state: OperationState::Lost, ..row };
            let put = Change::Put { key: row.key(), value: row.written(), expected: None };
            let maybe = Change::Move(row.resource, row.provider, MappingState::Maybe);
            memory.commit(vec![put, maybe]).await.unwrap().unwrap();
        }
        (operations, memory)
    }

    #[tokio::test]
    async fn a_creation_that_was_lost_is_told_when_its_repetition_or_a_change_shows_that_it_lives() {
        let worked = ["operation.settled", "instance.created"];
        for (kind, status, more) in [
            (OperationKind::Create, 200, &[][..]),
            (OperationKind::Create, 409, &[]),
            (OperationKind::Update, 200, &["instance.updated"]),
        ] {
            let (operations, memory) = lost().await;
            for id in ["one", "two"] {
                let row = Operation { id: OperationId(id.into()), made: Made::Earlier, ..operation(kind) };
                operations.begin(&row).await.unwrap();
                let status = StatusCode::from_u16(status).unwrap();
                operations.heard(&row, Heard::Answered(status, &Map::new())).await.unwrap();
                let told = if id == "one" { [&worked, more].concat() } else { more.to_vec() };
                let before = if id == "one" { 0 } else { worked.len() + more.len() };
                assert_eq!(kinds(&memory)[before..], told, "{kind:?} {status} {id}");
            }
            assert_eq!(mapped(&memory), Some(MappingState::Live));
            assert_eq!(memory.events()[0].payload["state"], "succeeded");
            assert!(memory.list(ACTIVE, None, 1).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_creation_that_was_lost_is_not_told_beside_one_that_tells_itself() {
        for (status, after) in [(201, 0), (202, 1)] {
            let (operations, memory) = lost().await;
            let row = Operation { made: Made::Earlier, ..operation(OperationKind::Create) };
            operations.begin(&row).await.unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            operations.heard(&row, Heard::Answered(status, &said("c1"))).await.unwrap();
            polled(&operations, "c1").await;
            let told = kinds(&memory);
            let created = told.iter().filter(|kind| *kind == "instance.created").count();
            let settled = told.iter().filter(|kind| *kind == "operation.settled").count();
            assert_eq!((created, settled), (1, after), "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_binding_tells_of_the_creation_of_its_instance_that_was_lost() {
        let (operations, memory) = lost().await;
        let resource = Resource::new(BINDING, "b").within("i");
        let row = Operation { resource, ..operation(OperationKind::Create) };
        operations.begin(&row).await.unwrap();
        operations.heard(&row, Heard::Answered(StatusCode::CREATED, &Map::new())).await.unwrap();
        assert_eq!(kinds(&memory), ["operation.settled", "instance.created", "binding.created"]);
        assert_eq!(memory.events()[1].subject.as_ref().map(|about| about.id.as_str()), Some("i"));
        assert_eq!(mapped(&memory), Some(MappingState::Live));
    }
}
