//! The feed as rows.

use rusqlite::{Connection, Row, named_params};
use standpipe_api::{CallerId, Event, EventPage, NewEvent, Outdated, ProviderId, Timestamp};

use super::record::revision;
use super::rows::{Rows as _, limit as bound};
use super::writer::Changed;
use crate::store::StoreError;

const APPEND: &str = "INSERT INTO event (at, kind, subject, provider, tenant, owner, payload) \
     VALUES (:at, :kind, :subject, :provider, :tenant, :owner, :payload)";
const LAST: &str = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)";
const OLDEST: &str = "SELECT min(revision) FROM event";
const LIST: &str = "SELECT revision, at, kind, subject, provider, tenant, owner, payload FROM event \
     WHERE revision > ?1 ORDER BY revision LIMIT ?2";
const FRONT: &str = "SELECT revision, at FROM event ORDER BY revision LIMIT ?1";
const PURGE: &str = "DELETE FROM event WHERE revision <= ?1";

pub(super) fn append(
    db: &Connection,
    event: &NewEvent,
    now: Timestamp,
    changed: &mut Changed,
) -> Result<(), StoreError> {
    let subject = event.subject().map(|subject| serde_json::json!(subject).to_string());
    let params = named_params! {
        ":at": now.as_millis(), ":kind": event.kind(), ":subject": subject,
        ":provider": event.provider().map(ProviderId::as_str), ":tenant": event.tenant(),
        ":owner": event.owner().map(CallerId::as_str), ":payload": event.payload(),
    };
    db.change("writing an event", APPEND, params)?;
    changed.has_event();
    Ok(())
}

/// The last revision that was given; 0 before the first.
pub(super) fn last(db: &Connection) -> Result<u64, StoreError> {
    Ok(db.first("reading events", LAST, [], |row| revision(row, 0))?.unwrap_or(0))
}

/// The first of what is kept is read last: rows leave from the front only, so that if none has left behind `after` by
/// then, the page has no gap.
pub(super) fn page(
    db: &Connection,
    after: u64,
    limit: usize,
) -> Result<Result<EventPage, Outdated>, StoreError> {
    let events = db.all("reading events", LIST, (signed(after), bound(limit)), read)?;
    let last = last(db)?;
    let oldest = db.first("reading events", OLDEST, [], |row| row.get::<_, Option<i64>>(0))?.flatten();
    let oldest = oldest.and_then(|oldest| u64::try_from(oldest).ok()).unwrap_or(last + 1);
    if after > last || after + 1 < oldest {
        return Ok(Err(Outdated { oldest, last }));
    }
    let next = events.last().map_or(after, |event| event.revision);
    Ok(Ok(EventPage { events, next, oldest }))
}

/// Removes from the front what is old or too much, up to the first that is neither: a clock that was set back leaves no
/// gap.
pub(super) fn purge(
    db: &Connection,
    before: Timestamp,
    most: u64,
    limit: usize,
) -> Result<usize, StoreError> {
    let too_many = last(db)?.saturating_sub(most);
    let pair: fn(&Row<'_>) -> _ = |row| Ok((revision(row, 0)?, row.get(1).map(Timestamp::from_millis)?));
    let front = db.all("purging events", FRONT, [bound(limit)], pair)?;
    let leaves = |(revision, at): &&(u64, Timestamp)| *at < before || *revision <= too_many;
    let Some((end, _)) = front.iter().take_while(leaves).last() else { return Ok(0) };
    db.change("purging events", PURGE, [signed(*end)])
}

/// SQLite's integers are signed; nothing is behind the largest.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn read(row: &Row<'_>) -> Result<Event, rusqlite::Error> {
    let text = |at| row.get::<_, Option<String>>(at);
    let json = |at: usize, error| {
        rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
    };
    let subject = text(3)?.map(|subject| serde_json::from_str(&subject)).transpose();
    let payload: String = row.get(7)?;
    Ok(Event {
        revision: revision(row, 0)?,
        at: row.get(1).map(Timestamp::from_millis)?,
        kind: row.get(2)?,
        subject: subject.map_err(|error| json(3, error))?,
        provider: text(4)?.map(Into::into),
        tenant: text(5)?,
        owner: text(6)?.map(Into::into),
        payload: serde_json::from_str(&payload).map_err(|error| json(7, error))?,
    })
}

/// The statements whose cost must not grow with the table, each with the words of a plan that keeps that promise.
#[cfg(test)]
pub(super) fn questions() -> Vec<(String, &'static str)> {
    vec![
        (OLDEST.into(), "SEARCH event"),
        (LIST.into(), "USING INTEGER PRIMARY KEY (rowid>?)"),
        (FRONT.into(), "SCAN event"),
        (PURGE.into(), "USING INTEGER PRIMARY KEY (rowid<?)"),
    ]
}
