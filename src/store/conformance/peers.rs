//! Promises about what other standpipes gave.

use std::time::Duration;

use standpipe_api::{Kind, Mapping, MappingState, Origin, Timestamp};

use super::{Shared, created, ended, live, pipe, write};
use crate::store::{Claim, Filter, Given, Imported, Write};

/// A row that the peer `west` gave at a moment, in milliseconds, and that counts for a minute.
fn given(id: &str, at: i64) -> Mapping {
    Mapping {
        origin: Origin::Injected,
        peer: Some("west".into()),
        updated_at: Timestamp::from_millis(at),
        expires_at: Some(Timestamp::now().plus(Duration::from_secs(60))),
        ..live(id)
    }
}

async fn found(store: &Shared, id: &str) -> Option<Mapping> {
    store.mapping(&pipe(id)).await.unwrap()
}

pub(in crate::store) async fn what_a_peer_gives_replaces_nothing_of_others(store: Shared) {
    let mut tombstone = created("tombstone", 1);
    tombstone.state = MappingState::Gone;
    let expired = Mapping { expires_at: ended(), ..created("expired", 1) };
    let other = Mapping { peer: Some("east".into()), ..given("other", 1) };
    for row in [created("held", 1), tombstone, expired] {
        write(&store, Write::Put(row)).await;
    }
    assert_eq!(
        store.inject(vec![other.clone(), given("own", 5)], Vec::new()).await.unwrap().mappings,
        [Imported::Written; 2]
    );
    let older = Mapping { provider: "beta".into(), ..given("own", 4) };
    let ids = ["held", "tombstone", "expired", "other", "new"];
    let rows: Vec<Mapping> = ids.iter().map(|id| given(id, 5)).chain([older]).collect();
    let kept = |origin| Imported::Kept(origin);
    let expected = [
        kept(Origin::Created),
        Imported::Written,
        Imported::Written,
        kept(Origin::Injected),
        Imported::Written,
        kept(Origin::Injected),
    ];
    for _ in 0..2 {
        assert_eq!(
            store.inject(rows.clone(), Vec::new()).await.unwrap().mappings,
            expected,
            "the same again comes to the same"
        );
    }
    assert_eq!(found(&store, "held").await, Some(created("held", 1)));
    assert_eq!(found(&store, "other").await, Some(other));
    for (at, id) in ids.iter().enumerate().filter(|(at, _)| ![0, 3].contains(at)) {
        assert_eq!(found(&store, id).await.as_ref(), rows.get(at), "{id}");
    }
    let newer = Mapping { provider: "beta".into(), ..given("own", 6) };
    assert_eq!(store.inject(vec![newer.clone()], Vec::new()).await.unwrap().mappings, [Imported::Written]);
    assert_eq!(found(&store, "own").await, Some(newer));
}

pub(in crate::store) async fn what_happens_here_takes_the_place_of_what_a_peer_said(store: Shared) {
    let all = ["put", "state", "claim", "claimed-elsewhere"].map(|id| given(id, 5));
    store.inject(all.to_vec(), Vec::new()).await.unwrap();
    write(&store, Write::Put(live("put"))).await;
    assert_eq!(found(&store, "put").await, Some(live("put")), "learned, and without an end");
    let deleting = Write::State { resource: pipe("state"), state: MappingState::Deleting, expires_at: None };
    write(&store, deleting).await;
    let row = found(&store, "state").await.unwrap();
    assert_eq!((row.origin, row.peer, row.expires_at), (Origin::Learned, None, None));
    assert_eq!(store.claim(created("claim", 7), None).await.unwrap(), Claim::Taken);
    let row = found(&store, "claim").await.unwrap();
    assert_eq!((row.state, row.origin, row.peer), (MappingState::Intent, Origin::Created, None));
    let elsewhere = Mapping { provider: "beta".into(), ..created("claimed-elsewhere", 7) };
    let claim = store.claim(elsewhere, None).await.unwrap();
    assert_eq!(
        claim,
        Claim::Existing(Box::new(all[3].clone())),
        "two providers are no claim's to choose from"
    );
}

pub(in crate::store) async fn what_a_peer_gave_is_counted_listed_and_revoked(store: Shared) {
    let east = Mapping { peer: Some("east".into()), ..given("east", 1) };
    let beta = Mapping { provider: "beta".into(), ..given("beta", 1) };
    let rows = vec![given("a", 1), given("b", 1), beta.clone(), east.clone()];
    store.inject(rows.clone(), Vec::new()).await.unwrap();
    write(&store, Write::Put(live("own"))).await;
    let west = "west".into();
    assert_eq!(store.count_given(&west).await.unwrap().mappings, 3);
    let filter = Filter { peer: Some(west.clone()), ..Filter::default() };
    assert_eq!(store.scan(filter.clone(), None, 10).await.unwrap(), rows[..3]);
    assert_eq!(store.scan(filter, Some(pipe("a")), 1).await.unwrap(), rows[1..2]);
    let all = Given { peer: west, provider: None, kind: None, id: None };
    let nothing = Given { kind: Some(Kind::of("need")), ..all.clone() };
    assert_eq!(store.revoke(nothing, 10).await.unwrap().mappings, 0);
    let at_beta = Given { provider: Some("beta".into()), ..all.clone() };
    assert_eq!(store.revoke(at_beta, 10).await.unwrap().mappings, 1);
    let one = Given { kind: Some(Kind::of("pipe")), id: Some("a".into()), ..all.clone() };
    assert_eq!(store.revoke(one, 10).await.unwrap().mappings, 1);
    assert_eq!(store.revoke(all, 10).await.unwrap().mappings, 1);
    assert_eq!(found(&store, "a").await, None);
    assert_eq!((found(&store, "east").await, found(&store, "own").await), (Some(east), Some(live("own"))));
}
