//! What every backend must do; SQLite is the one there is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use standpipe_api::NewJob;

use super::*;

fn key() -> MasterKey {
    MasterKey::parse(&SecretString::from("11".repeat(32))).unwrap()
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(folder, key()).unwrap()
}

fn pipe(id: &str) -> Resource {
    Resource::new(Kind::of("pipe"), id).within("db")
}

fn claim(id: &str) -> Mapping {
    let learned = Mapping::learned(pipe(id), "alpha".into(), Timestamp::now());
    Mapping { state: MappingState::Intent, origin: Origin::Created, ..learned }
}

fn gone(id: &str, expires_at: Timestamp) -> Write {
    Write::State { resource: pipe(id), state: MappingState::Gone, expires_at: Some(expires_at) }
}

fn later() -> Timestamp {
    Timestamp::now().plus(Duration::from_secs(60))
}

#[tokio::test]
async fn a_claim_is_one_callers_and_a_tombstone_does_not_block_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert_eq!(store.claim(claim("a")).await.unwrap(), Claim::Taken);
    assert!(
        matches!(store.claim(claim("a")).await.unwrap(), Claim::Existing(row) if row.state == MappingState::Intent)
    );
    store.apply(vec![gone("a", later())]).await.unwrap();
    assert_eq!(
        store.mapping(&pipe("a")).await.unwrap().unwrap().state,
        MappingState::Gone,
        "it still routes"
    );
    assert_eq!(store.claim(claim("a")).await.unwrap(), Claim::Taken);
    let elsewhere = Resource::new(Kind::of("pipe"), "a").within("other");
    assert_eq!(
        store.mapping(&elsewhere).await.unwrap(),
        None,
        "the same name in another resource is another pipe"
    );
}

#[tokio::test]
async fn only_the_very_claim_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let own = claim("a");
    store.claim(own.clone()).await.unwrap();
    let other = Timestamp::from_millis(1);
    store.apply(vec![Write::DropClaim { resource: pipe("a"), created_at: other }]).await.unwrap();
    assert!(store.mapping(&pipe("a")).await.unwrap().is_some());
    store.apply(vec![Write::DropClaim { resource: pipe("a"), created_at: own.created_at }]).await.unwrap();
    assert_eq!(store.mapping(&pipe("a")).await.unwrap(), None);
}

#[tokio::test]
async fn what_expired_is_as_if_it_were_not_there_and_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.claim(claim("a")).await.unwrap();
    store.apply(vec![gone("a", Timestamp::from_millis(1))]).await.unwrap();
    assert_eq!(store.mapping(&pipe("a")).await.unwrap(), None);
    assert_eq!((store.count().await.unwrap(), store.purge(Timestamp::now(), 10).await.unwrap()), (1, 1));
    assert_eq!(store.count().await.unwrap(), 0);
}

#[tokio::test]
async fn an_import_never_replaces_what_another_origin_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.claim(claim("a")).await.unwrap();
    let imported = |id: &str| Mapping { origin: Origin::Imported, provider: "beta".into(), ..claim(id) };
    let told = store.import(vec![imported("a"), imported("b")]).await.unwrap();
    assert_eq!(told, [Imported::Kept(Origin::Created), Imported::Written]);
    assert_eq!(store.mapping(&pipe("a")).await.unwrap().unwrap().provider.as_str(), "alpha");
}

#[tokio::test]
async fn pages_follow_the_order_of_keys_and_filters_narrow_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in ["c", "a", "b", "ä", "'\n"] {
        store.claim(claim(id)).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.scan(Filter::default(), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.resource.clone());
        seen.extend(page.into_iter().map(|row| row.resource.id.as_str().to_owned()));
    }
    assert_eq!(seen, ["'\n", "a", "b", "c", "ä"]);
    let filter = Filter { provider: Some("beta".into()), ..Filter::default() };
    assert!(store.scan(filter, None, 9).await.unwrap().is_empty());
    assert_eq!(store.mappings_named(&Kind::of("pipe"), &"a".into(), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn records_change_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let space = Namespace::extension("x");
    let put =
        |key: &str, expected| Change::Put { key: key.into(), value: Bytes::from_static(b"secret"), expected };
    assert_eq!(store.commit(&space, vec![put("p/a", None), put("p/b", None)]).await.unwrap(), Ok(()));
    let lost = store.commit(&space, vec![put("p/c", None), put("p/a", None)]).await.unwrap();
    assert_eq!(lost, Err(Conflict { key: "p/a".into() }));
    assert_eq!(store.record(&space, "p/c").await.unwrap(), None);
    let keys: Vec<String> =
        store.records(&space, "p/", Some("p/a"), 9).await.unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(keys, ["p/b"]);
    let a = store.record(&space, "p/a").await.unwrap().unwrap();
    let remove = vec![Change::Remove { key: "p/a".into(), expected: a.revision }, Change::Learn(claim("a"))];
    assert_eq!(store.commit(&space, remove).await.unwrap(), Ok(()));
    assert!(store.mapping(&pipe("a")).await.unwrap().is_some(), "mappings are in the same transaction");
    assert!(store.commit(&space, vec![put("p/a", Some(a.revision))]).await.unwrap().is_err());
    let other = Namespace::provider("x", &"alpha".into());
    assert_eq!(store.record(&other, "p/b").await.unwrap(), None);
    let raw = std::fs::read(folder.path().join("standpipe.db-wal")).unwrap();
    assert!(!raw.windows(6).any(|window| window == b"secret"), "contents are sealed");
}

#[tokio::test]
async fn a_job_replaced_while_it_runs_stays_in_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let space = Namespace::extension("x");
    let schedule =
        |delay| Change::Schedule(NewJob { id: JobId("j".into()), payload: Bytes::from_static(b"p"), delay });
    store.commit(&space, vec![schedule(Duration::ZERO)]).await.unwrap().unwrap();
    let due = store.due_jobs(Timestamp::now(), 9).await.unwrap().pop().unwrap();
    store.commit(&space, vec![schedule(Duration::ZERO)]).await.unwrap().unwrap();
    store.finish_job(&due, JobOutcome::Done).await.unwrap();
    let again = store.due_jobs(Timestamp::now(), 9).await.unwrap().pop().unwrap();
    assert_ne!(again.generation, due.generation);
    let later = JobOutcome::Again {
        delay: Duration::from_secs(60),
        payload: Bytes::from_static(b"q"),
        reason: String::new(),
    };
    store.finish_job(&again, later).await.unwrap();
    assert!(store.due_jobs(Timestamp::now(), 9).await.unwrap().is_empty());
    assert!(store.next_job().await.unwrap().unwrap() > Timestamp::now());
}

#[tokio::test]
async fn a_claim_left_open_is_maybe_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.claim(claim("a")).await.unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.mapping(&pipe("a")).await.unwrap().unwrap().state, MappingState::Maybe);
    store.health().await.unwrap();
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_as_they_are() {
    let check = |prepare: &dyn Fn(&Path), word: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("standpipe.db");
        prepare(&path);
        let before = std::fs::read(&path).unwrap();
        let Err(error) = Sqlite::open(folder.path(), key()) else { panic!("accepted: {word}") };
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{word}");
    };
    check(
        &|path| std::fs::write(path, "not a database, but long enough to be looked at").unwrap(),
        "not a usable",
    );
    let run = |path: &Path, sql: &str| rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
    check(&|path| run(path, "CREATE TABLE x (y)"), "another program");
    check(
        &|path| run(path, "PRAGMA application_id = 1398031440; PRAGMA user_version = 99; CREATE TABLE x (y)"),
        "newer",
    );
}

#[test]
fn a_wrong_key_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let wrong = MasterKey::parse(&SecretString::from("22".repeat(32))).unwrap();
    let Err(error) = Sqlite::open(folder.path(), wrong) else { panic!("accepted") };
    assert!(error.to_string().contains("not the one this database was sealed under"), "{error}");
}

#[tokio::test]
async fn memory_follows_writes_however_loads_and_writes_meet() {
    let folder = tempfile::tempdir().unwrap();
    let mappings = Arc::new(Mappings::new(Arc::new(open(folder.path())), 100));
    assert_eq!(mappings.peek(&pipe("a")), None);
    assert_eq!(mappings.get(&pipe("a")).await.unwrap(), None);
    assert_eq!(mappings.peek(&pipe("a")), Some(None), "absence is remembered");
    mappings.claim(claim("a")).await.unwrap();
    for round in 0..200 {
        let state = if round % 2 == 0 { MappingState::Live } else { MappingState::Maybe };
        let write = Write::State { resource: pipe("a"), state, expires_at: None };
        let readers: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let mappings = mappings.clone();
                    async move { mappings.get(&pipe("a")).await.unwrap() }
                })
            })
            .collect();
        mappings.apply(vec![write]).await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(mappings.get(&pipe("a")).await.unwrap().unwrap().state, state, "round {round}");
    }
}
