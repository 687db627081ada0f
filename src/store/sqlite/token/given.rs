//! Tokens that peers gave, as rows.

use rusqlite::Connection;
use standpipe_api::{Origin, PeerId, ProviderId, Timestamp};

use super::super::rows::{Rows as _, limit as bound};
use super::{place_key, scope};
use crate::store::seal::{Place, Seal};
use crate::store::{Given, GivenToken, Imported, StoreError};

// What was obtained under other settings is of no use to anybody.
const INJECT: &str = "INSERT INTO token_mapping AS old \
     (subject, provider, remote_scope, credential, kind, settings, value, obtained_at, expires_at, peer) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
     ON CONFLICT DO UPDATE SET kind = excluded.kind, settings = excluded.settings, value = excluded.value, \
     obtained_at = excluded.obtained_at, expires_at = excluded.expires_at, peer = excluded.peer \
     WHERE (old.peer = excluded.peer AND old.obtained_at <= excluded.obtained_at) \
     OR old.expires_at <= ?11 OR old.settings <> excluded.settings";
const KEPT: &str = "SELECT peer FROM token_mapping \
     WHERE subject = ?1 AND provider = ?2 AND remote_scope = ?3 AND credential = ?4";
const COUNT: &str = "SELECT count(*) FROM token_mapping WHERE peer = ?1 AND expires_at > ?2";
const REVOKE: &str = "DELETE FROM token_mapping WHERE (subject, provider, remote_scope, credential) IN \
     (SELECT subject, provider, remote_scope, credential FROM token_mapping \
     WHERE peer = ?1 AND (?2 IS NULL OR provider = ?2) LIMIT ?3)";

pub(in crate::store::sqlite) fn inject(
    db: &Connection,
    seal: &Seal,
    tokens: &[GivenToken],
) -> Result<Vec<Imported>, StoreError> {
    let now = Timestamp::now();
    tokens.iter().map(|given| inject_one(db, seal, given, now)).collect()
}

fn inject_one(
    db: &Connection,
    seal: &Seal,
    GivenToken { peer, key, token }: &GivenToken,
    now: Timestamp,
) -> Result<Imported, StoreError> {
    let bound_to = place_key(key.subject.as_bytes(), scope(key), key.credential.as_str());
    let place = Place { table: "token_mapping", namespace: key.provider.as_str(), key: &bound_to };
    let sealed = seal.seal(place, &token.value)?;
    let params = (
        key.subject.as_bytes(),
        key.provider.as_str(),
        scope(key),
        key.credential.as_str(),
        &token.kind,
        token.settings,
        sealed,
        token.obtained_at.as_millis(),
        token.expires_at.as_millis(),
        peer.as_str(),
        now.as_millis(),
    );
    if db.change("writing a token", INJECT, params)? == 1 {
        return Ok(Imported::Written);
    }
    let row = (key.subject.as_bytes(), key.provider.as_str(), scope(key), key.credential.as_str());
    let giver: Option<Option<String>> = db.first("reading a token", KEPT, row, |row| row.get(0))?;
    Ok(Imported::Kept(if giver.flatten().is_some() { Origin::Injected } else { Origin::Learned }))
}

pub(in crate::store::sqlite) fn count(
    db: &Connection,
    peer: &PeerId,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let params = (peer.as_str(), now.as_millis());
    let count: Option<i64> = db.first("counting tokens", COUNT, params, |row| row.get(0))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

/// Tokens are of no kind of resource, and have no id.
pub(in crate::store::sqlite) fn revoke(
    db: &Connection,
    which: &Given,
    limit: usize,
) -> Result<u64, StoreError> {
    if which.kind.is_some() || which.id.is_some() {
        return Ok(0);
    }
    let provider = which.provider.as_ref().map(ProviderId::as_str);
    let revoked = db.change("revoking tokens", REVOKE, (which.peer.as_str(), provider, bound(limit)))?;
    Ok(revoked as u64)
}
