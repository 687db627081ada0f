//! Promises about what other standpipes gave.

use std::time::Duration;

use standpipe_api::{Kind, Mapping, MappingState, Origin, Timestamp};
use zeroize::Zeroizing;

use super::{Shared, created, ended, live, pipe, write};
use crate::store::{
    Claim, Filter, Given, GivenToken, Imported, StoredToken, Subject, TokenFilter, TokenKey, Write,
};

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

/// A token that the peer `west` gave at a moment, under settings.
fn token(subject: &str, text: &str, at: i64, settings: u8) -> GivenToken {
    GivenToken {
        peer: "west".into(),
        key: TokenKey {
            subject: Subject::hashed(subject.as_bytes()),
            provider: "alpha".into(),
            remote_scope: None,
            credential: "default".into(),
        },
        token: StoredToken {
            kind: "exchange".into(),
            settings: [settings; 32],
            value: Zeroizing::new(text.as_bytes().to_vec()),
            obtained_at: Timestamp::from_millis(at),
            expires_at: Timestamp::now().plus(Duration::from_secs(60)),
        },
    }
}

pub(in crate::store) async fn a_token_that_a_peer_gives_replaces_none_of_others(store: Shared) {
    let (held, stale) = (token("held", "own", 1, 7), token("stale", "own", 1, 8));
    let mut expired = token("expired", "own", 1, 7);
    expired.token.expires_at = Timestamp::from_millis(1);
    for own in [&held, &stale, &expired] {
        store.put_token(own.key.clone(), own.token.clone()).await.unwrap();
    }
    let east = GivenToken { peer: "east".into(), ..token("other", "east", 1, 7) };
    store
        .inject(Vec::new(), vec![east, token("again", "first", 5, 7), token("late", "first", 5, 7)])
        .await
        .unwrap();
    let given = |subject, at| token(subject, "west", at, 7);
    let rows =
        [given("held", 9), given("stale", 9), given("expired", 9), given("other", 9), given("again", 9)];
    let rows: Vec<GivenToken> = rows.into_iter().chain([given("late", 4)]).collect();
    let (own, theirs) = (Imported::Kept(Origin::Learned), Imported::Kept(Origin::Injected));
    let expected = [own, Imported::Written, Imported::Written, theirs, Imported::Written, theirs];
    for _ in 0..2 {
        assert_eq!(store.inject(Vec::new(), rows.clone()).await.unwrap().tokens, expected);
    }
    let mut values = Vec::new();
    for row in &rows {
        let found = store.token(&row.key).await.unwrap().unwrap();
        values.push(String::from_utf8(found.value.to_vec()).unwrap());
    }
    assert_eq!(values, ["own", "west", "west", "east", "west", "first"]);
    let filter = TokenFilter { peer: Some("west".into()), ..TokenFilter::default() };
    assert_eq!(store.tokens(filter, None, 10).await.unwrap().len(), 4);
    // What is obtained here takes the place of what a peer gave.
    store.put_token(rows[1].key.clone(), token("", "mine", 10, 7).token).await.unwrap();
    let all = Given { peer: "west".into(), provider: None, kind: None, id: None };
    assert_eq!(store.count_given(&all.peer).await.unwrap().tokens, 3);
    assert_eq!(
        store.revoke(Given { kind: Some(Kind::of("pipe")), ..all.clone() }, 10).await.unwrap().tokens,
        0
    );
    assert_eq!(store.revoke(all, 10).await.unwrap().tokens, 3);
    assert!(
        store.token(&rows[1].key).await.unwrap().is_some()
            && store.token(&rows[4].key).await.unwrap().is_none()
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
