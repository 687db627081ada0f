//! The store's methods as SQL.

use std::collections::HashSet;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use standpipe_api::{
    Change, Conflict, Job, JobId, JobOutcome, Kind, Mapping, MappingState, Record, Resource, ResourceId,
    Timestamp,
};

use super::error::StoreError;
use super::rows::{self, COLUMNS};
use super::seal::MasterKey;
use super::sqlite::Sqlite;
use super::{Claim, DueJob, Filter, Imported, Namespace, Store, Write};

#[async_trait]
impl Store for Sqlite {
    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>, StoreError> {
        let resource = resource.clone();
        let found = self.read(move |db| rows::find(db, &resource)).await?;
        Ok(found.filter(|mapping| mapping.is_current(Timestamp::now())))
    }

    async fn mappings_named(
        &self,
        kind: &Kind,
        id: &ResourceId,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError> {
        let (kind, id, now) =
            (kind.as_str().to_owned(), id.as_str().to_owned(), Timestamp::now().as_millis());
        let sql = format!(
            "SELECT {COLUMNS} FROM resource_mapping WHERE kind = ?1 AND id = ?2 \
             AND (expires_at IS NULL OR expires_at > ?3) ORDER BY parent, scope LIMIT ?4"
        );
        self.read(move |db| {
            let mut statement = db.prepare_cached(&sql)?;
            collect(statement.query(params![kind, id, now, limit_of(limit)])?)
        })
        .await
    }

    async fn scan(
        &self,
        filter: Filter,
        after: Option<Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError> {
        let now = Timestamp::now().as_millis();
        self.read(move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM resource_mapping \
                 WHERE (kind, parent, id, scope) > (?1, ?2, ?3, ?4) \
                 AND (?5 IS NULL OR provider = ?5) AND (?6 IS NULL OR kind = ?6) AND (?7 IS NULL OR parent = ?7) \
                 AND (expires_at IS NULL OR expires_at > ?8) ORDER BY kind, parent, id, scope LIMIT ?9"
            );
            let (kind, parent, id, scope) = after.as_ref().map_or(("", "", "", ""), rows::key);
            let mut statement = db.prepare_cached(&sql)?;
            collect(statement.query(params![
                kind,
                parent,
                id,
                scope,
                filter.provider.as_ref().map(|provider| provider.as_str()),
                filter.kind.as_ref().map(Kind::as_str),
                filter.parent.as_ref().map(ResourceId::as_str),
                now,
                limit_of(limit),
            ])?)
        })
        .await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.read(|db| {
            let count: i64 = db.query_row("SELECT count(*) FROM resource_mapping", [], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
        .await
    }

    async fn claim(&self, mapping: Mapping) -> Result<Claim, StoreError> {
        self.writer
            .write(move |db| {
                let free =
                    |row: &Mapping| row.state == MappingState::Gone || !row.is_current(mapping.created_at);
                match rows::find(db, &mapping.resource)? {
                    Some(row) if !free(&row) => Ok(Claim::Existing(Box::new(row))),
                    _ => rows::write(db, &mapping).map(|()| Claim::Taken),
                }
            })
            .await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.writer.write(move |db| writes.iter().try_for_each(|write| apply(db, write))).await
    }

    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError> {
        self.writer.write(move |db| import(db, rows)).await
    }

    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let sql = "DELETE FROM resource_mapping WHERE (kind, parent, id, scope) IN \
                   (SELECT kind, parent, id, scope FROM resource_mapping WHERE expires_at <= ?1 LIMIT ?2)";
        self.writer.write(move |db| Ok(db.execute(sql, params![now.as_millis(), limit_of(limit)])?)).await
    }

    async fn record(&self, namespace: &Namespace, key: &str) -> Result<Option<Record>, StoreError> {
        let (namespace, name, sealing) = (namespace.clone(), key.to_owned(), self.key.clone());
        self.read(move |db| {
            let sql = "SELECT key, revision, value FROM record WHERE namespace = ?1 AND key = ?2";
            let mut statement = db.prepare_cached(sql)?;
            let found = statement.query_row([namespace.as_str(), &name], raw_record).optional()?;
            found.map(|raw| open_record(&namespace, raw, &sealing)).transpose()
        })
        .await
    }

    async fn records(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (namespace, prefix, sealing) = (namespace.clone(), prefix.to_owned(), self.key.clone());
        let after = after.map(str::to_owned);
        self.read(move |db| {
            // A range, so that the index serves it; `substr` keeps the answer exact for any characters.
            let sql = "SELECT key, revision, value FROM record WHERE namespace = ?1 AND key >= ?2 \
                       AND substr(key, 1, length(?2)) = ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4";
            let mut statement = db.prepare_cached(sql)?;
            let given = params![namespace.as_str(), prefix, after, limit_of(limit)];
            let raw = statement.query_map(given, raw_record)?.collect::<Result<Vec<_>, _>>()?;
            raw.into_iter().map(|raw| open_record(&namespace, raw, &sealing)).collect()
        })
        .await
    }

    async fn commit(
        &self,
        namespace: &Namespace,
        changes: Vec<Change>,
    ) -> Result<Result<(), Conflict>, StoreError> {
        let (namespace, sealing) = (namespace.clone(), self.key.clone());
        self.writer
            .write(move |db| {
                if let Some(conflict) = first_conflict(db, &namespace, &changes)? {
                    return Ok(Err(conflict));
                }
                changes.into_iter().try_for_each(|each| change(db, &namespace, each, &sealing))?;
                Ok(Ok(()))
            })
            .await
    }

    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<DueJob>, StoreError> {
        let sealing = self.key.clone();
        self.read(move |db| {
            let sql = "SELECT namespace, id, payload, generation, attempts FROM job WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2";
            let mut statement = db.prepare_cached(sql)?;
            let mut found = statement.query(params![now.as_millis(), limit_of(limit)])?;
            let mut jobs = Vec::new();
            while let Some(row) = found.next()? {
                jobs.push(due_job(row, &sealing)?);
            }
            Ok(jobs)
        })
        .await
    }

    async fn finish_job(&self, job: &DueJob, outcome: JobOutcome) -> Result<(), StoreError> {
        let (job, sealing) = (job.clone(), self.key.clone());
        self.writer.write(move |db| finish_job(db, &job, outcome, &sealing)).await
    }

    async fn next_job(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|db| {
            let next: Option<i64> =
                db.query_row("SELECT min(due_at) FROM job WHERE due_at IS NOT NULL", [], |row| row.get(0))?;
            Ok(next.map(Timestamp::from_millis))
        })
        .await
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.read(|db| Ok(db.query_row("SELECT 1 FROM key_check", [], |_| Ok(()))?)).await?;
        self.writer.write(|db| Ok(db.execute("UPDATE revision SET last = last", []).map(drop)?)).await
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn collect(mut found: rusqlite::Rows<'_>) -> Result<Vec<Mapping>, StoreError> {
    let mut mappings = Vec::new();
    while let Some(row) = found.next()? {
        mappings.push(rows::mapping(row)?);
    }
    Ok(mappings)
}

fn apply(db: &Connection, write: &Write) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let Some(row) = rows::find(db, write.resource())? else {
        return match write {
            Write::Put(mapping) => rows::write(db, mapping),
            _ => Ok(()),
        };
    };
    match write {
        Write::Put(mapping) if row.state == MappingState::Gone || !row.is_current(now) => {
            rows::write(db, mapping)
        }
        Write::Put(mapping) => {
            let owner = row.owner.or_else(|| mapping.owner.clone());
            let kept = Mapping { created_at: row.created_at, origin: row.origin, owner, ..mapping.clone() };
            rows::write(db, &kept)
        }
        Write::State { state, expires_at, .. } => {
            rows::write(db, &Mapping { state: *state, expires_at: *expires_at, updated_at: now, ..row })
        }
        Write::DropClaim { resource, created_at } => {
            let own = row.state == MappingState::Intent && row.created_at == *created_at;
            if own { rows::remove(db, resource) } else { Ok(()) }
        }
        Write::Remove { resource } => rows::remove(db, resource),
    }
}

fn import(db: &Connection, given: Vec<Mapping>) -> Result<Vec<Imported>, StoreError> {
    let now = Timestamp::now();
    let each = |mapping: Mapping| {
        let known = rows::find(db, &mapping.resource)?;
        let known = known.filter(|row| row.is_current(now) && row.state != MappingState::Gone);
        match known {
            Some(row) if row.origin != mapping.origin => Ok(Imported::Kept(row.origin)),
            _ => rows::write(db, &mapping).map(|()| Imported::Written),
        }
    };
    given.into_iter().map(each).collect()
}

type RawRecord = (String, i64, Vec<u8>);

fn raw_record(row: &Row<'_>) -> rusqlite::Result<RawRecord> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// Where a record is sealed for: a value moved to another key does not open.
fn place(table: &str, namespace: &Namespace, key: &str) -> String {
    format!("{table}\n{}\n{key}", namespace.as_str())
}

fn open_record(namespace: &Namespace, raw: RawRecord, key: &MasterKey) -> Result<Record, StoreError> {
    let (name, revision, sealed) = raw;
    let value = key.open(&place("record", namespace, &name), &sealed)?;
    Ok(Record { key: name, value, revision: u64::try_from(revision).unwrap_or(0) })
}

fn first_conflict(
    db: &Connection,
    namespace: &Namespace,
    changes: &[Change],
) -> Result<Option<Conflict>, StoreError> {
    let mut seen = HashSet::new();
    for change in changes {
        let (key, expected) = match change {
            Change::Put { key, expected, .. } => (key, *expected),
            Change::Remove { key, expected } => (key, Some(*expected)),
            Change::Learn(_) | Change::Forget(_) | Change::Schedule(_) | Change::Cancel(_) => continue,
        };
        let sql = "SELECT revision FROM record WHERE namespace = ?1 AND key = ?2";
        let mut statement = db.prepare_cached(sql)?;
        let current =
            statement.query_row([namespace.as_str(), key], |row| row.get::<_, i64>(0)).optional()?;
        if current.map(|revision| u64::try_from(revision).unwrap_or(0)) != expected || !seen.insert(key) {
            return Ok(Some(Conflict { key: key.clone() }));
        }
    }
    Ok(None)
}

fn change(db: &Connection, namespace: &Namespace, change: Change, key: &MasterKey) -> Result<(), StoreError> {
    match change {
        Change::Put { key: name, value, .. } => {
            let sealed = key.seal(&place("record", namespace, &name), &value)?;
            let revision = next_revision(db)?;
            let sql = "INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3, ?4)";
            db.prepare_cached(sql)?.execute(params![namespace.as_str(), name, revision, sealed])?;
        }
        Change::Remove { key: name, .. } => {
            db.execute("DELETE FROM record WHERE namespace = ?1 AND key = ?2", [namespace.as_str(), &name])?;
        }
        Change::Learn(mapping) => apply(db, &Write::Put(mapping))?,
        Change::Forget(resource) => apply(db, &Write::Remove { resource })?,
        Change::Schedule(job) => {
            let sealed = key.seal(&place("job", namespace, &job.id.0), &job.payload)?;
            let due = Timestamp::now().plus(job.delay).as_millis();
            let sql = "INSERT OR REPLACE INTO job VALUES (?1, ?2, ?3, ?4, ?5, 0, 'waiting', '')";
            let generation = next_revision(db)?;
            db.prepare_cached(sql)?.execute(params![
                namespace.as_str(),
                job.id.0,
                generation,
                sealed,
                due
            ])?;
        }
        Change::Cancel(JobId(id)) => {
            db.execute("DELETE FROM job WHERE namespace = ?1 AND id = ?2", [namespace.as_str(), &id])?;
        }
    }
    Ok(())
}

fn next_revision(db: &Connection) -> Result<i64, StoreError> {
    Ok(db.query_row("UPDATE revision SET last = last + 1 RETURNING last", [], |row| row.get(0))?)
}

fn due_job(row: &Row<'_>, key: &MasterKey) -> Result<DueJob, StoreError> {
    let namespace = Namespace(row.get(0)?);
    let id: String = row.get(1)?;
    let payload = key.open(&place("job", &namespace, &id), &row.get::<_, Vec<u8>>(2)?)?;
    let attempts = row.get::<_, u32>(4)?;
    Ok(DueJob { namespace, job: Job { id: JobId(id), payload, attempts }, generation: row.get(3)? })
}

/// A job scheduled anew while it ran is of another generation, and is left alone.
fn finish_job(db: &Connection, due: &DueJob, outcome: JobOutcome, key: &MasterKey) -> Result<(), StoreError> {
    let (namespace, id) = (due.namespace.as_str(), &due.job.id.0);
    let generation = due.generation;
    let put = |payload: &[u8], due_at: Option<Timestamp>, state: &str, reason: &str| {
        let sealed = key.seal(&place("job", &due.namespace, id), payload)?;
        let sql = "UPDATE job SET payload = ?4, due_at = ?5, attempts = attempts + 1, state = ?6, reason = ?7 \
                   WHERE namespace = ?1 AND id = ?2 AND generation = ?3";
        let due_at = due_at.map(Timestamp::as_millis);
        db.execute(sql, params![namespace, id, generation, sealed, due_at, state, reason])?;
        Ok(())
    };
    match outcome {
        JobOutcome::Done => {
            let sql = "DELETE FROM job WHERE namespace = ?1 AND id = ?2 AND generation = ?3";
            db.execute(sql, params![namespace, id, generation])?;
            Ok(())
        }
        JobOutcome::Again { delay, payload, reason } => {
            put(&payload, Some(Timestamp::now().plus(delay)), "waiting", &reason)
        }
        JobOutcome::NeedsCredentials { payload } => put(&payload, None, "needs credentials", ""),
        JobOutcome::Failed(reason) => put(&due.job.payload, None, "failed", &reason),
    }
}
