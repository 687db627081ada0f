//! SQLite: one file, WAL, one writer thread, a few readers.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use tokio::sync::oneshot;

use super::error::StoreError;
use super::seal::MasterKey;
use super::writer::Writer;

/// "STDP": tells our files from other people's databases.
const APPLICATION_ID: i64 = 0x5354_4450;
/// Applied in order; `user_version` counts them.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/001_tables.sql")];
/// Threads that read. Lookups take microseconds and the cache stands in front.
const READERS: usize = 2;
/// Reads waiting; beyond it a caller is told that the store is full.
const WAITING: usize = 4096;
/// What the key check value holds, under the right key.
const KEY_CHECK: &[u8] = b"standpipe";

type Task = Box<dyn FnOnce(&Connection) + Send>;

/// The tables in a file. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    pub(super) writer: Writer,
    readers: SyncSender<Task>,
    pub(super) key: Arc<MasterKey>,
}

impl Sqlite {
    /// Opens the database in a folder, or makes it. Nothing is written to a file that is not ours, is newer, is
    /// damaged, or was sealed under another key. Claims left open by a crash become `maybe`.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn open(data_dir: &Path, key: MasterKey) -> Result<Self, StoreError> {
        let path = data_dir.join("standpipe.db");
        let wrong = |source| StoreError::File { path: path.clone(), source };
        // SQLite would make it readable for everybody.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(wrong)?;
        let empty = file.metadata().map_err(wrong)?.len() == 0 && !has_log(&path);
        if !empty {
            inspect(&path)?;
        }
        let db = Connection::open(&path)?;
        configure(&db)?;
        migrate(&db)?;
        check_key(&db, &key)?;
        db.execute("UPDATE resource_mapping SET state = 'maybe' WHERE state = 'intent'", [])?;
        let (readers, tasks) = sync_channel(WAITING);
        start_readers(&path, tasks)?;
        let writer = Writer::start(db).map_err(wrong)?;
        Ok(Self { writer, readers, key: Arc::new(key) })
    }

    /// Runs a query on a reader thread.
    ///
    /// # Errors
    /// The query's own, or the readers are busy beyond measure.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let task: Task = Box::new(move |db| {
            // Whoever asked may have left.
            let _left = tell.send(work(db));
        });
        self.readers.try_send(task).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Unavailable("overloaded: too many reads wait"),
            TrySendError::Disconnected(_) => StoreError::Unavailable("closed"),
        })?;
        told.await.map_err(|_| StoreError::Unavailable("closed"))?
    }
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

/// Looks at a file without being able to change it.
fn inspect(path: &Path) -> Result<(), StoreError> {
    let unusable = |why: String| StoreError::Unusable { path: path.to_owned(), why };
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let pragma = |name: &str| {
        db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0))
            .map_err(|error| unusable(error.to_string()))
    };
    if pragma("application_id")? != APPLICATION_ID {
        return Err(unusable("it belongs to another program".into()));
    }
    let (found, known) = (pragma("user_version")?, MIGRATIONS.len() as i64);
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    // `quick_check` reads every page; on a large file only the schema and the first damage are looked for.
    let verdict = db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(unusable(verdict)),
        Err(error) => Err(unusable(error.to_string())),
    }
}

fn configure(db: &Connection) -> Result<(), StoreError> {
    // FULL: a commit that was answered is on the disk. Checkpoints run between commits, not inside one.
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
         PRAGMA busy_timeout = 5000; PRAGMA cache_size = -16384; PRAGMA mmap_size = 268435456;
         PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;",
    )?;
    Ok(())
}

fn migrate(db: &Connection) -> Result<(), StoreError> {
    let done: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(0);
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let version = at + 1;
        db.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn check_key(db: &Connection, key: &MasterKey) -> Result<(), StoreError> {
    let found = db.query_row("SELECT value FROM key_check", [], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    match found {
        Some(sealed) => key.open("key_check", &sealed).map(drop).map_err(|_| {
            StoreError::Key(
                "is not the one this database was sealed under; give it the right one back".into(),
            )
        }),
        None => {
            db.execute("INSERT INTO key_check VALUES (1, ?1)", [key.seal("key_check", KEY_CHECK)?])?;
            Ok(())
        }
    }
}

fn start_readers(path: &Path, tasks: Receiver<Task>) -> Result<(), StoreError> {
    let tasks = Arc::new(Mutex::new(tasks));
    for at in 0..READERS {
        let db = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        configure_reader(&db)?;
        let tasks = tasks.clone();
        let name = format!("store-reader-{at}");
        let started = thread::Builder::new().name(name).spawn(move || {
            loop {
                let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(task) = task else { return };
                task(&db);
            }
        });
        started.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn configure_reader(db: &Connection) -> Result<(), StoreError> {
    db.execute_batch(
        "PRAGMA busy_timeout = 5000; PRAGMA cache_size = -16384; PRAGMA mmap_size = 268435456;",
    )?;
    Ok(())
}
