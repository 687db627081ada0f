//! The records, jobs and secrets of the suite.

use super::*;

pub(in crate::store) async fn records_are_compared_and_set(store: Shared) {
    let namespace = namespace();
    let commit = |change| store.commit(&namespace, vec![change]);
    let conflict = Err(Conflict { key: "k".into() });
    assert_eq!(commit(put("k", "one", None)).await.unwrap(), Ok(()));
    assert_eq!(commit(put("k", "two", None)).await.unwrap(), conflict, "it exists");
    let first = store.record(&namespace, "k").await.unwrap().unwrap();
    assert_eq!((first.key.as_str(), &first.value[..]), ("k", &b"one"[..]));
    assert_eq!(commit(put("k", "two", Some(first.revision))).await.unwrap(), Ok(()));
    assert_eq!(
        commit(put("k", "three", Some(first.revision))).await.unwrap(),
        conflict,
        "it was read earlier"
    );
    let remove = |expected| Change::Remove { key: "k".into(), expected };
    assert_eq!(commit(remove(first.revision)).await.unwrap(), conflict);
    let second = store.record(&namespace, "k").await.unwrap().unwrap();
    assert_eq!(&second.value[..], b"two");
    assert_eq!(commit(remove(second.revision)).await.unwrap(), Ok(()));
    assert_eq!(store.record(&namespace, "k").await.unwrap(), None);
    assert_eq!(commit(put("k", "four", Some(second.revision))).await.unwrap(), conflict, "it is gone");
}

pub(in crate::store) async fn a_conflict_changes_nothing(store: Shared) {
    let twice = store.commit(&namespace(), vec![put("twice", "a", None), put("twice", "b", None)]).await;
    assert_eq!(twice.unwrap(), Err(Conflict { key: "twice".into() }), "the second has not read the first");
    assert_eq!(store.record(&namespace(), "twice").await.unwrap(), None);
    let changes = vec![
        put("new", "x", None),
        Change::Learn(live("p")),
        scheduled("j", Duration::ZERO),
        put("absent", "x", Some(7)),
    ];
    let lost = store.commit(&namespace(), changes).await.unwrap();
    assert_eq!(lost, Err(Conflict { key: "absent".into() }));
    assert_eq!(store.record(&namespace(), "new").await.unwrap(), None);
    assert_eq!((state_of(&store, "p").await, store.next_job().await.unwrap()), (None, None));
}

pub(in crate::store) async fn records_are_listed_by_prefix_in_pages(store: Shared) {
    let keys = ["a", "a/1", "a/2", "a/3", "a/\u{10ffff}", "a0", "b/1", "é/1", "é/2"];
    let changes = keys.into_iter().rev().map(|key| put(key, "v", None)).collect();
    store.commit(&namespace(), changes).await.unwrap().unwrap();
    for (prefix, after, limit, expected) in [
        ("a/", None, 10, vec!["a/1", "a/2", "a/3", "a/\u{10ffff}"]),
        ("a/", Some("a/1"), 2, vec!["a/2", "a/3"]),
        ("a/", Some("b"), 2, vec![]),
        ("é/", None, 10, vec!["é/1", "é/2"]),
        ("a/\u{10ffff}", None, 10, vec!["a/\u{10ffff}"]),
        ("", None, 3, vec!["a", "a/1", "a/2"]),
        ("nothing", None, 10, vec![]),
    ] {
        let records = store.records(&namespace(), prefix, after, limit).await.unwrap();
        let found: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
        assert_eq!(found, expected, "{prefix} {after:?} {limit}");
    }
}

pub(in crate::store) async fn records_mappings_and_jobs_are_committed_together(store: Shared) {
    let changes = vec![put("k", "v", None), Change::Learn(live("p")), scheduled("now", Duration::ZERO)];
    store.commit(&namespace(), changes).await.unwrap().unwrap();
    assert_eq!(state_of(&store, "p").await, Some(MappingState::Live));
    assert_eq!(store.due_jobs(Timestamp::now(), 10).await.unwrap().len(), 1);
    let changes = vec![Change::Forget(pipe("p")), Change::Cancel(JobId("now".into()))];
    store.commit(&namespace(), changes).await.unwrap().unwrap();
    let tombstone = store.mapping(&pipe("p")).await.unwrap().unwrap();
    assert_eq!(tombstone.state, MappingState::Gone);
    assert!(tombstone.expires_at.unwrap() > Timestamp::now());
    assert_eq!(store.next_job().await.unwrap(), None);
}

pub(in crate::store) async fn namespaces_are_strangers(store: Shared) {
    let other = Namespace::provider("cloudpipe", &"alpha".into());
    assert_eq!(other.parts(), ("cloudpipe", Some("alpha".into())));
    assert_eq!(namespace().parts(), ("cloudpipe", None));
    store
        .commit(&namespace(), vec![put("k", "v", None), scheduled("j", Duration::ZERO)])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(store.record(&other, "k").await.unwrap(), None);
    assert_eq!(store.records(&other, "", None, 10).await.unwrap(), []);
    store.commit(&other, vec![Change::Cancel(JobId("j".into()))]).await.unwrap().unwrap();
    assert_eq!(store.due_jobs(Timestamp::now(), 10).await.unwrap().len(), 1);
}

pub(in crate::store) async fn a_removed_record_never_gets_an_old_revision_again(store: Shared) {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        store.commit(&namespace(), vec![put("k", "v", None)]).await.unwrap().unwrap();
        let revision = store.record(&namespace(), "k").await.unwrap().unwrap().revision;
        assert!(seen.insert(revision), "a stale compare-and-set would succeed");
        let remove = Change::Remove { key: "k".into(), expected: revision };
        store.commit(&namespace(), vec![remove]).await.unwrap().unwrap();
    }
}

pub(in crate::store) async fn jobs_come_due_in_order_and_are_settled(store: Shared) {
    let now = Timestamp::now();
    let hour = Duration::from_secs(3600);
    let jobs = [("late", 2 * hour), ("soon", hour), ("now", Duration::ZERO)];
    let changes = jobs.into_iter().map(|(id, delay)| scheduled(id, delay)).collect();
    store.commit(&namespace(), changes).await.unwrap().unwrap();
    assert!(store.next_job().await.unwrap().unwrap() >= now);
    let due = store.due_jobs(now.plus(4 * hour), 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|due| due.job.id.0.as_str()).collect();
    assert_eq!(ids, ["now", "soon", "late"]);
    assert_eq!(store.due_jobs(now.plus(4 * hour), 1).await.unwrap().len(), 1);
    assert_eq!((&due[0].job.payload[..], due[0].job.attempts), (&b"payload"[..], 0));

    let again =
        JobOutcome::Again { delay: 3 * hour, payload: "left".into(), reason: "the broker sleeps".into() };
    store.finish_job(&due[0], again).await.unwrap();
    store.finish_job(&due[1], JobOutcome::NeedsCredentials { payload: "p".into() }).await.unwrap();
    store.finish_job(&due[2], JobOutcome::Failed("refused".into())).await.unwrap();
    let queued = store.jobs(None, 10).await.unwrap();
    let states: Vec<_> =
        queued.iter().map(|job| (job.id.0.as_str(), job.state, job.reason.as_deref())).collect();
    assert_eq!(states[0], ("late", JobState::Failed, Some("refused")));
    assert_eq!(states[1], ("now", JobState::Waiting, Some("the broker sleeps")));
    assert_eq!((states[2].0, states[2].1), ("soon", JobState::NeedsCredentials));
    let behind = (namespace(), JobId("now".into()));
    assert_eq!(store.jobs(Some(&behind), 10).await.unwrap(), queued[2..]);

    let due = store.due_jobs(now.plus(4 * hour), 10).await.unwrap();
    assert_eq!((due.len(), &due[0].job.payload[..], due[0].job.attempts), (1, &b"left"[..], 1));
    store.finish_job(&due[0], JobOutcome::Done).await.unwrap();
    assert_eq!((store.next_job().await.unwrap(), store.jobs(None, 10).await.unwrap().len()), (None, 2));
    store.commit(&namespace(), vec![scheduled("soon", Duration::ZERO)]).await.unwrap().unwrap();
    assert_eq!(store.due_jobs(Timestamp::now(), 10).await.unwrap().len(), 1, "scheduling wakes it");
}

pub(in crate::store) async fn a_job_scheduled_anew_while_it_runs_survives_its_old_run(store: Shared) {
    let outcomes = [
        JobOutcome::Done,
        JobOutcome::Failed("old".into()),
        JobOutcome::Again { delay: Duration::from_secs(3600), payload: "old".into(), reason: "old".into() },
        JobOutcome::NeedsCredentials { payload: "old".into() },
    ];
    for outcome in outcomes {
        store.commit(&namespace(), vec![scheduled("j", Duration::ZERO)]).await.unwrap().unwrap();
        let running = store.due_jobs(Timestamp::now(), 1).await.unwrap().remove(0);
        store.commit(&namespace(), vec![scheduled("j", Duration::ZERO)]).await.unwrap().unwrap();
        store.finish_job(&running, outcome).await.unwrap();
        let due = store.due_jobs(Timestamp::now(), 10).await.unwrap();
        assert_eq!((due.len(), &due[0].job.payload[..]), (1, &b"payload"[..]));
    }
}

pub(in crate::store) async fn the_first_secret_of_a_name_counts(store: Shared) {
    let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    assert_eq!(store.secret("hash-key").await.unwrap(), None);
    assert_eq!(store.put_secret_once("hash-key", secret("one")).await.unwrap(), secret("one"));
    assert_eq!(store.put_secret_once("hash-key", secret("two")).await.unwrap(), secret("one"));
    assert_eq!(store.secret("hash-key").await.unwrap(), Some(secret("one")));
    assert_eq!(store.secret("other").await.unwrap(), None);
}
