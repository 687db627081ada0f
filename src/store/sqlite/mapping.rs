//! Mappings as rows.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params};
use standpipe_api::{
    Hint, Kind, Mapping, MappingState, PeerId, ProviderId, Resource, ResourceId, Scope, Timestamp,
};

use super::event;
use super::rows::{Rows as _, limit as bound};
use super::writer::Changed;
use crate::store::{Claim, Filter, Imported, StoreError, Write};

macro_rules! columns {
    () => {
        "kind, parent, id, scope, provider, endpoint, remote_scope, credential, owner, hints, state, origin, \
         created_at, updated_at, expires_at, tenant, peer"
    };
}

macro_rules! insert {
    () => {
        concat!(
            "INSERT INTO resource_mapping AS old (",
            columns!(),
            ") VALUES (:kind, :parent, :id, :scope, :provider, :endpoint, :remote_scope, :credential, :owner, \
             :hints, :state, :origin, :created_at, :updated_at, :expires_at, :tenant, :peer) \
             ON CONFLICT DO UPDATE SET provider = excluded.provider, endpoint = excluded.endpoint, \
             remote_scope = excluded.remote_scope, credential = excluded.credential, hints = excluded.hints, \
             state = excluded.state, updated_at = excluded.updated_at, expires_at = excluded.expires_at, "
        )
    };
}

macro_rules! take_over {
    () => {
        "owner = excluded.owner, tenant = excluded.tenant, origin = excluded.origin, created_at = excluded.created_at, \
         peer = excluded.peer"
    };
}

macro_rules! this_row {
    () => {
        "kind = :kind AND parent = :parent AND id = :id AND scope = :scope"
    };
}

macro_rules! current {
    () => {
        "(expires_at IS NULL OR expires_at > :now)"
    };
}

pub(super) mod given;
pub(super) mod purge;
#[cfg(test)]
mod questions;
#[cfg(test)]
pub(super) use questions::questions;

const FIND: &str =
    concat!("SELECT ", columns!(), " FROM resource_mapping WHERE ", this_row!(), " AND ", current!());
const NAMED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM resource_mapping WHERE kind = :kind AND id = :id AND ",
    current!(),
    " ORDER BY parent, scope LIMIT :limit"
);
// What a peer said is the claimer's own from now on, unless it named another provider.
const CLAIM: &str = concat!(
    insert!(),
    take_over!(),
    " WHERE old.state = 'gone' OR old.expires_at <= :now \
     OR (old.origin = 'injected' AND old.provider = excluded.provider)"
);
const IMPORT: &str = concat!(
    insert!(),
    take_over!(),
    " WHERE old.origin = excluded.origin OR old.state = 'gone' OR old.expires_at <= :now"
);
macro_rules! nobodys {
    () => {
        "old.state = 'gone' OR old.expires_at <= :now OR old.origin = 'injected'"
    };
}
// `iif` of a NULL condition takes the last branch: a row without an end has not expired. What is learned here takes
// the place of what a peer said.
const PUT: &str = concat!(
    insert!(),
    "owner = iif(",
    nobodys!(),
    ", excluded.owner, old.owner), tenant = iif(",
    nobodys!(),
    ", excluded.tenant, old.tenant), origin = iif(",
    nobodys!(),
    ", excluded.origin, old.origin), created_at = iif(",
    nobodys!(),
    ", excluded.created_at, old.created_at), peer = excluded.peer"
);
// Whoever saw a resource change has learned where it is.
const SET_STATE: &str = concat!(
    "UPDATE resource_mapping SET state = :state, updated_at = :now, expires_at = :expires_at, \
     origin = iif(origin = 'injected', 'learned', origin), peer = NULL WHERE ",
    this_row!(),
    " AND ",
    current!()
);
const DROP_CLAIM: &str = concat!(
    "DELETE FROM resource_mapping WHERE ",
    this_row!(),
    " AND state = 'intent' AND created_at = :created_at"
);
const REMOVE: &str = concat!("DELETE FROM resource_mapping WHERE ", this_row!());
// Only as far as it matters: a tenant with many does not cost more.
const HAS: &str = "SELECT count(*) FROM (SELECT 1 FROM resource_mapping INDEXED BY resource_mapping_by_creator \
     WHERE coalesce(tenant, owner) = :creator AND kind = :kind AND owner IS NOT NULL AND state <> 'gone' \
     AND (expires_at IS NULL OR expires_at > :now) LIMIT :quota)";
const COUNT: &str = "SELECT (SELECT count(*) FROM resource_mapping) - \
     (SELECT count(*) FROM resource_mapping WHERE expires_at <= :now)";

pub(super) fn find(
    db: &Connection,
    resource: &Resource,
    now: Timestamp,
) -> Result<Option<Mapping>, StoreError> {
    let (parent, now) = (parent(resource), now.as_millis());
    let params = named_params! {
        ":kind": resource.kind.as_str(), ":parent": parent, ":id": resource.id.as_str(),
        ":scope": resource.scope.as_str(), ":now": now,
    };
    db.first("reading a mapping", FIND, params, read)
}

pub(super) fn named(
    db: &Connection,
    kind: &Kind,
    id: &ResourceId,
    limit: usize,
) -> Result<Vec<Mapping>, StoreError> {
    let params = named_params! {
        ":kind": kind.as_str(), ":id": id.as_str(), ":limit": bound(limit),
        ":now": Timestamp::now().as_millis(),
    };
    db.all("reading mappings", NAMED, params, read)
}

/// The statement names only the filters that are set: each combination has its own plan along an index.
fn scan_statement(filter: &Filter, after: Option<&Resource>) -> String {
    let mut sql = concat!("SELECT ", columns!(), " FROM resource_mapping WHERE ", current!()).to_owned();
    let conditions = [
        (filter.provider.is_some(), " AND provider = :provider"),
        (filter.kind.is_some(), " AND kind = :in_kind"),
        (filter.parent.is_some(), " AND parent = :in_parent"),
        (filter.peer.is_some(), " AND peer = :peer"),
        (after.is_some(), " AND (kind, parent, id, scope) > (:kind, :parent, :id, :scope)"),
    ];
    conditions.into_iter().filter(|(set, _)| *set).for_each(|(_, condition)| sql.push_str(condition));
    sql.push_str(" ORDER BY kind, parent, id, scope LIMIT :limit");
    sql
}

pub(super) fn scan(
    db: &Connection,
    filter: &Filter,
    after: Option<&Resource>,
    limit: usize,
) -> Result<Vec<Mapping>, StoreError> {
    let sql = scan_statement(filter, after);
    let (now, limit) = (Timestamp::now().as_millis(), bound(limit));
    let filters = [
        (":provider", filter.provider.as_ref().map(ProviderId::as_str)),
        (":in_kind", filter.kind.as_ref().map(Kind::as_str)),
        (":in_parent", filter.parent.as_ref().map(ResourceId::as_str)),
        (":peer", filter.peer.as_ref().map(PeerId::as_str)),
        (":kind", after.map(|after| after.kind.as_str())),
        (":parent", after.map(parent)),
        (":id", after.map(|after| after.id.as_str())),
        (":scope", after.map(|after| after.scope.as_str())),
    ];
    let mut params: Vec<(&str, &dyn rusqlite::ToSql)> = vec![(":now", &now), (":limit", &limit)];
    params
        .extend(filters.iter().filter(|(_, value)| value.is_some()).map(|(name, value)| (*name, value as _)));
    db.all("reading mappings", &sql, params.as_slice(), read)
}

pub(super) fn count(db: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let count: Option<i64> =
        db.first("counting mappings", COUNT, named_params! { ":now": now.as_millis() }, |row| row.get(0))?;
    Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
}

pub(super) fn claim(
    db: &Connection,
    mut mapping: Mapping,
    quota: Option<u32>,
    changed: &mut Changed,
) -> Result<Claim, StoreError> {
    mapping.state = MappingState::Intent;
    let now = Timestamp::now();
    if let Some(quota) = quota
        && has_all(db, &mapping, quota, now)?
    {
        // What is there already takes no more room.
        let existing = find(db, &mapping.resource, now)?.filter(|row| row.state != MappingState::Gone);
        let over = StoreError::OverQuota { tenant: mapping.tenant, kind: mapping.resource.kind, most: quota };
        return existing.map(|row| Claim::Existing(Box::new(row))).ok_or(over);
    }
    if write(db, CLAIM, &mapping, now)? == 1 {
        changed.push(mapping.resource);
        return Ok(Claim::Taken);
    }
    match find(db, &mapping.resource, now)? {
        Some(existing) => Ok(Claim::Existing(Box::new(existing))),
        None => Err(undecided()),
    }
}

/// Whether the tenant that wants a resource has as many of its kind as its quota says.
fn has_all(db: &Connection, mapping: &Mapping, quota: u32, now: Timestamp) -> Result<bool, StoreError> {
    let owner = mapping.owner.as_ref().map(|owner| owner.as_str());
    let Some(creator) = mapping.tenant.as_deref().or(owner) else { return Ok(false) };
    let params = named_params! {
        ":creator": creator, ":kind": mapping.resource.kind.as_str(), ":quota": quota, ":now": now.as_millis(),
    };
    let has: Option<u32> = db.first("counting a tenant's resources", HAS, params, |row| row.get(0))?;
    Ok(has.unwrap_or(0) >= quota)
}

/// A row that was there a statement ago is not: the same clock and transaction decided both.
fn undecided() -> StoreError {
    StoreError::Row { what: "resource_mapping", found: "a row that counts and does not".into() }
}

pub(super) fn apply(db: &Connection, writes: Vec<Write>, changed: &mut Changed) -> Result<(), StoreError> {
    let now = Timestamp::now();
    for write in writes {
        let written = apply_one(db, write, now, changed)?;
        changed.extend(written);
    }
    Ok(())
}

/// The mapping that was written, if it was one.
fn apply_one(
    db: &Connection,
    write: Write,
    now: Timestamp,
    changed: &mut Changed,
) -> Result<Option<Resource>, StoreError> {
    match write {
        Write::Put(mapping) => put(db, &mapping, now).map(|()| Some(mapping.resource)),
        Write::State { resource, state, expires_at } => {
            set_state(db, &resource, state, expires_at, now).map(|()| Some(resource))
        }
        Write::DropClaim { resource, created_at } => {
            let params = named_params! {
                ":kind": resource.kind.as_str(), ":parent": parent(&resource), ":id": resource.id.as_str(),
                ":scope": resource.scope.as_str(), ":created_at": created_at.as_millis(),
            };
            db.change("dropping a claim", DROP_CLAIM, params)?;
            Ok(Some(resource))
        }
        Write::Remove { resource } => {
            let params = named_params! {
                ":kind": resource.kind.as_str(), ":parent": parent(&resource), ":id": resource.id.as_str(),
                ":scope": resource.scope.as_str(),
            };
            db.change("removing a mapping", REMOVE, params)?;
            Ok(Some(resource))
        }
        Write::Event(event) => event::append(db, &event, now, changed).map(|()| None),
    }
}

pub(super) fn put(db: &Connection, mapping: &Mapping, now: Timestamp) -> Result<(), StoreError> {
    write(db, PUT, mapping, now).map(drop)
}

pub(super) fn set_state(
    db: &Connection,
    resource: &Resource,
    state: MappingState,
    expires_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let params = named_params! {
        ":kind": resource.kind.as_str(), ":parent": parent(resource), ":id": resource.id.as_str(),
        ":scope": resource.scope.as_str(), ":state": state.as_str(), ":now": now.as_millis(),
        ":expires_at": expires_at.map(Timestamp::as_millis),
    };
    db.change("settling a mapping", SET_STATE, params).map(drop)
}

pub(super) fn import(
    db: &Connection,
    rows: Vec<Mapping>,
    changed: &mut Changed,
) -> Result<Vec<Imported>, StoreError> {
    let now = Timestamp::now();
    let import_one = |mut row: Mapping| {
        if row.state == MappingState::Intent {
            row.state = MappingState::Maybe;
        }
        if write(db, IMPORT, &row, now)? == 1 {
            changed.push(row.resource);
            return Ok(Imported::Written);
        }
        let kept = find(db, &row.resource, now)?.ok_or_else(undecided)?;
        Ok(Imported::Kept(kept.origin))
    };
    rows.into_iter().map(import_one).collect()
}

/// The number of rows written: 0 or 1.
fn write(db: &Connection, sql: &'static str, mapping: &Mapping, now: Timestamp) -> Result<usize, StoreError> {
    let hints: Vec<(&str, &str)> =
        mapping.hints.iter().map(|hint| (hint.kind.as_str(), hint.value.as_str())).collect();
    let hints = (!hints.is_empty()).then(|| serde_json::json!(hints).to_string());
    let params = named_params! {
        ":kind": mapping.resource.kind.as_str(), ":parent": parent(&mapping.resource),
        ":id": mapping.resource.id.as_str(), ":scope": mapping.resource.scope.as_str(),
        ":provider": mapping.provider.as_str(), ":endpoint": mapping.endpoint,
        ":remote_scope": mapping.remote_scope.as_ref().map(|scope| scope.as_str()),
        ":credential": mapping.credential.as_ref().map(|alias| alias.as_str()),
        ":owner": mapping.owner.as_ref().map(|owner| owner.as_str()), ":hints": hints,
        ":state": mapping.state.as_str(), ":origin": mapping.origin.as_str(),
        ":created_at": mapping.created_at.as_millis(), ":updated_at": mapping.updated_at.as_millis(),
        ":expires_at": mapping.expires_at.map(Timestamp::as_millis), ":tenant": mapping.tenant,
        ":peer": mapping.peer.as_ref().map(PeerId::as_str), ":now": now.as_millis(),
    };
    db.change("writing a mapping", sql, params)
}

fn parent(resource: &Resource) -> &str {
    resource.parent.as_ref().map_or("", ResourceId::as_str)
}

pub(super) fn read_resource(row: &Row<'_>) -> Result<Resource, rusqlite::Error> {
    let parent: String = row.get(1)?;
    let scope: String = row.get(3)?;
    Ok(Resource {
        kind: Kind::read(row.get(0)?),
        parent: (!parent.is_empty()).then(|| parent.into()),
        id: row.get::<_, String>(2)?.into(),
        scope: if scope.is_empty() { Scope::SHARED } else { Scope::tenant(scope) },
    })
}

fn read(row: &Row<'_>) -> Result<Mapping, rusqlite::Error> {
    let text = |at| row.get::<_, Option<String>>(at);
    let time = |at| row.get::<_, i64>(at).map(Timestamp::from_millis);
    let hints: Vec<(String, String)> = match text(9)? {
        Some(json) => serde_json::from_str(&json).map_err(|error| unreadable(9, error))?,
        None => Vec::new(),
    };
    Ok(Mapping {
        resource: read_resource(row)?,
        provider: row.get::<_, String>(4)?.into(),
        endpoint: text(5)?,
        remote_scope: text(6)?.map(Into::into),
        credential: text(7)?.map(Into::into),
        owner: text(8)?.map(Into::into),
        hints: hints.into_iter().map(|(kind, value)| Hint::new(Kind::read(kind), value)).collect(),
        state: word(row, 10)?,
        origin: word(row, 11)?,
        created_at: time(12)?,
        updated_at: time(13)?,
        expires_at: row.get::<_, Option<i64>>(14)?.map(Timestamp::from_millis),
        tenant: text(15)?,
        peer: text(16)?.map(Into::into),
    })
}

/// The contract reads its enums from words; the table holds the same words.
fn word<T: serde::de::DeserializeOwned>(row: &Row<'_>, at: usize) -> Result<T, rusqlite::Error> {
    let word: String = row.get(at)?;
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&word))
        .map_err(|error| unreadable(at, error))
}

fn unreadable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}
