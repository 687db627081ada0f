//! What peers gave, as rows.

use rusqlite::{Connection, named_params};
use standpipe_api::{Kind, Mapping, PeerId, ProviderId, ResourceId, Timestamp};

use super::super::rows::{Rows as _, limit as bound};
use super::super::writer::Changed;
use super::{find, read_resource, undecided, write};
use crate::store::{Given, Imported, StoreError};

const INJECT: &str = concat!(
    insert!(),
    take_over!(),
    " WHERE (old.origin = 'injected' AND old.peer = excluded.peer AND old.updated_at <= excluded.updated_at) \
     OR old.state = 'gone' OR old.expires_at <= :now"
);
pub(super) const COUNT: &str =
    "SELECT count(*) FROM resource_mapping WHERE peer = :peer AND expires_at > :now";
pub(super) const REVOKE: &str = "DELETE FROM resource_mapping WHERE (kind, parent, id, scope) IN \
     (SELECT kind, parent, id, scope FROM resource_mapping WHERE peer = :peer \
     AND (:provider IS NULL OR provider = :provider) AND (:kind IS NULL OR kind = :kind) \
     AND (:id IS NULL OR id = :id) LIMIT :limit) RETURNING kind, parent, id, scope";

pub(in crate::store::sqlite) fn inject(
    db: &Connection,
    rows: Vec<Mapping>,
    changed: &mut Changed,
) -> Result<Vec<Imported>, StoreError> {
    let now = Timestamp::now();
    let inject_one = |row: Mapping| {
        if write(db, INJECT, &row, now)? == 1 {
            changed.push(row.resource);
            return Ok(Imported::Written);
        }
        let kept = find(db, &row.resource, now)?.ok_or_else(undecided)?;
        Ok(Imported::Kept(kept.origin))
    };
    rows.into_iter().map(inject_one).collect()
}

pub(in crate::store::sqlite) fn count(
    db: &Connection,
    peer: &PeerId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let params = named_params! { ":peer": peer.as_str(), ":now": now.as_millis() };
    let count: Option<i64> = db.first("counting mappings", COUNT, params, |row| row.get(0))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

pub(in crate::store::sqlite) fn revoke(
    db: &Connection,
    which: &Given,
    limit: usize,
    changed: &mut Changed,
) -> Result<u64, StoreError> {
    let params = named_params! {
        ":peer": which.peer.as_str(), ":provider": which.provider.as_ref().map(ProviderId::as_str),
        ":kind": which.kind.as_ref().map(Kind::as_str), ":id": which.id.as_ref().map(ResourceId::as_str),
        ":limit": bound(limit),
    };
    let revoked = db.all("revoking mappings", REVOKE, params, read_resource)?;
    let count = revoked.len() as u64;
    changed.extend(revoked);
    Ok(count)
}
