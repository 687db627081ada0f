//! The cache is never behind the store: proven step by step, and by a race.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use standpipe_api::MappingState;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::{live, pipe};
use crate::store::{MasterKey, Options, Sqlite};

fn cache(entries: u64) -> (TempDir, Mappings) {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path(), &MasterKey::from_bytes([1; 32]), &Options::default()).unwrap();
    let mappings = Mappings::new(Arc::new(store), entries);
    (dir, mappings)
}

fn to(id: &str, state: MappingState) -> Vec<Write> {
    vec![Write::State { resource: pipe(id), state, expires_at: None }]
}

#[tokio::test]
async fn rows_and_their_absence_are_loaded_once_and_seen_at_once_when_written() {
    let (_dir, mappings) = cache(100);
    assert_eq!(mappings.peek(&pipe("p")), None);
    assert_eq!(mappings.get(&pipe("p")).await.unwrap(), None);
    assert_eq!(mappings.peek(&pipe("p")), Some(None));
    assert_eq!(mappings.claim(live("p"), None).await.unwrap(), Claim::Taken);
    assert_eq!(mappings.get(&pipe("p")).await.unwrap().unwrap().state, MappingState::Intent);
    mappings.apply(to("p", MappingState::Live)).await.unwrap();
    assert_eq!(mappings.get(&pipe("p")).await.unwrap().unwrap().state, MappingState::Live);
    let cached = mappings.peek(&pipe("p")).unwrap().unwrap();
    assert!(Arc::ptr_eq(&cached, &mappings.get(&pipe("p")).await.unwrap().unwrap()));
    // Whoever writes past the cache, the cache hears of it.
    mappings.store().apply(vec![Write::Remove { resource: pipe("p") }]).await.unwrap();
    assert_eq!(mappings.get(&pipe("p")).await.unwrap(), None);
    assert_eq!(mappings.lookups(), (3, 4));
}

#[tokio::test]
async fn an_expired_row_is_not_served_from_memory() {
    let (_dir, mappings) = cache(100);
    let mut row = live("p");
    row.expires_at = Some(Timestamp::now().plus(Duration::from_millis(20)));
    mappings.apply(vec![Write::Put(row.clone())]).await.unwrap();
    let mut served = mappings.get(&pipe("p")).await.unwrap();
    while Timestamp::now() < row.expires_at.unwrap() {
        served = mappings.peek(&pipe("p")).unwrap_or_default();
        tokio::task::yield_now().await;
    }
    drop(served);
    assert_eq!(mappings.peek(&pipe("p")), Some(None));
    assert_eq!(mappings.get(&pipe("p")).await.unwrap(), None);
}

#[tokio::test]
async fn a_load_that_a_write_overtook_does_not_fill_the_slot() {
    let (_dir, mappings) = cache(100);
    mappings.apply(vec![Write::Put(live("p"))]).await.unwrap();
    let Join::Lead(lead, wait) = mappings.copies.loads.join(&pipe("p")) else {
        panic!("a load is under way")
    };
    let old = mappings.store().mapping(&pipe("p")).await.unwrap().map(Arc::new);
    mappings.apply(to("p", MappingState::Gone)).await.unwrap();
    // Asked after the write was acknowledged: the load that began before it is not good enough.
    let row = mappings.get(&pipe("p")).await.unwrap().unwrap();
    assert_eq!(row.state, MappingState::Gone);
    lead.tell_and_keep(Ok(old), |loaded| mappings.copies.keep(pipe("p"), loaded));
    assert_eq!(wait.value().await.unwrap().unwrap().unwrap().state, MappingState::Live);
    assert_eq!(mappings.peek(&pipe("p")).unwrap().unwrap().state, MappingState::Gone);
}

#[tokio::test]
async fn a_writer_that_leaves_before_its_answer_leaves_no_old_row_behind() {
    let (_dir, mappings) = cache(100);
    mappings.apply(vec![Write::Put(live("p"))]).await.unwrap();
    mappings.get(&pipe("p")).await.unwrap();
    {
        let mut write = std::pin::pin!(mappings.apply(to("p", MappingState::Gone)));
        // The writer's thread may be faster than this one; then nobody leaves too early, and all the same must hold.
        let _answered = futures_util::poll!(&mut write);
    }
    // Writes are done in order: when this one is acknowledged, so is the one before.
    mappings.apply(vec![]).await.unwrap();
    assert_eq!(mappings.get(&pipe("p")).await.unwrap().unwrap().state, MappingState::Gone);
}

#[tokio::test]
async fn many_readers_of_one_row_get_one_copy() {
    let (_dir, mappings) = cache(100);
    mappings.apply(vec![Write::Put(live("p"))]).await.unwrap();
    let resource = pipe("p");
    let rows = futures_util::future::join_all((0..100).map(|_| mappings.get(&resource))).await;
    let row = mappings.peek(&pipe("p")).unwrap().unwrap();
    assert!(rows.into_iter().all(|found| Arc::ptr_eq(&found.unwrap().unwrap(), &row)));
}

#[test]
fn a_load_whose_core_has_stopped_is_run_anew() {
    let (_dir, mappings) = cache(100);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let stopped = runtime();
    stopped.block_on(async {
        let resource = pipe("p");
        let mut first = std::pin::pin!(mappings.get(&resource));
        assert!(futures_util::poll!(&mut first).is_pending());
    });
    drop(stopped);
    assert_eq!(runtime().block_on(mappings.get(&pipe("p"))).unwrap(), None);
}

#[tokio::test]
async fn memory_is_bounded_for_rows_and_for_absent_ones() {
    let (_dir, mappings) = cache(50);
    mappings.apply((0..500).map(|number| Write::Put(live(&number.to_string()))).collect()).await.unwrap();
    for number in 0..1000 {
        mappings.get(&pipe(&number.to_string())).await.unwrap();
    }
    mappings.copies.rows.run_pending_tasks();
    let entries = mappings.copies.rows.entry_count();
    assert!((1..=50).contains(&entries), "{entries}");
}

/// One thread writes rising versions of a few rows and removes them now and then; others read. Nobody ever sees a row
/// older than the last one whose write had been acknowledged when the question was asked.
#[test]
fn a_reader_never_sees_a_row_older_than_an_acknowledged_write() {
    const ROWS: usize = 3;
    const WRITES: u64 = 2000;
    // One entry too few, so that slots are also emptied by eviction.
    let (_dir, mappings) = cache(ROWS as u64 - 1);
    let ids: [Resource; ROWS] = std::array::from_fn(|row| pipe(&row.to_string()));
    let acknowledged: [AtomicU64; ROWS] = Default::default();
    let done = AtomicBool::new(false);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let write = async {
        for version in 1..=WRITES {
            let row = version as usize % ROWS;
            let mut mapping = live(&row.to_string());
            // The absence of a row has no version: it is written and removed in one.
            mapping.provider = version.to_string().into();
            let put = vec![Write::Remove { resource: ids[row].clone() }, Write::Put(mapping)];
            mappings.apply(put).await.unwrap();
            acknowledged[row].store(version, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    };
    let read = async || {
        let mut reads = 0_usize;
        while !done.load(Ordering::SeqCst) {
            let row = reads % ROWS;
            let least = acknowledged[row].load(Ordering::SeqCst);
            let found = mappings.get(&ids[row]).await.unwrap();
            let version = found.map_or(0, |row| row.provider.as_str().parse().unwrap());
            assert!(version >= least, "row {row}: {version} after {least}");
            reads += 1;
            // Lets the loads of other readers on this thread go on.
            tokio::task::yield_now().await;
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| runtime().block_on(async { futures_util::join!(read(), read()) }));
        }
        runtime().block_on(write);
    });
}

#[tokio::test]
async fn a_list_is_remembered_until_one_of_its_kind_changes() {
    let folder = tempfile::tempdir().unwrap();
    let key = crate::store::MasterKey::parse(&"ab".repeat(32).into()).unwrap();
    let store = crate::store::Sqlite::open(folder.path(), &key, &crate::store::Options::default()).unwrap();
    let mappings = Mappings::new(Arc::new(store), 100);
    let put = |kind: &'static str, id: &str, provider: &str| {
        let resource = Resource::new(Kind::of(kind), id);
        mappings.apply(vec![Write::Put(Mapping::learned(resource, provider.into(), Timestamp::now()))])
    };
    let ids = async || {
        let rows = mappings.at(&"alpha".into(), &Kind::of("resource"), 10).await.unwrap();
        rows.iter().map(|row| row.resource.id.to_string()).collect::<Vec<_>>()
    };
    put("resource", "db", "alpha").await.unwrap();
    let first = mappings.at(&"alpha".into(), &Kind::of("resource"), 10).await.unwrap();
    put("pipe", "p", "alpha").await.unwrap();
    let second = mappings.at(&"alpha".into(), &Kind::of("resource"), 10).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "another kind changed");
    put("resource", "app", "alpha").await.unwrap();
    assert_eq!(ids().await, ["app", "db"], "whoever wrote it sees it");
    put("resource", "db", "beta").await.unwrap();
    assert_eq!(ids().await, ["app"]);
}
