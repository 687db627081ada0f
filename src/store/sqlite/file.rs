//! The database file: made whole or not at all, refused unless it is ours, known, undamaged and under our key.
//!
//! A new database is built under another name and renamed, so that a file under the real name is always complete.
//! Everything that can refuse an existing one comes before the first write to it.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use standpipe_api::Timestamp;

use super::KEY_CHECK;
use super::rows::Rows as _;
use crate::store::StoreError;
use crate::store::seal::{Seal, sync_directory};

const FILE: &str = "standpipe.db";
const UNFINISHED: &str = "standpipe.db.new";
/// Marks the file as ours, where SQLite keeps an application id: `StPi`.
const APPLICATION_ID: u32 = 0x5374_5069;
/// Each script takes the schema to the version it is numbered with; `user_version` is the last one applied.
const MIGRATIONS: &[(u32, &str)] = &[
    (1, include_str!("../migrations/001_tables.sql")),
    (2, include_str!("../migrations/002_tokens.sql")),
    (3, include_str!("../migrations/003_audit.sql")),
    (4, include_str!("../migrations/004_peers.sql")),
    (5, include_str!("../migrations/005_providers.sql")),
    (6, include_str!("../migrations/006_events.sql")),
    (7, include_str!("../migrations/007_remarks.sql")),
    (8, include_str!("../migrations/008_tombstones.sql")),
];
const LATEST: u32 = match MIGRATIONS {
    [.., (latest, _)] => *latest,
    [] => 0,
};

/// The value whose sealed form tells whether a key is the right one.
const KEY_CHECK_VALUE: &[u8] = b"standpipe";

/// Up to this size the whole file is checked at start (well under a second); beyond, only the small tables are, and
/// damage in the large ones is found when it is read.
const CHECKED_WHOLE: u64 = 64 * 1024 * 1024;
const SMALL_TABLES: [&str; 5] = ["standpipe", "process_secret", "job", "token_mapping", "provider"];

/// SQLite's own file header: where it says what it is (<https://sqlite.org/fileformat2.html>, section 1.3).
const HEADER: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;

/// How long a connection waits for another one's lock; only the checkpoint and recovery ever hold one.
const BUSY: Duration = Duration::from_secs(5);

/// A database that has been checked and is ready.
pub(super) struct Database {
    path: PathBuf,
    /// Kept open until the writer takes it, so that the file is not tidied up in between.
    first: Connection,
}

pub(super) fn exists(data_dir: &Path) -> bool {
    // A log without its database is what an operator leaves who moved only half of it away.
    data_dir.join(FILE).exists() || data_dir.join(format!("{FILE}-wal")).exists()
}

/// Opens or creates the database and brings it up to date.
pub(super) fn prepare(data_dir: &Path, seal: &Seal) -> Result<Database, StoreError> {
    let path = data_dir.join(FILE);
    match read_header(&path)? {
        Some(header) => judge_header(&path, &header)?,
        None => create(data_dir, &path, seal)?,
    }
    let first = verify(&path, seal).map_err(|error| damaged(&path, error))?;
    let database = Database { path, first };
    database.update().map_err(|error| damaged(&database.path, error))?;
    Ok(database)
}

impl Database {
    /// The one connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        let db = connect(&self.path)?;
        pragmas(&db, &["synchronous = FULL", "cache_size = -65536"])?;
        Ok(db)
    }

    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        let db = connect(&self.path)?;
        pragmas(&db, &["query_only = ON", "cache_size = -16384"])?;
        Ok(db)
    }

    pub(super) fn failed(&self, doing: &'static str, source: std::io::Error) -> StoreError {
        StoreError::file(doing, &self.path, source)
    }

    /// Applies what is missing, and takes claims over that a crash left.
    fn update(&self) -> Result<(), StoreError> {
        let db = &self.first;
        let step = |doing, sql: &str| db.execute_batch(sql).map_err(StoreError::at(doing));
        let mode: String = db
            .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
            .map_err(StoreError::at("opening"))?;
        if mode != "wal" {
            let why = std::io::Error::other("the file system has no shared memory for its write-ahead log");
            return Err(self.failed("use", why));
        }
        pragmas(db, &["synchronous = FULL"])?;
        step("beginning", "BEGIN IMMEDIATE")?;
        migrate(db, version(db)?)?;
        let adopt = "UPDATE resource_mapping SET state = 'maybe', updated_at = ?1 WHERE state = 'intent'";
        db.change("adopting claims", adopt, [Timestamp::now().as_millis()])?;
        step("updating", "COMMIT")
    }
}

/// The file's first bytes, if there is a file. Read without SQLite, which may write even while opening.
fn read_header(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |source| StoreError::file("read", path, source);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut header = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut header).map_err(failed)?;
    Ok(Some(header))
}

fn judge_header(path: &Path, header: &[u8]) -> Result<(), StoreError> {
    let number = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let not_ours = |found: String| StoreError::NotOurs { path: path.to_owned(), found };
    if header.is_empty() {
        return Err(not_ours("it is empty".into()));
    }
    if !header.starts_with(MAGIC) {
        return Err(not_ours("it does not begin as an SQLite file does".into()));
    }
    let (Some(application), Some(version)) = (number(APPLICATION_ID_AT), number(USER_VERSION_AT)) else {
        return Err(not_ours("it ends within its header".into()));
    };
    if application != APPLICATION_ID {
        return Err(not_ours(format!("it is an SQLite file of application {application:#010x}")));
    }
    known(path, version)
}

fn known(path: &Path, version: u32) -> Result<(), StoreError> {
    let newer = StoreError::Newer { path: path.to_owned(), version, known: LATEST };
    if version > LATEST { Err(newer) } else { Ok(()) }
}

fn create(data_dir: &Path, path: &Path, seal: &Seal) -> Result<(), StoreError> {
    let log = data_dir.join(format!("{FILE}-wal"));
    if log.exists() {
        let found = "it is a write-ahead log whose database is gone; put the database back beside it".into();
        return Err(StoreError::NotOurs { path: log, found });
    }
    let unfinished = data_dir.join(UNFINISHED);
    let failed = |source| StoreError::file("create", &unfinished, source);
    for leftover in [unfinished.clone(), data_dir.join(format!("{UNFINISHED}-journal"))] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    // SQLite gives its log the mode of its database.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    drop(opened.map_err(failed)?);
    let db = connect(&unfinished)?;
    pragmas(&db, &["synchronous = FULL"])?;
    let step = |sql: &str| db.execute_batch(sql).map_err(StoreError::at("creating the database"));
    step(&format!("BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}"))?;
    migrate(&db, 0)?;
    let check = seal.seal(KEY_CHECK, KEY_CHECK_VALUE)?;
    let insert = "INSERT INTO standpipe (one, revisions, probed_at, key_check) VALUES (1, 0, 0, ?1)";
    db.change("creating the database", insert, [check])?;
    step("COMMIT")?;
    db.close().map_err(|(_, error)| StoreError::at("creating the database")(error))?;
    fs::rename(&unfinished, path).map_err(failed)?;
    sync_directory(data_dir)
}

/// Looks at everything that could forbid writing, and writes nothing.
fn verify(path: &Path, seal: &Seal) -> Result<Connection, StoreError> {
    let db = connect(path)?;
    // A refused database keeps even its log as it is.
    let keep_log = |on| db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on).map(drop);
    keep_log(true).map_err(StoreError::at("opening"))?;
    known(path, version(&db)?)?;
    let size = fs::metadata(path).map_err(|source| StoreError::file("read", path, source))?.len();
    if size <= CHECKED_WHOLE {
        quick_check(&db, path, "PRAGMA quick_check(1)")?;
    } else {
        for table in SMALL_TABLES {
            quick_check(&db, path, &format!("PRAGMA quick_check({table})"))?;
        }
    }
    let read = "SELECT key_check FROM standpipe";
    let check: Option<Vec<u8>> = db.first("reading the key check", read, [], |row| row.get(0))?;
    let detail = "its row `standpipe` is missing".to_owned();
    let check = check.ok_or_else(|| StoreError::Corrupt { path: path.to_owned(), detail })?;
    seal.known_as(&check);
    seal.open(KEY_CHECK, &check).map_err(|_| StoreError::WrongKey { path: path.to_owned() })?;
    keep_log(false).map_err(StoreError::at("opening"))?;
    Ok(db)
}

fn quick_check(db: &Connection, path: &Path, pragma: &str) -> Result<(), StoreError> {
    let found: String = db.query_row(pragma, [], |row| row.get(0)).map_err(StoreError::at("checking"))?;
    let corrupt = |detail| StoreError::Corrupt { path: path.to_owned(), detail };
    if found == "ok" { Ok(()) } else { Err(corrupt(found.lines().next().unwrap_or_default().to_owned())) }
}

/// What SQLite reports as damage while a file is opened becomes advice about that file.
fn damaged(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Database { doing, source }
            if matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ) =>
        {
            StoreError::Corrupt { path: path.to_owned(), detail: format!("{doing}: {source}") }
        }
        other => other,
    }
}

fn version(db: &Connection) -> Result<u32, StoreError> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(StoreError::at("reading the version"))
}

/// Within the caller's transaction.
fn migrate(db: &Connection, from: u32) -> Result<(), StoreError> {
    let step = |sql: &str| db.execute_batch(sql).map_err(StoreError::at("migrating the database"));
    for (version, script) in MIGRATIONS.iter().filter(|(version, _)| *version > from) {
        step(script)?;
        step(&format!("PRAGMA user_version = {version}"))?;
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // No mutex: each connection belongs to one thread at a time. No CREATE: that is for `create` alone.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(StoreError::at("opening"))?;
    db.busy_timeout(BUSY).map_err(StoreError::at("opening"))?;
    db.set_prepared_statement_cache_capacity(64);
    pragmas(
        &db,
        &[
            "wal_autocheckpoint = 0",
            "journal_size_limit = 67108864",
            "mmap_size = 268435456",
            "temp_store = MEMORY",
            "trusted_schema = OFF",
        ],
    )?;
    Ok(db)
}

fn pragmas(db: &Connection, settings: &[&str]) -> Result<(), StoreError> {
    // `execute_batch` steps over the rows that some pragmas answer with.
    let set = |setting: &&str| db.execute_batch(&format!("PRAGMA {setting}"));
    settings.iter().try_for_each(set).map_err(StoreError::at("opening"))
}
