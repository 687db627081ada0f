//! The audit's promises.

use standpipe_api::{Kind, Timestamp};

use super::Shared;
use crate::store::{AuditEvent, AuditFilter, AuditRow};

fn event(number: i64, caller: &str, provider: &str) -> AuditEvent {
    AuditEvent {
        at: Timestamp::from_millis(number),
        call: format!("{number:032x}"),
        caller: Some(caller.into()),
        tenant: Some("blue".into()),
        method: "DELETE".into(),
        path: "/db/pipes/web\u{0}".into(),
        operation: Some("delete-pipe".into()),
        kind: Some(Kind::of("pipe")),
        provider: Some(provider.into()),
        status: 404,
        fault: Some("caller".into()),
        refused: Some("unseen".into()),
        remark: Some("forced".into()),
    }
}

fn calls(rows: &[AuditRow]) -> Vec<i64> {
    rows.iter().map(|row| row.event.at.as_millis()).collect()
}

pub(in crate::store) async fn the_audit_is_read_in_order_behind_an_id_and_through_its_filters(store: Shared) {
    let mut bare = event(1, "basic:ada", "alpha");
    (bare.caller, bare.tenant, bare.operation, bare.kind) = (None, None, None, None);
    (bare.provider, bare.fault, bare.refused, bare.remark) = (None, None, None, None);
    store.append_audit(vec![bare.clone(), event(2, "basic:ada", "alpha")]).await.unwrap();
    store.append_audit(vec![event(3, "basic:bob", "alpha"), event(4, "basic:ada", "beta")]).await.unwrap();
    let all = AuditFilter::default();
    let rows = store.audit(&all, 0, 10).await.unwrap();
    assert_eq!(calls(&rows), [1, 2, 3, 4]);
    assert_eq!((&rows[0].event, &rows[1].event), (&bare, &event(2, "basic:ada", "alpha")));
    assert_eq!(calls(&store.audit(&all, rows[1].id, 1).await.unwrap()), [3]);
    let ada = AuditFilter { caller: Some("basic:ada".into()), ..all.clone() };
    assert_eq!(calls(&store.audit(&ada, 0, 10).await.unwrap()), [2, 4]);
    let both = AuditFilter { provider: Some("alpha".into()), ..ada };
    assert_eq!(calls(&store.audit(&both, 0, 10).await.unwrap()), [2]);
}

pub(in crate::store) async fn an_event_is_kept_once_however_often_it_is_written(store: Shared) {
    for _ in 0..2 {
        store.append_audit(vec![event(1, "basic:ada", "alpha")]).await.unwrap();
    }
    assert_eq!(calls(&store.audit(&AuditFilter::default(), 0, 10).await.unwrap()), [1]);
}

pub(in crate::store) async fn the_audit_loses_what_is_old_or_too_much_and_never_reuses_an_id(store: Shared) {
    let all = AuditFilter::default();
    store.append_audit((1..=6).map(|at| event(at, "basic:ada", "alpha")).collect()).await.unwrap();
    assert_eq!(store.purge_audit(Timestamp::from_millis(3), 100, 1).await.unwrap(), 1);
    assert_eq!(store.purge_audit(Timestamp::from_millis(3), 100, 10).await.unwrap(), 1);
    assert_eq!(store.purge_audit(Timestamp::from_millis(3), 2, 10).await.unwrap(), 2);
    let rows = store.audit(&all, 0, 10).await.unwrap();
    assert_eq!(calls(&rows), [5, 6]);
    assert_eq!(store.purge_audit(Timestamp::from_millis(100), 100, 10).await.unwrap(), 2);
    store.append_audit(vec![event(7, "basic:ada", "alpha")]).await.unwrap();
    assert_eq!(calls(&store.audit(&all, rows[1].id, 10).await.unwrap()), [7], "behind all that were before");
}
