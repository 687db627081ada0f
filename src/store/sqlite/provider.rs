//! Providers registered at run time, as rows.

use rusqlite::{Connection, named_params};
use standpipe_api::{Availability, NewEvent, ProviderId, Timestamp};

use super::mapping;
use super::rows::Rows as _;
use super::writer::Changed;
use crate::store::seal::{Place, Seal};
use crate::store::{Held, KeptProvider, Removal, SecretBytes, StoreError};

/// Resources that are named where a provider cannot be removed.
const SHOWN: i64 = 5;

const ALL: &str = "SELECT name, registration, availability FROM provider ORDER BY place";
const REGISTER: &str = "INSERT INTO provider (name, registration, availability) VALUES (?1, ?2, 'active') \
     ON CONFLICT DO UPDATE SET registration = excluded.registration";
const AVAILABILITY: &str = "INSERT INTO provider (name, availability) VALUES (?1, ?2) \
     ON CONFLICT DO UPDATE SET availability = excluded.availability";
const TIDY: &str =
    "DELETE FROM provider WHERE name = ?1 AND registration IS NULL AND availability = 'active'";
const REMOVE: &str = "DELETE FROM provider WHERE name = ?1";
pub(super) const COUNT: &str = "SELECT count(*) FROM resource_mapping \
     WHERE provider = :provider AND state <> 'gone' AND (expires_at IS NULL OR expires_at > :now)";
pub(super) const HELD: &str = "SELECT kind, parent, id, scope FROM resource_mapping \
     WHERE provider = :provider AND state <> 'gone' AND (expires_at IS NULL OR expires_at > :now) \
     ORDER BY kind, parent, id, scope LIMIT :limit";

fn place(name: &str) -> Place<'_> {
    Place { table: "provider", namespace: "", key: name }
}

pub(super) fn all(db: &Connection, seal: &Seal) -> Result<Vec<KeptProvider>, StoreError> {
    let rows = db.all("reading providers", ALL, [], |row| {
        let (name, sealed): (String, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
        Ok((name, sealed, row.get::<_, String>(2)?))
    })?;
    let open = |(name, sealed, word): (String, Option<Vec<u8>>, String)| {
        let registration = sealed.map(|sealed| seal.open(place(&name), &sealed)).transpose()?;
        let unknown = || StoreError::Row { what: "provider", found: word.clone() };
        let availability = Availability::of(&word).ok_or_else(unknown)?;
        Ok(KeptProvider { name: name.into(), registration, availability })
    };
    rows.into_iter().map(open).collect()
}

pub(super) fn register(
    db: &Connection,
    seal: &Seal,
    name: &ProviderId,
    registration: &SecretBytes,
) -> Result<(), StoreError> {
    let sealed = seal.seal(place(name.as_str()), registration)?;
    db.change("registering a provider", REGISTER, (name.as_str(), sealed)).map(drop)
}

pub(super) fn set_availability(
    db: &Connection,
    name: &ProviderId,
    availability: Availability,
) -> Result<(), StoreError> {
    let params = (name.as_str(), availability.as_str());
    db.change("draining a provider", AVAILABILITY, params)?;
    // A configured provider of which nothing is left to say has no row.
    db.change("draining a provider", TIDY, [name.as_str()]).map(drop)
}

pub(super) fn held(db: &Connection, name: &ProviderId, now: Timestamp) -> Result<Held, StoreError> {
    let (provider, now) = (name.as_str(), now.as_millis());
    let params = named_params! { ":provider": provider, ":now": now };
    let count = db.first("counting a provider's mappings", COUNT, params, |row| row.get::<_, i64>(0))?;
    let params = named_params! { ":provider": provider, ":now": now, ":limit": SHOWN };
    let some = db.all("reading a provider's mappings", HELD, params, mapping::read_resource)?;
    Ok(Held { count: u64::try_from(count.unwrap_or(0)).unwrap_or(0), some })
}

pub(super) fn remove(
    db: &Connection,
    name: &ProviderId,
    removal: Removal,
    event: &NewEvent,
    changed: &mut Changed,
) -> Result<Held, StoreError> {
    let now = Timestamp::now();
    let held = held(db, name, now)?;
    if held.count == 0 || removal == Removal::Forced {
        db.change("removing a provider", REMOVE, [name.as_str()])?;
        super::event::append(db, event, now, changed)?;
    }
    Ok(held)
}
