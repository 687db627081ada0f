//! The feed's promises.

use std::time::Duration;

use serde_json::json;
use standpipe_api::{Change, Event, Kind, NewEvent, Outdated, Resource, Scope, Timestamp};

use super::{Shared, live, namespace, pipe, put, scheduled};
use crate::store::{Namespace, Write};

fn event(name: &'static str) -> NewEvent {
    NewEvent::new("instance.created", &json!({ "name": name }))
}

async fn append(store: &Shared, name: &'static str) {
    store.apply(vec![Write::Event(event(name))]).await.unwrap();
}

async fn read(store: &Shared, after: u64) -> Vec<Event> {
    store.events(after, 100).await.unwrap().unwrap().events
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.payload["name"].as_str().unwrap()).collect()
}

fn later() -> Timestamp {
    Timestamp::now().plus(Duration::from_secs(60))
}

pub(in crate::store) async fn an_event_comes_back_as_it_was_written_behind_those_before(store: Shared) {
    let mut subject = Resource::new(Kind::of("binding"), "b\u{0}1").within("i1");
    subject.scope = Scope::tenant("blue");
    let full =
        event("a").about(subject).at("alpha".into()).owned(Some("basic:ada".into()), Some("blue".into()));
    let before = Timestamp::now();
    store.apply(vec![Write::Event(full.clone()), Write::Event(event("b"))]).await.unwrap();
    append(&store, "c").await;
    let events = read(&store, 0).await;
    assert_eq!(names(&events), ["a", "b", "c"]);
    assert!(events[0].at >= before && events[0].at <= Timestamp::now());
    assert_eq!(events[0], full.written(events[0].revision, events[0].at));
    assert_eq!(events[1], event("b").written(events[1].revision, events[1].at));
    assert!(events[0].revision < events[1].revision && events[1].revision < events[2].revision);
    let page = store.events(0, 2).await.unwrap().unwrap();
    assert_eq!(
        (names(&page.events), page.next, page.oldest),
        (vec!["a", "b"], events[1].revision, events[0].revision)
    );
    assert_eq!(names(&read(&store, page.next).await), ["c"]);
    let end = store.events(events[2].revision, 2).await.unwrap().unwrap();
    assert_eq!((end.events.len(), end.next), (0, events[2].revision));
}

pub(in crate::store) async fn an_event_is_written_with_all_that_it_tells_of_or_not_at_all(store: Shared) {
    let told = |name, expected| {
        vec![
            Change::Event(event(name)),
            put("operation/1", "settled", expected),
            Change::Learn(live("p")),
            scheduled("poll", Duration::from_secs(60)),
        ]
    };
    store.commit(&namespace(), told("first", None)).await.unwrap().unwrap();
    assert!(store.mapping(&pipe("p")).await.unwrap().is_some());
    store.commit(&namespace(), told("lost", None)).await.unwrap().unwrap_err();
    store
        .commit(&Namespace::extension("other"), vec![Change::Event(event("second"))])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(names(&read(&store, 0).await), ["first", "second"]);
}

pub(in crate::store) async fn followers_hear_of_an_event_when_it_can_be_read(store: Shared) {
    let mut last = store.last_event();
    assert_eq!(*last.borrow_and_update(), 0);
    store.apply(vec![Write::Put(live("p"))]).await.unwrap();
    assert!(!last.has_changed().unwrap(), "nothing has happened to the feed");
    let (_, heard) = futures_util::join!(append(&store, "a"), async {
        last.changed().await.unwrap();
        let last = *last.borrow_and_update();
        (last, names(&read(&store, 0).await).len())
    });
    assert_eq!(heard, (1, 1));
    append(&store, "b").await;
    assert_eq!(*store.last_event().borrow(), 2, "its writer is told last");
}

pub(in crate::store) async fn the_feed_loses_its_front_and_never_reuses_a_revision(store: Shared) {
    for name in ["a", "b", "c", "d", "e", "f"] {
        append(&store, name).await;
    }
    let long_ago = Timestamp::from_millis(1);
    assert_eq!(store.purge_events(long_ago, 6, 10).await.unwrap(), 0);
    assert_eq!(store.purge_events(long_ago, 3, 2).await.unwrap(), 2, "no more than asked for at once");
    assert_eq!(store.purge_events(long_ago, 3, 2).await.unwrap(), 1);
    assert_eq!(
        store.events(2, 10).await.unwrap(),
        Err(Outdated { oldest: 4, last: 6 }),
        "one event is missing"
    );
    assert_eq!(names(&read(&store, 3).await), ["d", "e", "f"], "none is");
    assert_eq!(store.purge_events(later(), 100, 10).await.unwrap(), 3);
    assert_eq!(store.events(5, 10).await.unwrap(), Err(Outdated { oldest: 7, last: 6 }));
    let end = store.events(6, 10).await.unwrap().unwrap();
    assert_eq!((end.events.len(), end.next, end.oldest), (0, 6, 7));
    append(&store, "g").await;
    assert_eq!(read(&store, 6).await[0].revision, 7);
    assert_eq!(store.events(8, 10).await.unwrap(), Err(Outdated { oldest: 7, last: 7 }), "never given");
    assert_eq!(*store.last_event().borrow(), 7);
}
