//! The removal of settled operations, when the settings say.

use std::time::Duration;

use standpipe_api::{Change, Timestamp};

use super::answer::Refusal;
use super::core::{Broker, PAGE, Stored, decode, stored};
use super::records::{Entry, Operation, Side};
use crate::osb::cleanup::Removes;

/// How long a schedule is slept through at most, so that a clock that was set is noticed.
const NAP: Duration = Duration::from_secs(60);

impl Broker {
    /// Removes operations whenever a schedule falls due; never ends.
    pub(super) async fn keep_clean(&self) {
        let mut last = Timestamp::now();
        loop {
            let settings = self.settings();
            let next = Side::BOTH.iter().filter_map(|side| settings.keeping(*side).cleanup.next(last)).min();
            let until = next.map_or(NAP, |next| {
                let millis = next.as_millis().saturating_sub(Timestamp::now().as_millis());
                Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(NAP)
            });
            drop(settings);
            tokio::select! {
                () = tokio::time::sleep(until) => {}
                () = self.changed.notified() => {}
            }
            let now = Timestamp::now();
            self.clean(last, now).await;
            last = now;
        }
    }

    /// Removes what the schedules that fell due between two moments remove.
    pub(super) async fn clean(&self, after: Timestamp, now: Timestamp) {
        let settings = self.settings();
        for side in Side::BOTH {
            let cleanup = &settings.keeping(side).cleanup;
            let due = cleanup.due(after, now);
            if due.is_empty() {
                continue;
            }
            match self.remove(side, &due, cleanup.before(now)).await {
                Ok(rows) => {
                    tracing::info!(broker = %self.name, side = side.word(), rows, "settled operations removed")
                }
                Err(refusal) => {
                    let reason = refusal.description();
                    tracing::error!(broker = %self.name, side = side.word(), reason, "settled operations could not be removed");
                }
            }
        }
    }

    async fn remove(&self, side: Side, due: &[Removes], before: Timestamp) -> Result<usize, Refusal> {
        let (mut rows, mut after) = (0, None::<String>);
        loop {
            let page = self.state()?.list(&side.operations(), after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = Some(last.key.clone());
            for record in &page {
                let row: Stored<Operation> = stored(record)?;
                let Some(ended) = row.content.progress.ended() else { continue };
                if row.content.created_at < before && due.iter().any(|removes| removes.covers(ended)) {
                    rows += usize::from(self.forget(record.key.clone(), &row).await?);
                }
            }
        }
    }

    /// Removes an operation, and with it the memory of what it was the last operation on, if that is gone.
    async fn forget(&self, key: String, row: &Stored<Operation>) -> Result<bool, Refusal> {
        let mut changes = vec![Change::Remove { key, expected: row.revision }];
        let entry_key = row.content.subject.key();
        let record = self.state()?.get(&entry_key).await?;
        if let Some(record) = record {
            let entry: Entry = decode(&record)?;
            if entry.held.is_none() && entry.operation == row.content.id {
                changes.push(Change::Remove { key: entry_key, expected: record.revision });
            }
        }
        // Whoever changed it meanwhile made it younger.
        Ok(self.state()?.commit(changes).await?.is_ok())
    }
}
