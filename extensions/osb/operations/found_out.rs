//! What platforms' polls and fetches tell of operations: how they go, and what became of those of which nobody knew.

use http::StatusCode;
use standpipe_api::{ProviderId, Resource, Result};

use super::operation::{Operation, OperationKind, OperationState, UNKNOWN};
use super::step::{corrected, is_open_question};
use super::{Heard, Operations, read};

impl Operations {
    /// Writes down what a broker said of one of a resource's operations when it was asked how it goes.
    ///
    /// # Errors
    /// The store does not answer.
    pub(in crate::osb) async fn polled(
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
    pub(in crate::osb) async fn shown(&self, at: (&ProviderId, &Resource)) -> Result<()> {
        let lives = [("state".to_owned(), "succeeded".into())].into_iter().collect();
        let heard = Heard::Polled(StatusCode::OK, &lives, None);
        self.correct(at, heard, |other| other.kind == OperationKind::Create).await
    }

    /// Corrects the last operation that was lost or counts as unknown and is the one heard of, unless another is under way or what
    /// may be left is being deleted.
    async fn correct(
        &self,
        (provider, resource): (&ProviderId, &Resource),
        heard: Heard<'_>,
        is_it: impl Fn(&Operation) -> bool,
    ) -> Result<()> {
        let lost = self.of(resource).await?;
        if !lost.iter().all(is_open_question) {
            return Ok(());
        }
        let mut open: Vec<_> = self.rows(UNKNOWN, resource).await?.iter().filter_map(read).collect();
        open.extend(lost);
        let found = open.iter().rev().find(|other| other.provider == *provider && is_it(other));
        let Some(operation) = found else { return Ok(()) };
        let key = match operation.state {
            OperationState::Unknown => operation.settled_key(),
            _ => operation.key(),
        };
        self.rewrite(&key, |operation| corrected(operation, heard)).await
    }
}

/// Whether a poll is about an operation: it names it, or it names none, or the broker gave no name. Of what was lost no platform
/// was told a name. One public checker says what kind of operation it means, whatever the broker called it.
fn is_meant(operation: &Operation, external: Option<&str>) -> bool {
    let Some(named) = external.filter(|named| !named.is_empty()) else { return true };
    let word = match operation.kind {
        OperationKind::Create => "provision",
        OperationKind::Update => "update",
        OperationKind::Delete => "deprovision",
    };
    let is_its = match operation.external.as_deref() {
        Some(own) => own == named,
        None => operation.state != OperationState::Lost,
    };
    is_its || named == word
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Map, json};
    use standpipe_api::testing::MemoryState;
    use standpipe_api::{Change, MappingState, State as _, Timestamp};

    use super::super::operation::{Made, OperationId, Reconciled};
    use super::super::tests::{body, kinds, mapped, opened, operation};
    use super::*;

    const OK: StatusCode = StatusCode::OK;

    /// With a creation that was lost, as somebody may have changed it since.
    async fn lost(change: impl Fn(Operation) -> Operation) -> (Arc<Operations>, Arc<MemoryState>) {
        let (operations, memory) = opened().await;
        let create = Operation { reconciled: Reconciled::Here, ..operation(OperationKind::Create) };
        operations.begin(&create).await.unwrap();
        operations.heard(&create, Heard::Lost).await.unwrap();
        let row = operations.of(&create.resource).await.unwrap().pop().unwrap();
        memory.commit(vec![maybe(&row)]).await.unwrap().unwrap();
        let record = memory.get(&row.key()).await.unwrap().unwrap();
        let value = change(row).written();
        let put = Change::Put { key: record.key, value, expected: Some(record.revision) };
        memory.commit(vec![put]).await.unwrap().unwrap();
        (operations, memory)
    }

    fn maybe(row: &Operation) -> Change {
        Change::Move(row.resource.clone(), row.provider.clone(), MappingState::Maybe)
    }

    /// Fetches, or polls with a name and is told this.
    async fn ask(operations: &Operations, at: &str, said: Option<(&str, &str)>) {
        let (provider, resource) = (at.into(), operation(OperationKind::Create).resource);
        let Some((name, state)) = said else {
            return operations.shown((&provider, &resource)).await.unwrap();
        };
        let said = body(json!({ "state": state }));
        operations.polled((&provider, &resource), Some(name), Heard::Polled(OK, &said, None)).await.unwrap();
    }

    #[tokio::test]
    async fn a_lost_creation_that_is_shown_to_live_is_settled_and_told_once() {
        for said in [None, Some(("", "succeeded")), Some(("provision", "succeeded"))] {
            let (operations, memory) = lost(|row| row).await;
            for _ in 0..2 {
                ask(&operations, "alpha", said).await;
            }
            assert_eq!(mapped(&memory), Some(MappingState::Live), "{said:?}");
            assert_eq!(kinds(&memory), ["operation.settled", "instance.created"], "{said:?}");
            assert_eq!(memory.events()[0].payload["state"], "succeeded");
            let left = operations.of(&operation(OperationKind::Create).resource).await.unwrap();
            assert_eq!(left, [], "nothing is left to be deleted");
        }
    }

    #[tokio::test]
    async fn what_is_no_proof_of_a_lost_creation_leaves_it_as_it_is() {
        let elsewhere = ("beta", None);
        let going = ("alpha", Some(("", "in progress")));
        let failed = ("alpha", Some(("", "failed")));
        let of_another = ("alpha", Some(("d1", "succeeded")));
        for (at, said) in [elsewhere, going, failed, of_another] {
            let (operations, memory) = lost(|row| row).await;
            ask(&operations, at, said).await;
            let left = operations.of(&operation(OperationKind::Create).resource).await.unwrap();
            assert_eq!(left[0].state, OperationState::Lost, "{at} {said:?}");
            assert_eq!((mapped(&memory), kinds(&memory).len()), (Some(MappingState::Maybe), 0));
        }
    }

    #[tokio::test]
    async fn what_is_shown_while_it_may_be_being_deleted_or_has_failed_proves_nothing() {
        let changes: [fn(Operation) -> Operation; 4] = [
            |row| Operation { state: OperationState::Cleaning, ..row },
            |row| Operation { state: OperationState::Removing, ..row },
            |row| Operation { attempts: 1, ..row },
            |row| Operation { settled_at: Some(Timestamp::now()), ..row },
        ];
        for change in changes {
            let (operations, memory) = lost(change).await;
            let resource = operation(OperationKind::Create).resource;
            let before = operations.of(&resource).await.unwrap();
            for said in [None, Some(("", "succeeded"))] {
                ask(&operations, "alpha", said).await;
            }
            assert_eq!(operations.of(&resource).await.unwrap(), before);
            assert_eq!((mapped(&memory), kinds(&memory).len()), (Some(MappingState::Maybe), 0), "{before:?}");
        }
        let (operations, memory) = lost(|row| row).await;
        operations.begin(&operation(OperationKind::Delete)).await.unwrap();
        ask(&operations, "alpha", None).await;
        assert_eq!(mapped(&memory), Some(MappingState::Maybe), "a DELETE is on its way");
    }

    #[tokio::test]
    async fn polls_that_brought_nothing_are_no_attempts_to_delete() {
        let (operations, memory) = opened().await;
        let create = operation(OperationKind::Create);
        let asked = Operation { attempts: 3, ..create.clone() };
        operations.begin(&asked).await.unwrap();
        operations.heard(&create, Heard::Answered(StatusCode::ACCEPTED, &Map::new())).await.unwrap();
        operations.heard(&create, Heard::Lost).await.unwrap();
        ask(&operations, "alpha", None).await;
        assert_eq!(mapped(&memory), Some(MappingState::Live));
    }

    #[tokio::test]
    async fn a_later_answer_corrects_what_counted_as_unknown_and_is_told_once() {
        let (ok, succeeded) = (OK, body(json!({ "state": "succeeded" })));
        let alpha = "alpha".into();
        for found_by in ["poll", "fetch"] {
            let (operations, memory) = opened().await;
            let create = operation(OperationKind::Create);
            let at = (&alpha, &create.resource);
            operations.begin(&create).await.unwrap();
            operations.heard(&create, Heard::Answered(StatusCode::ACCEPTED, &Map::new())).await.unwrap();
            operations.give_up(&create, "so").await.unwrap();
            let going = body(json!({ "state": "in progress", "description": "1 of 2" }));
            operations.polled(at, None, Heard::Polled(ok, &going, None)).await.unwrap();
            operations
                .polled((&"beta".into(), at.1), None, Heard::Polled(ok, &succeeded, None))
                .await
                .unwrap();
            assert_eq!(kinds(&memory), ["operation.started", "operation.settled"], "that is no end of it");
            for _ in 0..2 {
                match found_by {
                    "poll" => operations.polled(at, None, Heard::Polled(ok, &succeeded, None)).await.unwrap(),
                    _ => operations.shown(at).await.unwrap(),
                }
            }
            assert_eq!(kinds(&memory)[2..], ["operation.settled", "instance.created"], "by {found_by}");
            assert_eq!(memory.events()[2].payload["state"], "succeeded");
        }
    }

    #[tokio::test]
    async fn the_end_of_an_older_operation_proves_nothing() {
        let (operations, memory) = lost(|row| row).await;
        let started_at = Timestamp::from_millis(999_999);
        let update = Operation { started_at, ..operation(OperationKind::Update) };
        operations.begin(&update).await.unwrap();
        operations.heard(&update, Heard::Answered(StatusCode::ACCEPTED, &Map::new())).await.unwrap();
        let done = body(json!({ "state": "succeeded" }));
        operations.heard(&update, Heard::Polled(OK, &done, None)).await.unwrap();
        let open = operations.of(&update.resource).await.unwrap();
        assert_eq!(open.iter().map(|one| one.state).collect::<Vec<_>>(), [OperationState::Lost]);
        assert!(!kinds(&memory).contains(&"instance.created".to_owned()), "{:?}", kinds(&memory));
    }

    #[tokio::test]
    async fn a_lost_creation_that_lives_ends_the_older_deletion_first() {
        let (operations, memory) = lost(|row| row).await;
        let started_at = Timestamp::from_millis(999_999);
        let deletion = Operation { started_at, ..operation(OperationKind::Delete) };
        operations.begin(&deletion).await.unwrap();
        operations.heard(&deletion, Heard::Answered(StatusCode::ACCEPTED, &Map::new())).await.unwrap();
        let started_at = Timestamp::from_millis(1_000_001);
        let id = OperationId("again".into());
        let again = Operation { id, started_at, made: Made::Earlier, ..operation(OperationKind::Create) };
        operations.begin(&again).await.unwrap();
        operations.heard(&again, Heard::Answered(OK, &Map::new())).await.unwrap();
        assert!(operations.of(&again.resource).await.unwrap().is_empty());
        let told = kinds(&memory);
        let about: Vec<_> = told.iter().filter(|kind| kind.starts_with("instance.")).collect();
        assert_eq!(about, ["instance.deleted", "instance.created"]);
        assert_eq!(mapped(&memory), Some(MappingState::Live));
    }
}
