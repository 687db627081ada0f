//! Token mappings as rows.

use rusqlite::{Connection, Row};
use standpipe_api::Timestamp;

use super::rows::{Rows as _, limit as bound};
use crate::store::StoreError;
use crate::store::seal::{Place, Seal};
use crate::store::tokens::{StoredToken, Subject, TokenFilter, TokenKey, TokenRow, hex};

pub(super) mod given;

const FIND: &str = "SELECT kind, settings, value, obtained_at, expires_at FROM token_mapping \
     WHERE subject = ?1 AND provider = ?2 AND remote_scope = ?3 AND credential = ?4 AND expires_at > ?5";
const PUT: &str = "INSERT OR REPLACE INTO token_mapping \
     (subject, provider, remote_scope, credential, kind, settings, value, obtained_at, expires_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const REMOVE: &str = "DELETE FROM token_mapping \
     WHERE subject = ?1 AND provider = ?2 AND remote_scope = ?3 AND credential = ?4";
const LIST: &str = "SELECT subject, provider, remote_scope, credential, kind, obtained_at, expires_at, peer \
     FROM token_mapping WHERE (subject, provider, remote_scope, credential) > (?1, ?2, ?3, ?4) \
     AND (?5 IS NULL OR provider = ?5) AND expires_at > ?6 AND (?7 IS NULL OR peer = ?7) \
     ORDER BY subject, provider, remote_scope, credential LIMIT ?8";
const PURGE: &str = "DELETE FROM token_mapping WHERE (subject, provider, remote_scope, credential) IN \
     (SELECT subject, provider, remote_scope, credential FROM token_mapping \
     WHERE (?1 IS NULL OR provider = ?1) AND expires_at <= ?2 LIMIT ?3)";

/// What of a key the seal binds a value to, beside the provider.
pub(super) fn place_key(subject: &[u8], remote_scope: &str, credential: &str) -> String {
    format!("{}/{}/{credential}/{remote_scope}", hex(subject), credential.len())
}

fn scope(key: &TokenKey) -> &str {
    key.remote_scope.as_ref().map_or("", |scope| scope.as_str())
}

pub(super) fn find(
    db: &Connection,
    seal: &Seal,
    key: &TokenKey,
    now: Timestamp,
) -> Result<Option<StoredToken>, StoreError> {
    let params =
        (key.subject.as_bytes(), key.provider.as_str(), scope(key), key.credential.as_str(), now.as_millis());
    let row = db.first("reading a token", FIND, params, |row| {
        let (kind, settings): (String, [u8; 32]) = (row.get(0)?, row.get(1)?);
        let (sealed, obtained, expires): (Vec<u8>, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((kind, settings, sealed, Timestamp::from_millis(obtained), Timestamp::from_millis(expires)))
    })?;
    let Some((kind, settings, sealed, obtained_at, expires_at)) = row else { return Ok(None) };
    let bound_to = place_key(key.subject.as_bytes(), scope(key), key.credential.as_str());
    let place = Place { table: "token_mapping", namespace: key.provider.as_str(), key: &bound_to };
    let value = seal.open(place, &sealed)?;
    Ok(Some(StoredToken { kind, settings, value, obtained_at, expires_at }))
}

pub(super) fn put(
    db: &Connection,
    seal: &Seal,
    key: &TokenKey,
    token: &StoredToken,
) -> Result<(), StoreError> {
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
    );
    db.change("writing a token", PUT, params).map(drop)
}

pub(super) fn remove(db: &Connection, key: &TokenKey) -> Result<(), StoreError> {
    let params = (key.subject.as_bytes(), key.provider.as_str(), scope(key), key.credential.as_str());
    db.change("removing a token", REMOVE, params).map(drop)
}

pub(super) fn list(
    db: &Connection,
    filter: &TokenFilter,
    after: Option<&TokenKey>,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<TokenRow>, StoreError> {
    let provider = filter.provider.as_ref().map(|provider| provider.as_str());
    let behind = after.map_or((&[][..], "", "", ""), |key| {
        (key.subject.as_bytes(), key.provider.as_str(), scope(key), key.credential.as_str())
    });
    let peer = filter.peer.as_ref().map(|peer| peer.as_str());
    let params = (behind.0, behind.1, behind.2, behind.3, provider, now.as_millis(), peer, bound(limit));
    db.all("reading tokens", LIST, params, row)
}

fn row(row: &Row<'_>) -> Result<TokenRow, rusqlite::Error> {
    let (subject, provider): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
    let (remote_scope, credential): (String, String) = (row.get(2)?, row.get(3)?);
    let key = TokenKey {
        subject: Subject::hashed(&subject),
        provider: provider.into(),
        remote_scope: Some(remote_scope).filter(|scope| !scope.is_empty()).map(Into::into),
        credential: credential.into(),
    };
    let (kind, obtained, expires): (String, i64, i64) = (row.get(4)?, row.get(5)?, row.get(6)?);
    let (obtained_at, expires_at) = (Timestamp::from_millis(obtained), Timestamp::from_millis(expires));
    let peer: Option<String> = row.get(7)?;
    Ok(TokenRow { key, kind, obtained_at, expires_at, peer: peer.map(Into::into) })
}

pub(super) fn purge(db: &Connection, filter: &TokenFilter, limit: usize) -> Result<usize, StoreError> {
    let provider = filter.provider.as_ref().map(|provider| provider.as_str());
    let ended = filter.ended_before.map_or(i64::MAX, Timestamp::as_millis);
    db.change("removing tokens", PURGE, (provider, ended, bound(limit)))
}
