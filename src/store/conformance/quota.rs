//! What a quota promises.

use standpipe_api::{Change, Kind, Mapping, MappingState, Resource};

use super::{Shared, created, ended, namespace, pipe, put};
use crate::store::{Claim, StoreError, Write};

fn of(id: &str, owner: &str, tenant: Option<&str>) -> Mapping {
    let tenant = tenant.map(str::to_owned);
    Mapping { owner: Some(owner.into()), tenant, ..created(id, 1) }
}

pub(in crate::store) async fn claims_at_once_do_not_get_past_a_quota(store: Shared) {
    let claims =
        (0..50).map(|number| store.claim(of(&number.to_string(), "basic:ada", Some("blue")), Some(7)));
    let claims = futures_util::future::join_all(claims).await;
    let taken = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Taken))).count();
    let over = claims.iter().filter(|claim| matches!(claim, Err(StoreError::OverQuota { .. }))).count();
    assert_eq!((taken, over, store.count().await.unwrap()), (7, 43, 7));
}

pub(in crate::store) async fn a_quota_counts_what_a_tenant_has_now(store: Shared) {
    let claim = |row: Mapping, quota| {
        let store = store.clone();
        async move {
            match store.claim(row, Some(quota)).await {
                Err(StoreError::OverQuota { .. }) => None,
                claimed => Some(claimed.unwrap()),
            }
        }
    };
    let mut expired = of("expired", "basic:ada", Some("blue"));
    expired.expires_at = ended();
    let mut volume = of("v", "basic:ada", Some("blue"));
    volume.resource = Resource::new(Kind::of("volume"), "v");
    let rows = [of("p", "basic:ada", Some("blue")), of("q", "basic:bob", None), volume, expired];
    store.apply(rows.into_iter().map(Write::Put).collect()).await.unwrap();
    let next = || of("next", "basic:cid", Some("blue"));
    assert_eq!(claim(next(), 1).await, None, "all callers of a tenant together");
    let again = claim(of("p", "basic:cid", Some("blue")), 1).await;
    assert!(matches!(again, Some(Claim::Existing(_))), "what is there already takes no more room: {again:?}");
    assert_eq!(
        claim(of("mine", "basic:cid", None), 1).await,
        Some(Claim::Taken),
        "without a tenant each stands alone"
    );
    assert_eq!(claim(of("more", "basic:bob", None), 1).await, None);
    let deleting = Write::State { resource: pipe("p"), state: MappingState::Deleting, expires_at: None };
    store.apply(vec![deleting]).await.unwrap();
    assert_eq!(claim(next(), 1).await, None, "until it is gone it is there");
    let gone = Write::State { resource: pipe("p"), state: MappingState::Gone, expires_at: None };
    store.apply(vec![gone]).await.unwrap();
    assert_eq!(claim(next(), 1).await, Some(Claim::Taken));
}

pub(in crate::store) async fn a_transaction_over_a_quota_changes_nothing(store: Shared) {
    let claim = |id: &str, most| Change::Claim(of(id, "basic:ada", Some("blue")), Some(most));
    let commit = |changes| {
        let store = store.clone();
        async move { store.commit(&namespace(), changes).await }
    };
    let over = commit(vec![put("k", "v", None), claim("a", 1), claim("b", 1)]).await;
    assert!(matches!(over, Err(StoreError::OverQuota { most: 1, .. })), "{over:?}");
    assert_eq!(store.record(&namespace(), "k").await.unwrap(), None);
    assert_eq!(store.count().await.unwrap(), 0);
    commit(vec![claim("a", 2), claim("b", 2)]).await.unwrap().unwrap();
    let live = Write::State { resource: pipe("b"), state: MappingState::Live, expires_at: None };
    store.apply(vec![live]).await.unwrap();
    commit(vec![Change::Unclaim(pipe("a")), Change::Unclaim(pipe("b"))]).await.unwrap().unwrap();
    assert_eq!(store.mapping(&pipe("a")).await.unwrap(), None, "a claim is taken back");
    assert!(store.mapping(&pipe("b")).await.unwrap().is_some(), "what is more than a claim stays");
}
