//! Everything sealed, sealed anew under another master key: one transaction, so that a crash leaves the database
//! whole under the one key or whole under the other.

use rusqlite::{Connection, ToSql, params_from_iter};

use super::rows::Rows as _;
use super::{KEY_CHECK, token};
use crate::store::seal::{Place, Seal};
use crate::store::{MasterKey, StoreError};

/// Rows read at once.
const BATCH: usize = 500;

/// A table with a sealed column, and the columns of its primary key.
struct Sealed {
    table: &'static str,
    /// Selects key columns and value behind a key, in key order, at most `BATCH`.
    page: &'static str,
    update: &'static str,
    place: fn(&[Column]) -> Option<(String, String)>,
}

/// A column of a primary key.
#[derive(Clone)]
enum Column {
    Text(String),
    Blob(Vec<u8>),
}

const TABLES: [Sealed; 5] = [
    Sealed {
        table: "record",
        page: "SELECT value, namespace, key FROM record WHERE (namespace, key) > (?1, ?2) \
               ORDER BY namespace, key LIMIT 500",
        update: "UPDATE record SET value = ?1 WHERE namespace = ?2 AND key = ?3",
        place: pair,
    },
    Sealed {
        table: "job",
        page: "SELECT payload, namespace, id FROM job WHERE (namespace, id) > (?1, ?2) \
               ORDER BY namespace, id LIMIT 500",
        update: "UPDATE job SET payload = ?1 WHERE namespace = ?2 AND id = ?3",
        place: pair,
    },
    Sealed {
        table: "process_secret",
        page: "SELECT value, name FROM process_secret WHERE name > ?1 ORDER BY name LIMIT 500",
        update: "UPDATE process_secret SET value = ?1 WHERE name = ?2",
        place: name,
    },
    Sealed {
        table: "provider",
        page: "SELECT registration, name FROM provider WHERE name > ?1 AND registration IS NOT NULL \
               ORDER BY name LIMIT 500",
        update: "UPDATE provider SET registration = ?1 WHERE name = ?2",
        place: name,
    },
    Sealed {
        table: "token_mapping",
        page: "SELECT value, subject, provider, remote_scope, credential FROM token_mapping \
               WHERE (subject, provider, remote_scope, credential) > (?1, ?2, ?3, ?4) \
               ORDER BY subject, provider, remote_scope, credential LIMIT 500",
        update: "UPDATE token_mapping SET value = ?1 \
                 WHERE subject = ?2 AND provider = ?3 AND remote_scope = ?4 AND credential = ?5",
        place: |key| match key {
            [Column::Blob(subject), Column::Text(provider), Column::Text(scope), Column::Text(alias)] => {
                Some((provider.clone(), token::place_key(subject, scope, alias)))
            }
            _ => None,
        },
    },
];

fn name(key: &[Column]) -> Option<(String, String)> {
    match key {
        [Column::Text(name)] => Some((String::new(), name.clone())),
        _ => None,
    }
}

fn pair(key: &[Column]) -> Option<(String, String)> {
    match key {
        [Column::Text(namespace), Column::Text(key)] => Some((namespace.clone(), key.clone())),
        _ => None,
    }
}

impl ToSql for Column {
    fn to_sql(&self) -> Result<rusqlite::types::ToSqlOutput<'_>, rusqlite::Error> {
        match self {
            Self::Text(text) => text.to_sql(),
            Self::Blob(bytes) => bytes.to_sql(),
        }
    }
}

/// Within the writer's savepoint; the seal goes on under the new key before the first row is written. Values that do
/// not open under the old key were damaged before and stay as they are.
pub(super) fn reseal_all(db: &Connection, seal: &Seal, key: &MasterKey) -> Result<u64, StoreError> {
    seal.go_on(key)?;
    let resealed = TABLES.iter().try_fold(0, |count, sealed| Ok(count + sealed.reseal(db, seal)?));
    let checked = resealed.and_then(|count: u64| {
        let check: Vec<u8> = db
            .first("reading the key check", "SELECT key_check FROM standpipe", [], |row| row.get(0))?
            .ok_or_else(|| StoreError::Row { what: "standpipe", found: "no row".into() })?;
        let sealed = seal.seal(KEY_CHECK, &seal.open(KEY_CHECK, &check)?)?;
        db.change("writing the key check", "UPDATE standpipe SET key_check = ?1", [sealed])?;
        Ok(count + 1)
    });
    // The savepoint is undone alone, and nothing else will tell the seal.
    checked.inspect_err(|_| seal.go_back())
}

impl Sealed {
    fn reseal(&self, db: &Connection, seal: &Seal) -> Result<u64, StoreError> {
        let columns = self.update.matches('?').count() - 1;
        let mut after: Vec<Column> = match self.table {
            "token_mapping" => std::iter::once(Column::Blob(Vec::new()))
                .chain((1..columns).map(|_| Column::Text(String::new())))
                .collect(),
            _ => (0..columns).map(|_| Column::Text(String::new())).collect(),
        };
        let mut count = 0;
        loop {
            let rows = db.all("reading sealed values", self.page, params_from_iter(&after), |row| {
                let sealed: Vec<u8> = row.get(0)?;
                let columns = row.as_ref().column_count();
                let key: Result<Vec<Column>, rusqlite::Error> =
                    (1..columns).map(|at| column(row, at)).collect();
                Ok((sealed, key?))
            })?;
            for (sealed, key) in &rows {
                count += u64::from(self.reseal_one(db, seal, sealed, key)?);
            }
            match rows.into_iter().nth(BATCH - 1) {
                Some((_, last)) => after = last,
                None => return Ok(count),
            }
        }
    }

    fn reseal_one(
        &self,
        db: &Connection,
        seal: &Seal,
        sealed: &[u8],
        key: &[Column],
    ) -> Result<bool, StoreError> {
        let Some((namespace, name)) = (self.place)(key) else { return Ok(false) };
        let place = Place { table: self.table, namespace: &namespace, key: &name };
        let Ok(value) = seal.open(place, sealed) else {
            tracing::error!(table = self.table, "a sealed value does not open and stays as it is");
            return Ok(false);
        };
        let value = Column::Blob(seal.seal(place, &value)?);
        let params = std::iter::once(&value).chain(key);
        db.change("writing a sealed value", self.update, params_from_iter(params)).map(|changed| changed > 0)
    }
}

fn column(row: &rusqlite::Row<'_>, at: usize) -> Result<Column, rusqlite::Error> {
    match row.get_ref(at)? {
        rusqlite::types::ValueRef::Blob(bytes) => Ok(Column::Blob(bytes.to_vec())),
        other => Ok(Column::Text(other.as_str()?.to_owned())),
    }
}
