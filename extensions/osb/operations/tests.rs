use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};
use standpipe_api::testing::{FakeBackground, MemoryState, provider};
use standpipe_api::{Change, Kind, Mapping, MappingState, Resource, Scope, State as _, Timestamp};

use super::asking::{cleaned_up, removing};
use super::reconcile::Reconciler;
use super::step::{Step, step};
use super::superseded::BINDINGS_AT_ONCE;
use super::*;
use crate::osb::cleanup::Removes;
use crate::osb::dialect::{BINDING, INSTANCE, NAME};

const LATER: Duration = Duration::from_secs(3600);

pub(super) fn operation(kind: OperationKind) -> Operation {
    let now = Timestamp::from_millis(1_000_000);
    Operation {
        id: OperationId(format!("{kind:?}")),
        kind,
        resource: Resource::new(INSTANCE, "i"),
        provider: "alpha".into(),
        service_id: "s".into(),
        plan_id: "p".into(),
        external: None,
        state: OperationState::Requested,
        description: None,
        started_at: now,
        asked_at: now,
        ask_after: now,
        deadline: now.plus(Duration::from_secs(10)),
        reconciled: Reconciled::ByPlatform,
        made: Made::Here,
        beside: Beside::Nothing,
        attempts: 0,
        settled_at: None,
        owner: None,
        tenant: None,
        told: json!({ "instance": "i" }),
    }
}

pub(super) fn body(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// What a step does, in one word and the state it leaves.
fn told(step: Step) -> (&'static str, Option<OperationState>) {
    match step {
        Step::GoesOn(operation) => ("goes on", Some(operation.state)),
        Step::Leaves(changes) => (if changes.is_empty() { "leaves" } else { "leaves changed" }, None),
        Step::Settled(operation, _) => ("settled", Some(operation.state)),
        Step::Stays => ("stays", None),
    }
}

#[test]
fn an_answer_means_what_the_specification_says() {
    use OperationKind::{Create, Delete, Update};
    use OperationState::{Accepted, Lost};
    let none = Map::new();
    for (kind, status, expected) in [
        (Create, 201, ("leaves changed", None)),
        (Create, 200, ("leaves changed", None)),
        (Create, 202, ("goes on", Some(Accepted))),
        (Create, 400, ("leaves", None)),
        (Create, 408, ("leaves", None)),
        (Create, 409, ("leaves changed", None)),
        (Create, 422, ("leaves", None)),
        (Create, 500, ("goes on", Some(Lost))),
        (Create, 204, ("goes on", Some(Lost))),
        (Update, 200, ("leaves changed", None)),
        (Update, 500, ("leaves", None)),
        (Delete, 200, ("leaves changed", None)),
        (Delete, 410, ("leaves changed", None)),
        (Delete, 202, ("goes on", Some(Accepted))),
        (Delete, 404, ("leaves", None)),
        (Delete, 503, ("leaves", None)),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let step = step(operation(kind), Heard::Answered(status, &none));
        assert_eq!(told(step), expected, "{kind:?} {status}");
    }
    assert_eq!(told(step(operation(Create), Heard::NotSent)), ("leaves", None));
    assert_eq!(told(step(operation(Delete), Heard::Lost)), ("leaves", None));
    let repeated = Operation { made: Made::Earlier, ..operation(Create) };
    assert_eq!(told(step(repeated, Heard::Lost)), ("leaves", None), "what was there before is not deleted");
}

#[test]
fn a_poll_settles_only_what_it_is_about() {
    use OperationKind::{Create, Delete, Update};
    use OperationState::{Accepted, Failed, Lost, Succeeded};
    let state = |word: &str| body(json!({ "state": word, "description": "d" }));
    let poll = |kind, status: u16, body: &Map<String, Value>| {
        told(step(operation(kind), Heard::Polled(StatusCode::from_u16(status).unwrap(), body, None)))
    };
    assert_eq!(poll(Create, 200, &state("succeeded")), ("settled", Some(Succeeded)));
    assert_eq!(poll(Create, 200, &state("failed")), ("settled", Some(Failed)));
    assert_eq!(poll(Create, 200, &state("in progress")), ("goes on", Some(Accepted)));
    assert_eq!(poll(Create, 200, &Map::new()), ("stays", None));
    assert_eq!(poll(Create, 410, &Map::new()), ("stays", None), "only a delete ends with 410");
    assert_eq!(poll(Update, 410, &Map::new()), ("stays", None));
    assert_eq!(poll(Delete, 410, &Map::new()), ("settled", Some(Succeeded)));
    assert_eq!(poll(Delete, 404, &Map::new()), ("stays", None));
    assert_eq!(poll(Delete, 500, &state("succeeded")), ("stays", None));
    let here = Operation { reconciled: Reconciled::Here, ..operation(Create) };
    let failed = step(here, Heard::Polled(StatusCode::OK, &state("failed"), None));
    assert_eq!(told(failed), ("goes on", Some(Lost)), "it is cleaned up after, if the platform does not");
}

pub(super) async fn opened() -> (Arc<Operations>, Arc<MemoryState>) {
    let (operations, memory) = (Arc::new(Operations::default()), Arc::new(MemoryState::default()));
    operations.open(memory.clone());
    let instance = Resource::new(INSTANCE, "i");
    let mapping = Mapping::learned(instance, "alpha".into(), Timestamp::now());
    memory.commit(vec![Change::Learn(mapping)]).await.unwrap().unwrap();
    (operations, memory)
}

pub(super) fn mapped(memory: &MemoryState) -> Option<MappingState> {
    memory.mappings().first().map(|mapping| mapping.state)
}

pub(super) fn kinds(memory: &MemoryState) -> Vec<String> {
    memory.events().into_iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn a_deletion_beside_a_creation_buries_nothing() {
    use OperationKind::{Create, Delete};
    let none = Map::new();
    for order in [[Create, Delete], [Delete, Create]] {
        for (status, expected) in [(200, MappingState::Maybe), (410, MappingState::Live)] {
            let (operations, memory) = opened().await;
            for kind in order {
                operations.begin(&operation(kind)).await.unwrap();
            }
            let created = Heard::Answered(StatusCode::CREATED, &none);
            operations.heard(&operation(Create), created).await.unwrap();
            let deleted = Heard::Answered(StatusCode::from_u16(status).unwrap(), &none);
            operations.heard(&operation(Delete), deleted).await.unwrap();
            assert_eq!(mapped(&memory), Some(expected), "{order:?} {status}");
            operations.begin(&operation(Delete)).await.unwrap();
            operations.heard(&operation(Delete), deleted).await.unwrap();
            assert_eq!(mapped(&memory), None, "alone, it counts");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_succeeds_ends_everything_open() {
    let (operations, memory) = opened().await;
    let lost = operation(OperationKind::Create);
    operations.begin(&lost).await.unwrap();
    operations.heard(&lost, Heard::Lost).await.unwrap();
    let delete = operation(OperationKind::Delete);
    operations.begin(&delete).await.unwrap();
    operations
        .heard(&delete, Heard::Answered(StatusCode::ACCEPTED, &body(json!({ "operation": "d1" }))))
        .await
        .unwrap();
    let (place, gone) = ((&"alpha".into(), &lost.resource), body(json!({ "state": "succeeded" })));
    operations.polled(place, Some("d1"), Heard::Polled(StatusCode::OK, &gone, None)).await.unwrap();
    assert!(operations.of(&lost.resource).await.unwrap().is_empty());
    assert_eq!(mapped(&memory), None);
    assert_eq!(kinds(&memory), ["operation.started", "operation.settled", "instance.deleted"]);
}

#[tokio::test]
async fn a_poll_finds_its_operation_by_name_else_the_last() {
    let (operations, memory) = opened().await;
    let later = Timestamp::from_millis(2_000_000);
    let (create, mut delete) = (operation(OperationKind::Create), operation(OperationKind::Delete));
    delete.started_at = later;
    for (one, name) in [(&create, "c1"), (&delete, "d1")] {
        operations.begin(one).await.unwrap();
        let answer = body(json!({ "operation": name }));
        operations.heard(one, Heard::Answered(StatusCode::ACCEPTED, &answer)).await.unwrap();
    }
    let place = (&"alpha".into(), &create.resource);
    let done = body(json!({ "state": "succeeded" }));
    operations.polled(place, Some("c1"), Heard::Polled(StatusCode::OK, &done, None)).await.unwrap();
    assert_eq!(mapped(&memory), Some(MappingState::Live), "the creation's success is no deletion's");
    // One checker says "deprovision" whatever the broker called it.
    let gone = Heard::Polled(StatusCode::GONE, &done, None);
    operations.polled(place, Some("deprovision"), gone).await.unwrap();
    assert_eq!(mapped(&memory), None);
    let elsewhere = (&"beta".into(), &create.resource);
    operations.polled(elsewhere, None, gone).await.unwrap();
}

#[tokio::test]
async fn what_a_failed_creation_left_is_deleted_until_it_is_gone() {
    let (operations, memory) = opened().await;
    let create = Operation { reconciled: Reconciled::Here, ..operation(OperationKind::Create) };
    let (ok, accepted) = (StatusCode::OK, StatusCode::ACCEPTED);
    let said = |word: &str| body(json!({ "state": word, "operation": word }));
    operations.begin(&create).await.unwrap();
    operations.heard(&create, Heard::Answered(accepted, &said("c1"))).await.unwrap();
    operations.heard(&create, Heard::Polled(ok, &said("failed"), None)).await.unwrap();
    assert_eq!(mapped(&memory), Some(MappingState::Maybe));
    assert_eq!(kinds(&memory), ["operation.started", "operation.settled"]);
    assert_eq!(memory.events()[1].payload["kind"], "create");
    assert_eq!(memory.events()[1].payload["state"], "failed");

    let deleted = async || {
        let heard = |row| cleaned_up(row, accepted, &said("d1"));
        operations.rewrite(&create.key(), heard).await.unwrap();
    };
    let polled = async |word| {
        let heard = |row| removing(row, ok, &said(word), None);
        operations.rewrite(&create.key(), heard).await.unwrap();
        operations.of(&create.resource).await.unwrap().pop()
    };
    deleted().await;
    let again = Operation { id: OperationId("again".into()), ..create.clone() };
    assert!(operations.begin(&again).await.is_err(), "nothing is begun while it is deleted");
    let row = polled("in progress").await.unwrap();
    assert_eq!((row.state, row.external.as_deref()), (OperationState::Removing, Some("d1")));
    let row = polled("failed").await.unwrap();
    assert_eq!((row.kind, row.state), (OperationKind::Create, OperationState::Lost));
    assert!(row.ask_after > row.asked_at, "the next attempt waits");
    assert_eq!(mapped(&memory), Some(MappingState::Maybe), "a deletion that failed proves no life");
    deleted().await;
    assert_eq!(polled("succeeded").await, None);
    assert_eq!(mapped(&memory), None);
    assert_eq!(kinds(&memory)[2..], ["instance.deleted"]);
}

#[tokio::test]
async fn nobody_is_kept_from_a_resource_when_nobody_cleans_up_any_more() {
    for state in [OperationState::Cleaning, OperationState::Removing] {
        let (operations, memory) = opened().await;
        let (now, id) = (Timestamp::now(), OperationId("left".into()));
        let times =
            Operation { asked_at: now, deadline: now.plus(LATER), ..operation(OperationKind::Create) };
        let row = Operation { id, state, ..times };
        let put = Change::Put { key: row.key(), value: row.written(), expected: None };
        memory.commit(vec![put]).await.unwrap().unwrap();
        let busy = operations.begin(&operation(OperationKind::Create)).await.unwrap_err();
        assert_eq!(busy.kind(), standpipe_api::ErrorKind::Busy);
        // Its provider is no longer to be reconciled.
        let background = FakeBackground::new(vec![provider("alpha", NAME)]);
        Rc::new(Reconciler::new(operations.clone(), background, now)).round().await.unwrap();
        operations.begin(&operation(OperationKind::Create)).await.unwrap();
        let left = operations.of(&row.resource).await.unwrap();
        assert!(left.iter().any(|left| left.id == row.id && left.state == OperationState::Lost), "{left:?}");
    }
}

#[tokio::test]
async fn with_an_instance_go_its_bindings_at_the_same_broker_and_of_the_same_tenant() {
    let (operations, memory) = opened().await;
    let binding = |instance: &str, id: &str| Resource::new(BINDING, id).within(instance);
    let tenants = Resource { scope: Scope::tenant("red"), ..binding("i", "x") };
    let others = [(binding("i", "elsewhere"), "beta"), (binding("j", "x"), "alpha"), (tenants, "alpha")];
    let its = (0..=BINDINGS_AT_ONCE).map(|number| (binding("i", &format!("{number:04}")), "alpha"));
    let all = its.chain(others.clone());
    let learned = all.map(|(resource, at)| Mapping::learned(resource, at.into(), Timestamp::now()));
    memory.commit(learned.map(Change::Learn).collect()).await.unwrap().unwrap();
    let delete = operation(OperationKind::Delete);
    operations.begin(&delete).await.unwrap();
    operations.heard(&delete, Heard::Answered(StatusCode::OK, &Map::new())).await.unwrap();
    let mut left: Vec<_> = others.into_iter().map(|(resource, _)| resource).collect();
    left.sort();
    assert_eq!(memory.mappings().into_iter().map(|row| row.resource).collect::<Vec<_>>(), left);
    let told = kinds(&memory);
    assert_eq!(told.iter().filter(|kind| *kind == "binding.deleted").count(), BINDINGS_AT_ONCE + 1);
    assert_eq!(told.last().map(String::as_str), Some("instance.deleted"));
}

#[tokio::test]
async fn what_is_deleted_or_created_anew_is_not_found_out_any_more() {
    for (kind, status, told) in [
        (OperationKind::Delete, StatusCode::OK, "instance.deleted"),
        (OperationKind::Create, StatusCode::CREATED, "instance.created"),
    ] {
        let (operations, memory) = opened().await;
        let unknown = Operation { id: OperationId("unknown".into()), ..operation(OperationKind::Create) };
        operations.begin(&unknown).await.unwrap();
        operations.give_up(&unknown, "so").await.unwrap();
        let later = operation(kind);
        operations.begin(&later).await.unwrap();
        operations.shown((&"alpha".into(), &later.resource)).await.unwrap();
        operations.heard(&later, Heard::Answered(status, &Map::new())).await.unwrap();
        operations.shown((&"alpha".into(), &later.resource)).await.unwrap();
        assert_eq!(kinds(&memory), ["operation.settled", told]);
    }
}

#[tokio::test]
async fn only_what_is_settled_old_and_covered_is_removed() {
    let (operations, memory) = opened().await;
    let settled = async |id: &str, state: &str, started_at| {
        let row =
            Operation { id: OperationId(id.to_owned()), started_at, ..operation(OperationKind::Create) };
        operations.begin(&row).await.unwrap();
        let said = body(json!({ "state": state }));
        operations.heard(&row, Heard::Polled(StatusCode::OK, &said, None)).await.unwrap();
    };
    let (old, young) = (Timestamp::from_millis(1), Timestamp::from_millis(9_000_000));
    settled("done", "succeeded", old).await;
    settled("young", "succeeded", young).await;
    settled("failed", "failed", old).await;
    operations.begin(&operation(OperationKind::Update)).await.unwrap();
    let left = async || -> Vec<String> {
        let rows = memory.list("", None, 10).await.unwrap();
        rows.iter().filter_map(read).map(|row| row.id.0).collect()
    };
    let before = Timestamp::from_millis(1_000);
    let removed = sweep::INSTANCES.remove(&operations, &[Removes::Succeeded], before).await.unwrap();
    assert_eq!(removed, (1, 0));
    let mut rows = left().await;
    rows.sort();
    assert_eq!(rows, ["Update", "failed", "young"]);
    sweep::BINDINGS.remove(&operations, &[Removes::All], before).await.unwrap();
    assert_eq!(left().await.len(), 3, "bindings are cleaned on their own");
    sweep::INSTANCES.remove(&operations, &[Removes::All], Timestamp::now()).await.unwrap();
    assert_eq!(left().await, ["Update"], "what is not settled stays");
}

#[tokio::test]
async fn tombstones_go_when_they_are_old_with_what_succeeded() {
    let (operations, memory) = opened().await;
    let learn = |resource: Resource, state, at| {
        Change::Learn(Mapping { state, ..Mapping::learned(resource, "alpha".into(), at) })
    };
    let (old, before) = (Timestamp::from_millis(1), Timestamp::from_millis(1_000));
    let gone = MappingState::Gone;
    let mut rows = vec![
        learn(Resource::new(INSTANCE, "young"), gone, before),
        learn(Resource::new(INSTANCE, "there"), MappingState::Deleting, old),
        learn(Resource::new(BINDING, "b").within("there"), gone, old),
        learn(Resource::new(Kind::of("pipe"), "p"), gone, old),
    ];
    // More than are removed at once.
    rows.extend((0..450).map(|i| learn(Resource::new(INSTANCE, format!("gone-{i}")), gone, old)));
    memory.commit(rows).await.unwrap().unwrap();
    let left = || -> Vec<String> {
        let mut ids: Vec<String> =
            memory.mappings().into_iter().map(|row| row.resource.id.as_str().to_owned()).collect();
        ids.sort();
        ids
    };
    let removed = sweep::INSTANCES.remove(&operations, &[Removes::Failed], before).await.unwrap();
    assert_eq!(removed, (0, 0), "a deletion that failed leaves no tombstone");
    let removed = sweep::INSTANCES.remove(&operations, &[Removes::Succeeded], before).await.unwrap();
    assert_eq!(removed, (0, 450));
    assert_eq!(left(), ["b", "i", "p", "there", "young"]);
    assert_eq!(sweep::BINDINGS.remove(&operations, &[Removes::All], before).await.unwrap(), (0, 1));
    assert_eq!(left(), ["i", "p", "there", "young"]);
}

#[test]
fn ids_of_any_shape_have_places_of_their_own() {
    let key = |resource: Resource| operation_at(resource).key();
    let one = key(Resource::new(BINDING, "b").within("a/x"));
    assert_ne!(one, key(Resource::new(BINDING, "x/b").within("a")));
    assert_ne!(key(Resource::new(INSTANCE, "a/b")), key(Resource::new(Kind::of("service_instance"), "a")));
}

fn operation_at(resource: Resource) -> Operation {
    Operation { resource, ..operation(OperationKind::Create) }
}
