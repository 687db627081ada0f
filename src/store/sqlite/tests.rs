//! The promises of every store, kept by SQLite; and what only a file can do wrong.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use standpipe_api::{Change, Mapping, MappingState, Resource, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::rows::Rows as _;
use super::{Options, Sqlite};
use crate::store::conformance::{live, pipe};
use crate::store::{DataDirLock, MasterKey, Namespace, Store, StoreError, Write};

fn key(byte: u8) -> MasterKey {
    MasterKey::from_bytes([byte; 32])
}

pub(super) fn reopen(dir: &Path) -> Sqlite {
    Sqlite::open(dir, &key(1), &Options::default()).unwrap()
}

fn empty() -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(reopen(dir.path()));
    (dir, store)
}

mod every_store {
    crate::store::conformance::conformance!(super::empty());
}

/// Names and contents of a directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        // The index of the log in shared memory, which every reader rebuilds; it holds nothing of its own.
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect()
}

/// Opening is refused, the error says what to do, and no byte changes.
#[track_caller]
fn refused(dir: &Path, key: MasterKey, words: &[&str]) {
    let before = contents(dir);
    let error = Sqlite::open(dir, &key, &Options::default()).err().expect("it opened").to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    let after = contents(dir);
    let nothing = Vec::new();
    for name in before.keys().chain(after.keys()) {
        let same = before.get(name).unwrap_or(&nothing) == after.get(name).unwrap_or(&nothing);
        assert!(same, "{name} changed");
    }
}

async fn filled() -> TempDir {
    let (dir, store) = empty();
    store.apply((0..100).map(|number| Write::Put(live(&number.to_string()))).collect()).await.unwrap();
    dir
}

fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join("standpipe.db")).unwrap()
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_anything_is_written() {
    let dir = filled().await;
    refused(dir.path(), key(2), &["master key does not open", "put the key back"]);
    assert_eq!(reopen(dir.path()).count().await.unwrap(), 100);
}

#[tokio::test]
async fn a_lost_key_is_not_replaced_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    drop(Sqlite::open(dir.path(), &MasterKey::in_file(&path).unwrap(), &Options::default()).unwrap());
    std::fs::remove_file(&path).unwrap();
    let error = MasterKey::in_file(&path).unwrap_err().to_string();
    assert!(error.contains("master.key is missing") && error.contains("put the file back"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_as_it_is() {
    let dir = filled().await;
    raw(dir.path()).execute_batch("PRAGMA user_version = 99").unwrap();
    refused(dir.path(), key(1), &["standpipe.db", "version 99", "newer standpipe"]);
}

#[tokio::test]
async fn a_newer_version_that_stands_only_in_the_log_is_refused() {
    let dir = filled().await;
    let writer = raw(dir.path());
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 99").unwrap();
    // Copied while open, as a crash leaves it.
    let crashed = tempfile::tempdir().unwrap();
    for (name, bytes) in contents(dir.path()) {
        std::fs::write(crashed.path().join(name), bytes).unwrap();
    }
    assert!(crashed.path().join("standpipe.db-wal").exists());
    refused(crashed.path(), key(1), &["version 99"]);
}

#[tokio::test]
async fn what_is_not_ours_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("standpipe.db");
    for (bytes, word) in [(&b""[..], "empty"), (b"hello, world", "begin"), (b"SQLite format 3\0", "header")] {
        std::fs::write(&file, bytes).unwrap();
        refused(dir.path(), key(1), &["not a standpipe database", word, "move it away"]);
    }
    std::fs::remove_file(&file).unwrap();
    raw(dir.path()).execute_batch("CREATE TABLE theirs (x); PRAGMA application_id = 7").unwrap();
    refused(dir.path(), key(1), &["not a standpipe database", "application 0x00000007"]);
    std::fs::rename(&file, dir.path().join("standpipe.db-wal")).unwrap();
    refused(dir.path(), key(1), &["write-ahead log whose database is gone"]);
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_left_as_it_is() {
    let dir = filled().await;
    let file = dir.path().join("standpipe.db");
    let whole = std::fs::read(&file).unwrap();
    // Every page but the first, which is judged by its header.
    for page in 1..whole.len() / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..][..64].fill(0xa5);
        std::fs::write(&file, bytes).unwrap();
        refused(dir.path(), key(1), &["standpipe.db is damaged", "from a copy"]);
    }
    std::fs::write(&file, &whole[..whole.len() - 4096]).unwrap();
    refused(dir.path(), key(1), &["standpipe.db is damaged"]);
}

#[tokio::test]
async fn a_creation_that_a_crash_cut_off_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("standpipe.db.new"), b"half").unwrap();
    std::fs::write(dir.path().join("standpipe.db.new-journal"), b"half").unwrap();
    let store = reopen(dir.path());
    store.health().await.unwrap();
    assert!(!dir.path().join("standpipe.db.new").exists());
}

#[tokio::test]
async fn files_are_for_their_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let _lock = DataDirLock::take(&dir).unwrap();
    let store =
        Sqlite::open(&dir, &MasterKey::in_file(&dir.join("master.key")).unwrap(), &Options::default())
            .unwrap();
    store.health().await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 5, "database, log, its index, key, lock: {files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
}

#[tokio::test]
async fn secrets_do_not_stand_in_any_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path());
    let needle = "correct horse battery staple";
    let namespace = Namespace::extension("test");
    let record = Change::Put { key: "k".into(), value: needle.into(), expected: None };
    let job = standpipe_api::NewJob {
        id: standpipe_api::JobId("j".into()),
        payload: needle.into(),
        delay: std::time::Duration::ZERO,
    };
    store.commit(&namespace, vec![record, Change::Schedule(job)]).await.unwrap().unwrap();
    store.put_secret_once("s", Zeroizing::new(needle.into())).await.unwrap();
    let found = |dir: &Path| {
        let holds = |bytes: &Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        contents(dir).values().filter(|bytes| holds(bytes)).count()
    };
    assert_eq!(found(dir.path()), 0);
    drop(store);
    assert_eq!(found(dir.path()), 0);
}

#[tokio::test]
async fn a_sealed_value_moved_to_another_row_does_not_open() {
    let (dir, store) = empty();
    let namespace = Namespace::extension("test");
    let put = |key: &str| Change::Put { key: key.into(), value: "v".into(), expected: None };
    let job = standpipe_api::NewJob {
        id: standpipe_api::JobId("j".into()),
        payload: "p".into(),
        delay: std::time::Duration::ZERO,
    };
    store.commit(&namespace, vec![put("a"), put("b"), Change::Schedule(job)]).await.unwrap().unwrap();
    let thief = raw(dir.path());
    let steal = "UPDATE record SET value = (SELECT value FROM record WHERE key = 'a') WHERE key = 'b';
                 UPDATE job SET payload = (SELECT value FROM record WHERE key = 'a')";
    thief.execute_batch(steal).unwrap();
    let error = store.record(&namespace, "b").await.unwrap_err().to_string();
    assert!(error.contains("record test b does not open"), "{error}");
    // A job that cannot run does not stand in front of the queue for ever; an operator sees why.
    assert_eq!(store.due_jobs(Timestamp::now(), 10).await.unwrap().len(), 0);
    let job = store.jobs(None, 10).await.unwrap().remove(0);
    assert_eq!(job.state, crate::store::JobState::Failed);
    assert!(job.reason.unwrap().contains("does not open"));
}

#[tokio::test]
async fn claims_that_a_crash_left_become_maybe_and_all_else_stays() {
    let (dir, store) = empty();
    store.claim(live("claimed"), None).await.unwrap();
    store.apply(vec![Write::Put(live("live"))]).await.unwrap();
    drop(store);
    let store = reopen(dir.path());
    let claimed = store.mapping(&pipe("claimed")).await.unwrap().unwrap();
    assert_eq!((claimed.state, claimed.created_at), (MappingState::Maybe, live("claimed").created_at));
    assert_eq!(store.mapping(&pipe("live")).await.unwrap(), Some(live("live")));
}

/// Holds the writer up until it is let go, so that what is queued meanwhile becomes one group.
struct Hold {
    release: std::sync::mpsc::Sender<()>,
    done: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Hold {
    async fn on(store: &Arc<Sqlite>) -> Self {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (started, starting) = tokio::sync::oneshot::channel();
        let store = store.clone();
        let done = tokio::spawn(async move {
            let hold = move |_: &Connection, _: &mut _| {
                started.send(()).unwrap();
                held.recv().unwrap();
                Ok(())
            };
            store.writer.write(hold).await
        });
        starting.await.unwrap();
        Self { release, done }
    }

    async fn end(self) {
        self.release.send(()).unwrap();
        self.done.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_write_that_fails_takes_no_other_of_its_group_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(reopen(dir.path()));
    let hold = Hold::on(&store).await;
    let good = |id: &'static str| {
        let put = vec![Write::Put(live(id))];
        store.apply(put)
    };
    let bad = store.writer.write(|db, changed| {
        super::mapping::apply(db, vec![Write::Put(live("undone"))], changed)?;
        db.change("failing", "INSERT INTO standpipe VALUES (2, 0, 0, x'')", []).map(drop)
    });
    let (first, bad, second, ()) = futures_util::join!(good("a"), bad, good("b"), hold.end());
    first.and(second).unwrap();
    let error = bad.unwrap_err();
    assert!(matches!(error, StoreError::Database { doing: "failing", .. }), "{error}");
    for (id, there) in [("a", true), ("undone", false), ("b", true)] {
        assert_eq!(store.mapping(&pipe(id)).await.unwrap().is_some(), there, "{id}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path());
    let pragma = |sql: String| {
        store.writer.write(move |db, _| {
            db.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(StoreError::at("setting"))
        })
    };
    let pages = pragma("PRAGMA page_count".into()).await.unwrap();
    pragma(format!("PRAGMA max_page_count = {pages}")).await.unwrap();
    let long = "x".repeat(2000);
    let fill = |number: u32| store.apply(vec![Write::Put(live(&format!("{long}{number}")))]);
    let mut written = 0;
    let error = loop {
        match fill(written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.count().await.unwrap(), u64::from(written), "what was acknowledged, and no more");
    pragma("PRAGMA max_page_count = 1000000".into()).await.unwrap();
    fill(written).await.unwrap();
    store.health().await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_the_database_ends_is_lost_for_its_whole_group_and_for_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(reopen(dir.path()));
    let hold = Hold::on(&store).await;
    // What SQLite does by itself when a disk fails in the middle.
    let ends = store
        .writer
        .write(|db, _| db.execute_batch("ROLLBACK").map_err(StoreError::at("ending the transaction")));
    let (before, ended, after, ()) =
        futures_util::join!(store.claim(live("a"), None), ends, store.claim(live("b"), None), hold.end());
    assert!(before.is_err() && ended.is_err() && after.is_err());
    assert_eq!(store.count().await.unwrap(), 0, "nobody was told otherwise");
    store.claim(live("a"), None).await.unwrap();
    store.health().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Arc::new(Sqlite::open(dir.path(), &key(1), &Options { queue: 1, ..Options::default() }).unwrap());
    let hold = Hold::on(&store).await;
    let refused = async {
        let error = store.claim(live("refused"), None).await.unwrap_err();
        assert!(matches!(error, StoreError::Overloaded { limit: 1 }), "{error}");
        hold.end().await;
    };
    futures_util::join!(store.claim(live("queued"), None), refused).0.unwrap();
}

#[tokio::test]
async fn the_log_is_copied_into_the_database_without_ending_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path());
    let long = "x".repeat(4000);
    let size = || std::fs::metadata(dir.path().join("standpipe.db")).unwrap().len();
    let before = size();
    for batch in 0..8 {
        let rows = (0..500).map(|number| Write::Put(live(&format!("{batch}-{number}-{long}")))).collect();
        store.apply(rows).await.unwrap();
    }
    assert!(size() > before + 4096 * 1000, "under load, the log is copied when it is long");
    let log = std::fs::metadata(dir.path().join("standpipe.db-wal")).unwrap().len();
    assert!(log < 64 << 20, "and begins anew: {log}");
}

/// Each way of reading follows an index: its cost does not grow with the table.
#[test]
fn no_question_reads_or_sorts_the_table() {
    let dir = tempfile::tempdir().unwrap();
    drop(reopen(dir.path()));
    let db = raw(dir.path());
    for (sql, index) in super::mapping::questions()
        .into_iter()
        .chain(super::audit::questions())
        .chain(super::event::questions())
    {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let plan: Vec<String> =
            statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap();
        let plan = plan.join("; ");
        assert!(plan.contains(index), "{sql}\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
}

#[tokio::test]
async fn ids_that_are_hostile_are_only_ids() {
    let (_dir, store) = empty();
    for id in ["", "'", "\"; DROP TABLE resource_mapping; --", "%", "\u{0}", "🦀", &"x".repeat(100_000)] {
        let resource = Resource::new(standpipe_api::Kind::of("pipe"), id);
        let row = Mapping::learned(resource, "alpha".into(), Timestamp::from_millis(1));
        store.apply(vec![Write::Put(row.clone())]).await.unwrap();
        assert_eq!(store.mapping(&row.resource).await.unwrap(), Some(row));
    }
}
