//! The audit as rows.

use rusqlite::{Connection, Row, named_params};
use standpipe_api::{CallerId, Kind, ProviderId, Timestamp};

use super::rows::{Rows as _, limit as bound};
use crate::store::{AuditEvent, AuditFilter, AuditRow, StoreError};

/// An event that is there already was written by an earlier attempt.
const APPEND: &str = "INSERT INTO audit (at, call, caller, tenant, method, path, operation, kind, provider, status, \
     fault, refused, remark) VALUES (:at, :call, :caller, :tenant, :method, :path, :operation, :kind, :provider, :status, \
     :fault, :refused, :remark) ON CONFLICT (call) DO NOTHING";
const PURGE_OLD: &str =
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :before LIMIT :limit)";
const PURGE_MANY: &str = "DELETE FROM audit WHERE id IN \
     (SELECT id FROM audit WHERE id <= (SELECT max(id) FROM audit) - :most ORDER BY id LIMIT :limit)";

pub(super) fn append(db: &Connection, events: Vec<AuditEvent>) -> Result<(), StoreError> {
    for event in events {
        let params = named_params! {
            ":at": event.at.as_millis(), ":call": event.call,
            ":caller": event.caller.as_ref().map(CallerId::as_str), ":tenant": event.tenant,
            ":method": event.method, ":path": event.path, ":operation": event.operation,
            ":kind": event.kind.as_ref().map(Kind::as_str),
            ":provider": event.provider.as_ref().map(ProviderId::as_str), ":status": event.status,
            ":fault": event.fault, ":refused": event.refused, ":remark": event.remark,
        };
        db.change("writing the audit", APPEND, params)?;
    }
    Ok(())
}

/// The statement names only the filters that are set: each has its own plan along an index.
fn list_statement(filter: &AuditFilter) -> String {
    let mut sql =
        "SELECT id, at, call, caller, tenant, method, path, operation, kind, provider, status, fault, \
         refused, remark FROM audit WHERE id > :after"
            .to_owned();
    if filter.caller.is_some() {
        sql.push_str(" AND caller = :caller");
    }
    if filter.provider.is_some() {
        sql.push_str(" AND provider = :provider");
    }
    sql.push_str(" ORDER BY id LIMIT :limit");
    sql
}

pub(super) fn list(
    db: &Connection,
    filter: &AuditFilter,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let limit = bound(limit);
    let filters = [
        (":caller", filter.caller.as_ref().map(CallerId::as_str)),
        (":provider", filter.provider.as_ref().map(ProviderId::as_str)),
    ];
    let mut params: Vec<(&str, &dyn rusqlite::ToSql)> = vec![(":after", &after), (":limit", &limit)];
    params
        .extend(filters.iter().filter(|(_, value)| value.is_some()).map(|(name, value)| (*name, value as _)));
    db.all("reading the audit", &list_statement(filter), params.as_slice(), read)
}

pub(super) fn purge(
    db: &Connection,
    before: Timestamp,
    most: u64,
    limit: usize,
) -> Result<usize, StoreError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let old = named_params! { ":before": before.as_millis(), ":limit": bound(limit) };
    let many = named_params! { ":most": most, ":limit": bound(limit) };
    Ok(db.change("purging the audit", PURGE_OLD, old)? + db.change("purging the audit", PURGE_MANY, many)?)
}

fn read(row: &Row<'_>) -> Result<AuditRow, rusqlite::Error> {
    let text = |at| row.get::<_, Option<String>>(at);
    let event = AuditEvent {
        at: row.get(1).map(Timestamp::from_millis)?,
        call: row.get(2)?,
        caller: text(3)?.map(Into::into),
        tenant: text(4)?,
        method: row.get(5)?,
        path: row.get(6)?,
        operation: text(7)?,
        kind: text(8)?.map(Kind::read),
        provider: text(9)?.map(Into::into),
        status: row.get(10)?,
        fault: text(11)?,
        refused: text(12)?,
        remark: text(13)?,
    };
    Ok(AuditRow { id: row.get(0)?, event })
}

/// The statements whose cost must not grow with the table, each with the words of a plan that keeps that promise.
#[cfg(test)]
pub(super) fn questions() -> Vec<(String, &'static str)> {
    let at = |filter: AuditFilter, plan| (list_statement(&filter), plan);
    let (caller, provider) = (Some("basic:ada".into()), Some("alpha".into()));
    vec![
        at(AuditFilter::default(), "USING INTEGER PRIMARY KEY (rowid>?)"),
        at(AuditFilter { caller, provider: None }, "USING INDEX audit_by_caller (caller=? AND rowid>?)"),
        at(AuditFilter { caller: None, provider }, "USING INDEX audit_by_provider (provider=? AND rowid>?)"),
        (PURGE_OLD.into(), "USING COVERING INDEX audit_by_time (at<?)"),
        (PURGE_MANY.into(), "USING INTEGER PRIMARY KEY (rowid<?)"),
    ]
}
