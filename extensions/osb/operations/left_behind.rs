//! What standpipe could not delete: a row per resource until it is gone or known to live, and a note on its provider, so that
//! an operator sees it after a restart too.

use std::collections::BTreeMap;

use standpipe_api::{Background, Change, ProviderId, RecordKey, Resource, Result};

use super::operation::{LEFT_BEHIND, LEFT_BEHIND_BINDINGS, Operation};
use super::step::{Step, given_up};
use super::{Operations, read};
use crate::osb::dialect::NAME;
use crate::path::encode;

/// The note on a provider where something was left.
const NOTE: &str = "left-behind";
/// Rows that are read, and told of.
const MOST: usize = 200;
/// Resources that a note names.
const MOST_NAMED: usize = 10;

/// A creation whose rest could not be deleted in time.
pub(super) fn left_behind(operation: Operation, why: &str) -> Step {
    match given_up(operation, why) {
        Step::Settled(operation, mut changes) => {
            let (key, value) = (operation.key_in(LEFT_BEHIND), operation.written());
            changes.push(Change::Put { key, value, expected: None });
            Step::Settled(operation, changes)
        }
        step => step,
    }
}

/// Where the rows of an instance's bindings stand.
pub(super) fn of_bindings(instance: &Resource) -> RecordKey {
    let [scope, instance] = [instance.scope.as_str(), instance.id.as_str()].map(encode);
    format!("{LEFT_BEHIND_BINDINGS}{scope}/{instance}/")
}

/// Notes with every provider what was left there and since when, or that nothing is left any more. What an operator has forgotten
/// is no longer told.
///
/// # Errors
/// The store does not answer.
pub(super) async fn note(operations: &Operations, background: &dyn Background) -> Result<()> {
    let mut left = BTreeMap::<ProviderId, Vec<Operation>>::new();
    let state = operations.state()?;
    for record in state.list(LEFT_BEHIND, None, MOST).await? {
        let Some(operation) = read(&record) else { continue };
        if state.mapping(&operation.resource).await?.is_some() {
            left.entry(operation.provider.clone()).or_default().push(operation);
            continue;
        }
        // Whoever has written it meanwhile knows better.
        let _conflict =
            state.commit(vec![Change::Remove { key: record.key, expected: record.revision }]).await?;
    }
    for provider in background.with_left_out().into_iter().filter(|provider| provider.dialect == NAME) {
        let operations = left.remove(&provider.id).unwrap_or_default();
        let text = (!operations.is_empty()).then(|| text(&operations));
        let since = operations.iter().filter_map(|operation| operation.settled_at).min();
        background.note(&provider.id, NOTE, text.as_deref(), since);
    }
    Ok(())
}

fn text(operations: &[Operation]) -> String {
    let named = operations.iter().take(MOST_NAMED).map(|operation| operation.resource.to_string());
    let named = named.collect::<Vec<_>>().join(", ");
    format!(
        "what was left of {named} could not be deleted, and may be there; {} in all; delete it here again, or forget its mapping \
         if it is gone",
        operations.len()
    )
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::Map;
    use standpipe_api::testing::{FakeBackground, provider};
    use standpipe_api::{Mapping, MappingState, Provider, Settings, State as _, Timestamp};

    use super::super::reconcile::Reconciler;
    use super::super::tests::operation;
    use super::super::{Heard, OperationId, OperationKind, OperationState};
    use super::*;
    use crate::osb::dialect::{BINDING, INSTANCE};
    use crate::osb::settings::ProviderSettings;

    /// As after a restart: nothing is noted yet.
    async fn started(operations: &Arc<Operations>) -> Rc<FakeBackground> {
        let settings = ProviderSettings { reconcile: true, ..ProviderSettings::default() };
        let alpha = Provider { settings: Settings::new(settings), ..provider("alpha", NAME) };
        let background = FakeBackground::new(vec![alpha, provider("beta", NAME)]);
        let reconciler = Reconciler::new(operations.clone(), background.handle(), Timestamp::now());
        Rc::new(reconciler).round().await.unwrap();
        background
    }

    async fn is_noted(operations: &Arc<Operations>) -> bool {
        let noted = started(operations).await.noted();
        assert!(noted.iter().all(|note| *note == ("alpha".into(), "left-behind")), "{noted:?}");
        !noted.is_empty()
    }

    #[tokio::test]
    async fn what_could_not_be_deleted_in_time_is_left_to_the_operator_until_it_is_gone_or_lives() {
        let background = FakeBackground::new(Vec::new());
        let (operations, memory) = (Arc::new(Operations::default()), background.memory());
        operations.open(background.state());
        let instance = Resource::new(INSTANCE, "i");
        let binding = Resource::new(BINDING, "b").within("i");
        for (ends, status) in
            [(OperationKind::Delete, 410), (OperationKind::Delete, 200), (OperationKind::Create, 200)]
        {
            for (state, resource) in [
                (OperationState::Lost, &instance),
                (OperationState::Removing, &instance),
                (OperationState::Removing, &binding),
            ] {
                let id = OperationId(format!("{state:?} before {ends:?} {status}"));
                let settled_at = (state == OperationState::Lost).then(Timestamp::now);
                let resource = resource.clone();
                // It was tried in vain when its time was over.
                let asked_at = Timestamp::now();
                let row = Operation {
                    id,
                    state,
                    resource,
                    settled_at,
                    asked_at,
                    ..operation(OperationKind::Create)
                };
                let put = Change::Put { key: row.key(), value: row.written(), expected: None };
                let mapping = Mapping::learned(row.resource.clone(), "alpha".into(), Timestamp::now());
                memory.commit(vec![put, Change::Learn(mapping)]).await.unwrap().unwrap();
                assert!(is_noted(&operations).await, "after {state:?}");
                assert!(operations.of(&row.resource).await.unwrap().is_empty());
                let row = memory.mappings().into_iter().find(|mapping| mapping.resource == row.resource);
                assert_eq!(row.unwrap().state, MappingState::Maybe, "after {state:?}");
            }
            assert!(is_noted(&operations).await);
            // With the instance goes what was left of its binding.
            let news =
                if ends == OperationKind::Delete { vec![&instance] } else { vec![&binding, &instance] };
            for resource in news {
                let row = Operation { resource: resource.clone(), ..operation(ends) };
                operations.begin(&row).await.unwrap();
                let status = StatusCode::from_u16(status).unwrap();
                operations.heard(&row, Heard::Answered(status, &Map::new())).await.unwrap();
            }
            assert!(!is_noted(&operations).await, "{ends:?} {status}");
        }
    }

    #[tokio::test]
    async fn a_note_keeps_its_time_over_a_start_and_goes_when_the_mapping_is_forgotten() {
        let background = FakeBackground::new(Vec::new());
        let (operations, memory) = (Arc::new(Operations::default()), background.memory());
        operations.open(background.state());
        let failed_at = Timestamp::from_millis(1_500_000);
        let (state, settled_at) = (OperationState::Lost, Some(failed_at));
        let asked_at = Timestamp::now();
        let row = Operation { state, settled_at, asked_at, ..operation(OperationKind::Create) };
        let put = Change::Put { key: row.key(), value: row.written(), expected: None };
        let mapping = Mapping::learned(row.resource.clone(), "alpha".into(), failed_at);
        memory.commit(vec![put, Change::Learn(mapping)]).await.unwrap().unwrap();
        for _ in 0..2 {
            let since = started(&operations).await.noted_since(&"alpha".into(), NOTE);
            assert_eq!(since, Some(failed_at));
        }
        memory.commit(vec![Change::Forget(row.resource.clone())]).await.unwrap().unwrap();
        assert!(!is_noted(&operations).await);
        let again = Mapping::learned(row.resource, "alpha".into(), failed_at);
        memory.commit(vec![Change::Learn(again)]).await.unwrap().unwrap();
        assert!(!is_noted(&operations).await, "what is there now is something else");
    }
}
