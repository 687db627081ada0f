//! The removal of settled operations and of tombstones, when the configuration says. What is not settled stays.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use standpipe_api::{Background, Change, Kind, Result, Timestamp};
use tokio::time::sleep;

use super::operation::{
    LEFT_BEHIND_BINDINGS, LEFT_BEHIND_INSTANCES, OperationState, SETTLED_BINDINGS, SETTLED_INSTANCES,
    UNKNOWN_BINDINGS, UNKNOWN_INSTANCES,
};
use super::{Operations, read};
use crate::osb::cleanup::{Cleanup, Ended, Removes};
use crate::osb::dialect::{BINDING, INSTANCE};

/// Rows that are read or removed at once.
const PAGE: usize = 200;
/// How long a schedule is slept through at most, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(60);

/// When operations and tombstones of instances and of bindings are removed.
#[derive(Clone, Debug, Default)]
pub(in crate::osb) struct Schedules {
    /// Of instances.
    pub instances: Cleanup,
    /// Of bindings.
    pub bindings: Cleanup,
}

impl Schedules {
    fn each(&self) -> [(Leftovers, &Cleanup); 2] {
        [(INSTANCES, &self.instances), (BINDINGS, &self.bindings)]
    }
}

/// What is left of the resources of a kind when they are gone or settled.
#[derive(Debug)]
pub(super) struct Leftovers {
    kind: Kind,
    operations: [&'static str; 3],
}

pub(super) const INSTANCES: Leftovers =
    Leftovers { kind: INSTANCE, operations: [SETTLED_INSTANCES, UNKNOWN_INSTANCES, LEFT_BEHIND_INSTANCES] };
pub(super) const BINDINGS: Leftovers =
    Leftovers { kind: BINDING, operations: [SETTLED_BINDINGS, UNKNOWN_BINDINGS, LEFT_BEHIND_BINDINGS] };

/// Removes operations and tombstones whenever a schedule falls due, until the end.
pub(in crate::osb) async fn sweep(
    operations: Arc<Operations>,
    schedules: Schedules,
    background: Rc<dyn Background>,
) {
    let mut last = Timestamp::now();
    loop {
        let next = schedules.each().into_iter().filter_map(|(_, cleanup)| cleanup.next(last)).min();
        let wait = next.map_or(NAP, |next| {
            let millis = next.as_millis().saturating_sub(Timestamp::now().as_millis());
            Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(NAP)
        });
        tokio::select! {
            () = background.stopped() => return,
            () = sleep(wait) => {}
        }
        let now = Timestamp::now();
        for (leftovers, cleanup) in schedules.each() {
            let due = cleanup.due(last, now);
            if due.is_empty() {
                continue;
            }
            let of = leftovers.kind.as_str();
            match leftovers.remove(&operations, &due, cleanup.before(now)).await {
                Ok((rows, tombstones)) => {
                    tracing::info!(of, rows, tombstones, "settled operations and tombstones removed");
                }
                Err(error) => tracing::error!(of, error = error.log_text(), "the clean-up came to no end"),
            }
        }
        last = now;
    }
}

impl Leftovers {
    /// How many operations and tombstones were removed.
    pub(super) async fn remove(
        &self,
        operations: &Operations,
        due: &[Removes],
        before: Timestamp,
    ) -> Result<(usize, usize)> {
        let mut rows = 0;
        for prefix in self.operations {
            rows += remove_operations(operations, prefix, due, before).await?;
        }
        // A tombstone is what a deletion leaves that succeeded.
        if !due.iter().any(|removes| removes.covers(Ended::Succeeded)) {
            return Ok((rows, 0));
        }
        let mut tombstones = 0;
        loop {
            let removed = operations.state()?.purge(&self.kind, before, PAGE).await?;
            tombstones += removed;
            if removed < PAGE {
                return Ok((rows, tombstones));
            }
        }
    }
}

async fn remove_operations(
    operations: &Operations,
    prefix: &str,
    due: &[Removes],
    before: Timestamp,
) -> Result<usize> {
    let (mut rows, mut after) = (0, None::<String>);
    loop {
        let page = operations.state()?.list(prefix, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        after = Some(last.key.clone());
        let old = page.iter().filter(|record| {
            let covered = |ended| due.iter().any(|removes| removes.covers(ended));
            read(record).is_some_and(|row| row.started_at < before && ended(row.state).is_some_and(covered))
        });
        let changes: Vec<Change> =
            old.map(|record| Change::Remove { key: record.key.clone(), expected: record.revision }).collect();
        rows += changes.len();
        if !changes.is_empty() && operations.state()?.commit(changes).await?.is_err() {
            // One that was unknown has just been found out; what is left is for the next time.
            return Ok(rows);
        }
    }
}

const fn ended(state: OperationState) -> Option<Ended> {
    match state {
        OperationState::Succeeded => Some(Ended::Succeeded),
        OperationState::Failed | OperationState::Unknown => Some(Ended::Failed),
        OperationState::Requested
        | OperationState::Lost
        | OperationState::Cleaning
        | OperationState::Removing
        | OperationState::Accepted => None,
    }
}
