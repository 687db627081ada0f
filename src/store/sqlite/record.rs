//! Sealed records and secrets as rows, and the transaction that writes records, mappings and jobs together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row};
use standpipe_api::{Change, Conflict, Mapping, MappingState, Record, Revision, Timestamp};

use super::rows::{Rows as _, limit as bound};
use super::writer::Changed;
use super::{event, job, mapping};
use crate::store::seal::{Place, Seal};
use crate::store::{Namespace, SecretBytes, StoreError, Write};

const FIND: &str = "SELECT key, revision, value FROM record WHERE namespace = ?1 AND key = ?2";
const LIST: &str = "SELECT key, revision, value FROM record \
     WHERE namespace = ?1 AND key >= ?2 AND key > ?3 AND substr(key, 1, length(?2)) = ?2 \
     AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5";
const REVISION: &str = "SELECT revision FROM record WHERE namespace = ?1 AND key = ?2";
const PUT: &str = "INSERT OR REPLACE INTO record (namespace, key, revision, value) VALUES (?1, ?2, ?3, ?4)";
const REMOVE: &str = "DELETE FROM record WHERE namespace = ?1 AND key = ?2";
const NEXT_REVISION: &str = "UPDATE standpipe SET revisions = revisions + 1 RETURNING revisions";
const SECRET: &str = "SELECT value FROM process_secret WHERE name = ?1";
const PUT_SECRET: &str = "INSERT INTO process_secret (name, value) VALUES (?1, ?2)";

fn place<'a>(namespace: &'a Namespace, key: &'a str) -> Place<'a> {
    Place { table: "record", namespace: namespace.as_str(), key }
}

/// A row as it is stored.
struct Stored {
    key: String,
    revision: Revision,
    sealed: Vec<u8>,
}

impl Stored {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self { key: row.get(0)?, revision: revision(row, 1)?, sealed: row.get(2)? })
    }

    fn open(self, seal: &Seal, namespace: &Namespace) -> Result<Record, StoreError> {
        let value = seal.open(place(namespace, &self.key), &self.sealed)?;
        Ok(Record { value: value.to_vec().into(), key: self.key, revision: self.revision })
    }
}

/// SQLite's integers are signed; revisions count up from 1.
pub(super) fn revision(row: &Row<'_>, at: usize) -> Result<Revision, rusqlite::Error> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, value))
}

/// A number that no record or job has had.
pub(super) fn next_revision(db: &Connection) -> Result<i64, StoreError> {
    let missing = || StoreError::Row { what: "standpipe", found: "no row".into() };
    db.first("counting a revision", NEXT_REVISION, [], |row| row.get(0))?.ok_or_else(missing)
}

pub(super) fn find(
    db: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    key: &str,
) -> Result<Option<Record>, StoreError> {
    let stored = db.first("reading a record", FIND, [namespace.as_str(), key], Stored::read)?;
    stored.map(|stored| stored.open(seal, namespace)).transpose()
}

pub(super) fn list(
    db: &Connection,
    seal: &Seal,
    namespace: &Namespace,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Record>, StoreError> {
    let params = (namespace.as_str(), prefix, after.unwrap_or_default(), end_of(prefix), bound(limit));
    let stored = db.all("reading records", LIST, params, Stored::read)?;
    stored.into_iter().map(|stored| stored.open(seal, namespace)).collect()
}

/// A key that is greater than all keys with the prefix, so that the search ends there; `None`: no such key is simple.
fn end_of(prefix: &str) -> Option<String> {
    let last = prefix.chars().next_back()?;
    let next = char::from_u32(u32::from(last) + 1)?;
    Some(prefix.strip_suffix(last)?.to_owned() + next.encode_utf8(&mut [0; 4]))
}

/// What an extension commits at once.
pub(super) struct Transaction {
    pub(super) namespace: Namespace,
    pub(super) changes: Vec<Change>,
    pub(super) seal: Arc<Seal>,
    pub(super) tombstone: Duration,
}

impl Transaction {
    /// Within the writer's savepoint. Conflicts are judged before the first change, so that a lost transaction has
    /// changed nothing.
    pub(super) fn commit(
        mut self,
        db: &Connection,
        changed: &mut Changed,
    ) -> Result<Result<(), Conflict>, StoreError> {
        let mut written = HashSet::new();
        for change in &self.changes {
            let (key, expected) = match change {
                Change::Put { key, expected, .. } => (key, *expected),
                Change::Remove { key, expected } => (key, Some(*expected)),
                Change::Learn(_)
                | Change::Claim(..)
                | Change::Unclaim(_)
                | Change::Forget(_)
                | Change::Move(..)
                | Change::Hint(..)
                | Change::Schedule(_)
                | Change::Cancel(_)
                | Change::Event(_) => continue,
            };
            let params = [self.namespace.as_str(), key.as_str()];
            let current = db.first("reading a record", REVISION, params, |row| revision(row, 0))?;
            // A second write of one record cannot have read what the first one writes.
            if current != expected || !written.insert(key) {
                return Ok(Err(Conflict { key: key.clone() }));
            }
        }
        let now = Timestamp::now();
        for change in std::mem::take(&mut self.changes) {
            self.carry_out(db, change, now, changed)?;
        }
        Ok(Ok(()))
    }

    fn carry_out(
        &self,
        db: &Connection,
        change: Change,
        now: Timestamp,
        changed: &mut Changed,
    ) -> Result<(), StoreError> {
        let namespace = self.namespace.as_str();
        match change {
            Change::Put { key, value, .. } => {
                let sealed = self.seal.seal(place(&self.namespace, &key), &value)?;
                let params = (namespace, key, next_revision(db)?, sealed);
                db.change("writing a record", PUT, params).map(drop)
            }
            Change::Remove { key, .. } => {
                db.change("removing a record", REMOVE, [namespace, key.as_str()]).map(drop)
            }
            Change::Learn(learned) => {
                mapping::put(db, &learned, now)?;
                changed.push(learned.resource);
                Ok(())
            }
            Change::Claim(claimed, quota) => mapping::claim(db, claimed, quota, changed).map(drop),
            Change::Unclaim(resource) => match mapping::find(db, &resource, now)? {
                Some(Mapping { created_at, .. }) => {
                    mapping::apply(db, vec![Write::DropClaim { resource, created_at }], changed)
                }
                None => Ok(()),
            },
            Change::Forget(resource) => {
                let end = now.plus(self.tombstone);
                mapping::set_state(db, &resource, MappingState::Gone, Some(end), now)?;
                changed.push(resource);
                Ok(())
            }
            Change::Move(resource, provider, state) => {
                let known = mapping::find(db, &resource, now)?;
                let movable = |known: &Mapping| {
                    let revives = known.state == MappingState::Gone && state != MappingState::Gone;
                    known.provider == provider && known.state != state && !revives
                };
                if known.as_ref().is_some_and(movable) {
                    let end = (state == MappingState::Gone).then(|| now.plus(self.tombstone));
                    mapping::set_state(db, &resource, state, end, now)?;
                    changed.push(resource);
                }
                Ok(())
            }
            Change::Hint(resource, provider, hints) => {
                let known = mapping::find(db, &resource, now)?
                    .filter(|known| known.provider == provider && known.state != MappingState::Gone);
                if let Some(known) = known {
                    mapping::put(db, &Mapping { hints, ..known }, now)?;
                    changed.push(resource);
                }
                Ok(())
            }
            Change::Schedule(scheduled) => job::schedule(db, &self.seal, &self.namespace, &scheduled, now),
            Change::Cancel(id) => job::cancel(db, &self.namespace, &id).map(drop),
            Change::Event(written) => event::append(db, &written, now, changed),
        }
    }
}

pub(super) fn secret(db: &Connection, seal: &Seal, name: &str) -> Result<Option<SecretBytes>, StoreError> {
    let sealed: Option<Vec<u8>> = db.first("reading a secret", SECRET, [name], |row| row.get(0))?;
    let place = Place { table: "process_secret", namespace: "", key: name };
    sealed.map(|sealed| seal.open(place, &sealed)).transpose()
}

pub(super) fn put_secret_once(
    db: &Connection,
    seal: &Seal,
    name: &str,
    value: SecretBytes,
) -> Result<SecretBytes, StoreError> {
    if let Some(existing) = secret(db, seal, name)? {
        return Ok(existing);
    }
    let sealed = seal.seal(Place { table: "process_secret", namespace: "", key: name }, &value)?;
    db.change("writing a secret", PUT_SECRET, (name, sealed))?;
    Ok(value)
}
