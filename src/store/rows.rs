//! Rows to mappings and back.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use standpipe_api::{Hint, Kind, Mapping, MappingState, Origin, Resource, ResourceId, Scope, Timestamp};

use super::error::StoreError;

/// The columns of a mapping, in the order [`mapping`] reads them.
pub(super) const COLUMNS: &str = "kind, parent, id, scope, provider, endpoint, remote_scope, credential, owner, \
                                  hints, state, origin, created_at, updated_at, expires_at";

/// Reads a row of [`COLUMNS`].
pub(super) fn mapping(row: &Row<'_>) -> Result<Mapping, StoreError> {
    let text = |at: usize| row.get::<_, String>(at);
    let maybe = |at: usize| row.get::<_, Option<String>>(at);
    let parent = text(1)?;
    let scope = text(3)?;
    Ok(Mapping {
        resource: Resource {
            kind: Kind::read(text(0)?),
            parent: (!parent.is_empty()).then(|| ResourceId::from(parent)),
            id: text(2)?.into(),
            scope: if scope.is_empty() { Scope::SHARED } else { Scope::tenant(scope) },
        },
        provider: text(4)?.into(),
        endpoint: maybe(5)?,
        remote_scope: maybe(6)?.map(Into::into),
        credential: maybe(7)?.map(Into::into),
        owner: maybe(8)?.map(Into::into),
        hints: hints(&text(9)?)?,
        state: state(&text(10)?)?,
        origin: origin(&text(11)?)?,
        created_at: Timestamp::from_millis(row.get(12)?),
        updated_at: Timestamp::from_millis(row.get(13)?),
        expires_at: row.get::<_, Option<i64>>(14)?.map(Timestamp::from_millis),
    })
}

/// Reads the row of a resource, expired or not.
pub(super) fn find(db: &Connection, resource: &Resource) -> Result<Option<Mapping>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM resource_mapping WHERE kind = ?1 AND parent = ?2 AND id = ?3 AND scope = ?4"
    );
    let found = db.prepare_cached(&sql)?.query_row(key(resource), |row| Ok(mapping(row))).optional()?;
    found.transpose()
}

/// Writes a row, replacing one of the same key.
pub(super) fn write(db: &Connection, row: &Mapping) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT OR REPLACE INTO resource_mapping ({COLUMNS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
    );
    let (kind, parent, id, scope) = key(&row.resource);
    db.prepare_cached(&sql)?.execute(params![
        kind,
        parent,
        id,
        scope,
        row.provider.as_str(),
        row.endpoint,
        row.remote_scope.as_ref().map(|scope| scope.as_str()),
        row.credential.as_ref().map(|alias| alias.as_str()),
        row.owner.as_ref().map(|owner| owner.as_str()),
        write_hints(&row.hints),
        row.state.as_str(),
        row.origin.as_str(),
        row.created_at.as_millis(),
        row.updated_at.as_millis(),
        row.expires_at.map(Timestamp::as_millis),
    ])?;
    Ok(())
}

/// Removes the row of a resource.
pub(super) fn remove(db: &Connection, resource: &Resource) -> Result<(), StoreError> {
    let sql = "DELETE FROM resource_mapping WHERE kind = ?1 AND parent = ?2 AND id = ?3 AND scope = ?4";
    db.prepare_cached(sql)?.execute(key(resource))?;
    Ok(())
}

/// The key of a resource as its columns.
pub(super) fn key(resource: &Resource) -> (&str, &str, &str, &str) {
    let parent = resource.parent.as_ref().map_or("", ResourceId::as_str);
    (resource.kind.as_str(), parent, resource.id.as_str(), resource.scope.as_str())
}

fn state(word: &str) -> Result<MappingState, StoreError> {
    use MappingState::{Deleting, Gone, Intent, Live, Maybe};
    let known = [Intent, Maybe, Live, Deleting, Gone].into_iter().find(|state| state.as_str() == word);
    known.ok_or_else(|| StoreError::Row(format!("the state `{word}`")))
}

fn origin(word: &str) -> Result<Origin, StoreError> {
    use Origin::{Created, Imported, Injected, Learned, Listed};
    let known =
        [Created, Learned, Listed, Injected, Imported].into_iter().find(|origin| origin.as_str() == word);
    known.ok_or_else(|| StoreError::Row(format!("the origin `{word}`")))
}

/// Hints are a JSON array of pairs; most rows have none and hold the empty text.
fn hints(text: &str) -> Result<Vec<Hint>, StoreError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let pairs: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|error| StoreError::Row(error.to_string()))?;
    Ok(pairs.into_iter().map(|(kind, value)| Hint::new(Kind::read(kind), value)).collect())
}

fn write_hints(hints: &[Hint]) -> String {
    if hints.is_empty() {
        return String::new();
    }
    let pairs = hints.iter().map(|hint| serde_json::json!([hint.kind.as_str(), hint.value.as_str()]));
    serde_json::Value::Array(pairs.collect()).to_string()
}
