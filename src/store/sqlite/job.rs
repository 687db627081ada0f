//! Durable jobs as rows.

use bytes::Bytes;
use rusqlite::{Connection, Row};
use standpipe_api::{Job, JobId, JobOutcome, NewJob, Timestamp};

use super::record::next_revision;
use super::rows::{Rows as _, limit as bound};
use crate::store::seal::{Place, Seal};
use crate::store::{DueJob, JobState, Namespace, QueuedJob, StoreError};

const SCHEDULE: &str = "INSERT OR REPLACE INTO job (namespace, id, generation, payload, due_at, attempts, state) \
     VALUES (?1, ?2, ?3, ?4, ?5, 0, 'waiting')";
const CANCEL: &str = "DELETE FROM job WHERE namespace = ?1 AND id = ?2";
const DUE: &str = "SELECT namespace, id, generation, payload, attempts FROM job \
     WHERE state = 'waiting' AND due_at <= ?1 ORDER BY due_at LIMIT ?2";
const NEXT_DUE: &str = "SELECT due_at FROM job WHERE state = 'waiting' ORDER BY due_at LIMIT 1";
const DONE: &str = "DELETE FROM job WHERE namespace = ?1 AND id = ?2 AND generation = ?3";
const AGAIN: &str = "UPDATE job SET generation = ?4, payload = ?5, due_at = ?6, state = ?7, reason = ?8, \
     attempts = attempts + 1 WHERE namespace = ?1 AND id = ?2 AND generation = ?3";
const FAILED: &str = "UPDATE job SET state = 'failed', reason = ?4, attempts = attempts + 1 \
     WHERE namespace = ?1 AND id = ?2 AND generation = ?3";
const RETRY: &str = "UPDATE job SET generation = ?3, due_at = ?4, attempts = 0, state = 'waiting' \
     WHERE namespace = ?1 AND id = ?2";
const WAITS: &str = "SELECT 1 FROM job WHERE namespace = ?1 AND id = ?2 AND state = 'waiting'";
const LIST: &str = "SELECT namespace, id, state, due_at, attempts, reason FROM job \
     WHERE (namespace, id) > (?1, ?2) ORDER BY namespace, id LIMIT ?3";

const COUNT: &str = "SELECT count(*) FROM job WHERE namespace = ?1";

/// Characters of a reason that are kept; it is for an operator's screen.
const REASON: usize = 1000;

fn place<'a>(namespace: &'a Namespace, id: &'a JobId) -> Place<'a> {
    Place { table: "job", namespace: namespace.as_str(), key: &id.0 }
}

pub(super) fn schedule(
    db: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    job: &NewJob,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sealed = seal.seal(place(namespace, &job.id), &job.payload)?;
    let due = now.plus(job.delay).as_millis();
    let params = (namespace.as_str(), &job.id.0, next_revision(db)?, sealed, due);
    db.change("scheduling a job", SCHEDULE, params).map(drop)
}

pub(super) fn cancel(db: &Connection, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError> {
    Ok(db.change("cancelling a job", CANCEL, [namespace.as_str(), id.0.as_str()])? > 0)
}

pub(super) fn waits(db: &Connection, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError> {
    let params = [namespace.as_str(), id.0.as_str()];
    Ok(db.first("looking for a job", WAITS, params, |_| Ok(()))?.is_some())
}

pub(super) fn retry(
    db: &Connection,
    namespace: &Namespace,
    id: &JobId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let params = (namespace.as_str(), id.0.as_str(), next_revision(db)?, now.as_millis());
    Ok(db.change("waking a job", RETRY, params)? > 0)
}

/// A due job, and whether its payload opened; it is empty if not.
pub(super) type Due = (DueJob, Result<(), StoreError>);

pub(super) fn due(
    db: &Connection,
    seal: &Seal,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Due>, StoreError> {
    let rows = db.all("reading due jobs", DUE, [now.as_millis(), bound(limit)], |row| {
        let (namespace, id) = names(row)?;
        let job = Job { id, payload: Bytes::new(), attempts: row.get(4)? };
        Ok((DueJob { namespace, job, generation: row.get(2)? }, row.get::<_, Vec<u8>>(3)?))
    })?;
    let open = |(mut due, sealed): (DueJob, Vec<u8>)| {
        let opened = seal.open(place(&due.namespace, due.id()), &sealed);
        let opened = opened.map(|payload| due.job.payload = payload.to_vec().into());
        (due, opened)
    };
    Ok(rows.into_iter().map(open).collect())
}

pub(super) fn finish(
    db: &Connection,
    seal: &Seal,
    due: &DueJob,
    outcome: JobOutcome,
) -> Result<(), StoreError> {
    let (namespace, id, was) = (due.namespace.as_str(), due.id().0.as_str(), due.generation);
    let again = |payload: &[u8], at: Timestamp, state: JobState, reason: &str| {
        let sealed = seal.seal(place(&due.namespace, due.id()), payload)?;
        let next = next_revision(db)?;
        let params = (namespace, id, was, next, sealed, at.as_millis(), state.as_str(), shown(reason));
        db.change("settling a job", AGAIN, params).map(drop)
    };
    match outcome {
        JobOutcome::Done => db.change("settling a job", DONE, (namespace, id, was)).map(drop),
        JobOutcome::Again { delay, payload, reason } => {
            again(&payload, Timestamp::now().plus(delay), JobState::Waiting, &reason)
        }
        JobOutcome::NeedsCredentials { payload } => {
            let reason = "the credentials it was scheduled with have expired";
            again(&payload, Timestamp::now(), JobState::NeedsCredentials, reason)
        }
        JobOutcome::Failed(reason) => {
            db.change("settling a job", FAILED, (namespace, id, was, shown(&reason))).map(drop)
        }
    }
}

fn shown(reason: &str) -> String {
    reason.chars().take(REASON).collect()
}

pub(super) fn count(db: &Connection, namespace: &Namespace) -> Result<u64, StoreError> {
    let count: Option<i64> = db.first("counting jobs", COUNT, [namespace.as_str()], |row| row.get(0))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

pub(super) fn next_due(db: &Connection) -> Result<Option<Timestamp>, StoreError> {
    db.first("reading the next due job", NEXT_DUE, [], |row| row.get(0).map(Timestamp::from_millis))
}

pub(super) fn list(
    db: &Connection,
    after: Option<&(Namespace, JobId)>,
    limit: usize,
) -> Result<Vec<QueuedJob>, StoreError> {
    // No namespace is empty, so that the empty pair stands before all.
    let (namespace, id) = after.map_or(("", ""), |(namespace, id)| (namespace.as_str(), id.0.as_str()));
    db.all("reading jobs", LIST, (namespace, id, bound(limit)), |row| {
        let (namespace, id) = names(row)?;
        Ok(QueuedJob {
            namespace,
            id,
            state: state(row)?,
            due_at: row.get(3).map(Timestamp::from_millis)?,
            attempts: row.get(4)?,
            reason: row.get(5)?,
        })
    })
}

fn names(row: &Row<'_>) -> Result<(Namespace, JobId), rusqlite::Error> {
    Ok((Namespace(row.get::<_, String>(0)?.into()), JobId(row.get(1)?)))
}

fn state(row: &Row<'_>) -> Result<JobState, rusqlite::Error> {
    let word: String = row.get(2)?;
    let states = [JobState::Waiting, JobState::NeedsCredentials, JobState::Failed];
    states.into_iter().find(|state| state.as_str() == word).ok_or(rusqlite::Error::InvalidQuery)
}
