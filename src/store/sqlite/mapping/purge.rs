//! Removes the rows that nothing needs any more.

use rusqlite::{Connection, named_params};

use super::super::rows::{Rows as _, limit as bound};
use super::super::writer::Changed;
use super::read_resource;
use crate::store::{Purge, StoreError};

macro_rules! purge {
    ($which:literal) => {
        concat!(
            "DELETE FROM resource_mapping WHERE (kind, parent, id, scope) IN \
             (SELECT kind, parent, id, scope FROM resource_mapping WHERE ",
            $which,
            " LIMIT :limit) RETURNING kind, parent, id, scope"
        )
    };
}

pub(super) const EXPIRED: &str = purge!("expires_at <= :now");
pub(super) const TOMBSTONES: &str = purge!("state = 'gone' AND kind = :kind AND updated_at < :before");

pub(in crate::store::sqlite) fn purge(
    db: &Connection,
    which: &Purge,
    limit: usize,
    changed: &mut Changed,
) -> Result<usize, StoreError> {
    let purged = match which {
        Purge::Expired(now) => {
            let params = named_params! { ":now": now.as_millis(), ":limit": bound(limit) };
            db.all("purging mappings", EXPIRED, params, read_resource)?
        }
        Purge::Tombstones { kind, before } => {
            let params = named_params! {
                ":kind": kind.as_str(), ":before": before.as_millis(), ":limit": bound(limit),
            };
            db.all("purging tombstones", TOMBSTONES, params, read_resource)?
        }
    };
    let count = purged.len();
    changed.extend(purged);
    Ok(count)
}
