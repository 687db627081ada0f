//! What every backend promises, as tests over an empty store. A backend's tests list them with `conformance!`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use standpipe_api::{
    Change, Conflict, Hint, JobId, JobOutcome, Kind, Mapping, MappingState, NewJob, Origin, Resource,
    Timestamp,
};
use zeroize::Zeroizing;

use super::{Claim, Filter, Imported, JobState, Namespace, Observer, Purge, Store, Write};

/// Makes one test of each promise; `$open` gives what must outlive the store, and the store.
macro_rules! conformance {
    ($open:expr) => {
        $crate::store::conformance::conformance! { $open;
            a_mapping_comes_back_as_it_was_written, of_many_claims_at_once_one_is_taken,
            a_tombstone_or_an_expired_row_does_not_block_a_claim, a_claim_is_dropped_only_by_its_own_claimer,
            a_put_keeps_who_created_a_live_row_and_when, a_state_moves_only_a_row_that_is_there,
            an_expired_row_is_absent_everywhere_and_can_be_purged,
            tombstones_of_a_kind_can_be_purged_by_their_age, names_are_found_whatever_their_parent,
            a_scan_pages_in_key_order_through_its_filters, a_scan_is_stable_while_others_write,
            an_import_never_replaces_a_row_of_another_origin, records_are_compared_and_set,
            a_conflict_changes_nothing, records_are_listed_by_prefix_in_pages,
            records_mappings_and_jobs_are_committed_together, namespaces_are_strangers,
            a_removed_record_never_gets_an_old_revision_again, jobs_come_due_in_order_and_are_settled,
            a_job_scheduled_anew_while_it_runs_survives_its_old_run, the_first_secret_of_a_name_counts,
            tokens_are_kept_by_their_whole_key_until_they_end, everything_opens_after_a_rotation,
            observers_hear_of_every_change_before_its_writer, a_fresh_store_is_healthy,
            what_a_peer_gives_replaces_nothing_of_others, what_happens_here_takes_the_place_of_what_a_peer_said,
            what_a_peer_gave_is_counted_listed_and_revoked, a_token_that_a_peer_gives_replaces_none_of_others,
            claims_at_once_do_not_get_past_a_quota, a_quota_counts_what_a_tenant_has_now,
            a_transaction_over_a_quota_changes_nothing,
            the_audit_is_read_in_order_behind_an_id_and_through_its_filters,
            an_event_is_kept_once_however_often_it_is_written,
            the_audit_loses_what_is_old_or_too_much_and_never_reuses_an_id,
            an_event_comes_back_as_it_was_written_behind_those_before,
            an_event_is_written_with_all_that_it_tells_of_or_not_at_all,
            followers_hear_of_an_event_when_it_can_be_read,
            the_feed_loses_its_front_and_never_reuses_a_revision,
            providers_are_kept_in_the_order_of_their_registration,
            a_configured_provider_is_kept_only_while_it_drains,
            a_provider_with_mappings_is_removed_only_by_force,
        }
    };
    ($open:expr; $($promise:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $promise() {
            let (_kept, store) = $open;
            $crate::store::conformance::$promise(store).await;
        })*
    };
}
pub(super) use conformance;

mod audit;
mod events;
mod extensions;
mod peers;
mod providers;
mod quota;
mod tokens;
pub(super) use audit::*;
pub(super) use events::*;
pub(super) use extensions::*;
pub(super) use peers::*;
pub(super) use providers::*;
pub(super) use quota::*;
pub(super) use tokens::*;

type Shared = Arc<dyn Store>;

pub(super) fn pipe(id: &str) -> Resource {
    Resource::new(Kind::of("pipe"), id).within("db")
}

pub(super) fn live(id: &str) -> Mapping {
    Mapping::learned(pipe(id), "alpha".into(), Timestamp::from_millis(1_700_000_000_000))
}

pub(super) fn created(id: &str, at: i64) -> Mapping {
    let mut mapping = live(id);
    mapping.origin = Origin::Created;
    mapping.owner = Some("basic:ada".into());
    mapping.tenant = Some("blue".into());
    mapping.created_at = Timestamp::from_millis(at);
    mapping
}

pub(super) fn ended() -> Option<Timestamp> {
    Some(Timestamp::from_millis(1))
}

fn namespace() -> Namespace {
    Namespace::extension("cloudpipe")
}

fn put(key: &str, value: &'static str, expected: Option<u64>) -> Change {
    Change::Put { key: key.into(), value: value.into(), expected }
}

fn scheduled(id: &str, delay: Duration) -> Change {
    Change::Schedule(NewJob { id: JobId(id.into()), payload: "payload".into(), delay })
}

async fn state_of(store: &Shared, id: &str) -> Option<MappingState> {
    store.mapping(&pipe(id)).await.unwrap().map(|row| row.state)
}

pub(super) async fn write(store: &Shared, write: Write) {
    store.apply(vec![write]).await.unwrap();
}

pub(super) async fn a_mapping_comes_back_as_it_was_written(store: Shared) {
    let mut full = live("full");
    full.resource.scope = standpipe_api::Scope::tenant("ten\u{0}ant");
    full.endpoint = Some("https://alpha.test/apps/db".into());
    full.remote_scope = Some("project".into());
    full.credential = Some("main".into());
    full.owner = Some("basic:ada".into());
    full.tenant = Some("blue".into());
    full.hints = vec![Hint::new(Kind::of("plan"), "a"), Hint::new(Kind::of("plan"), "\"ß")];
    full.expires_at = Some(Timestamp::now().plus(Duration::from_secs(3600)));
    let states = ["maybe", "live", "deleting", "gone"];
    for (state, origin) in states.into_iter().zip(["created", "listed", "injected", "imported"]) {
        full.state = serde_json::from_value(state.into()).unwrap();
        full.origin = serde_json::from_value(origin.into()).unwrap();
        write(&store, Write::Remove { resource: full.resource.clone() }).await;
        write(&store, Write::Put(full.clone())).await;
        assert_eq!(store.mapping(&full.resource).await.unwrap(), Some(full.clone()));
    }
    let lone =
        Mapping::learned(Resource::new(Kind::of("need"), "ärger/%2F"), "beta".into(), Timestamp::now());
    write(&store, Write::Put(lone.clone())).await;
    assert_eq!(store.mapping(&lone.resource).await.unwrap(), Some(lone));
    assert_eq!(store.mapping(&pipe("full")).await.unwrap(), None, "another scope is another row");
    assert_eq!(store.count().await.unwrap(), 2);
}

pub(super) async fn of_many_claims_at_once_one_is_taken(store: Shared) {
    let claims = (0..50).map(|number| store.claim(created("p", number), None));
    let claims: Vec<Claim> =
        futures_util::future::join_all(claims).await.into_iter().map(Result::unwrap).collect();
    let winner = store.mapping(&pipe("p")).await.unwrap().unwrap();
    assert_eq!(winner.state, MappingState::Intent);
    let seen = claims.iter().filter(|claim| **claim == Claim::Existing(Box::new(winner.clone()))).count();
    assert_eq!((seen, claims.iter().filter(|claim| **claim == Claim::Taken).count()), (49, 1));
}

pub(super) async fn a_tombstone_or_an_expired_row_does_not_block_a_claim(store: Shared) {
    let mut gone = created("gone", 1);
    gone.state = MappingState::Gone;
    let mut expired = created("expired", 1);
    expired.expires_at = ended();
    store.apply(vec![Write::Put(gone), Write::Put(expired)]).await.unwrap();
    for id in ["gone", "expired"] {
        let mut claim = live(id);
        claim.owner = Some("basic:bob".into());
        assert_eq!(store.claim(claim.clone(), None).await.unwrap(), Claim::Taken);
        claim.state = MappingState::Intent;
        assert_eq!(store.mapping(&pipe(id)).await.unwrap(), Some(claim), "nothing of the old row is left");
    }
}

pub(super) async fn a_claim_is_dropped_only_by_its_own_claimer(store: Shared) {
    let drop_claim = |at| Write::DropClaim { resource: pipe("p"), created_at: Timestamp::from_millis(at) };
    store.claim(created("p", 5), None).await.unwrap();
    write(&store, drop_claim(4)).await;
    assert_eq!(state_of(&store, "p").await, Some(MappingState::Intent));
    write(&store, drop_claim(5)).await;
    assert_eq!(state_of(&store, "p").await, None);
    store.claim(created("p", 6), None).await.unwrap();
    let settled = Write::State { resource: pipe("p"), state: MappingState::Live, expires_at: None };
    store.apply(vec![settled, drop_claim(6)]).await.unwrap();
    assert_eq!(state_of(&store, "p").await, Some(MappingState::Live), "settled claims are not dropped");
}

pub(super) async fn a_put_keeps_who_created_a_live_row_and_when(store: Shared) {
    write(&store, Write::Put(created("p", 5))).await;
    let mut relearned = live("p");
    relearned.provider = "beta".into();
    relearned.credential = Some("other".into());
    write(&store, Write::Put(relearned.clone())).await;
    let row = store.mapping(&pipe("p")).await.unwrap().unwrap();
    assert_eq!((row.provider.as_str(), row.credential), ("beta", Some("other".into())));
    assert_eq!((row.origin, row.owner), (Origin::Created, Some("basic:ada".into())));
    assert_eq!(row.tenant.as_deref(), Some("blue"));
    assert_eq!(row.created_at, Timestamp::from_millis(5));
    let gone = Write::State { resource: pipe("p"), state: MappingState::Gone, expires_at: None };
    store.apply(vec![gone, Write::Put(relearned.clone())]).await.unwrap();
    assert_eq!(store.mapping(&pipe("p")).await.unwrap(), Some(relearned), "a tombstone passes nothing on");
}

pub(super) async fn a_state_moves_only_a_row_that_is_there(store: Shared) {
    let end = Timestamp::now().plus(Duration::from_secs(60));
    let to = |state, expires_at| Write::State { resource: pipe("p"), state, expires_at };
    write(&store, to(MappingState::Live, None)).await;
    assert_eq!(state_of(&store, "p").await, None);
    write(&store, Write::Put(created("p", 1))).await;
    write(&store, to(MappingState::Gone, Some(end))).await;
    let row = store.mapping(&pipe("p")).await.unwrap().unwrap();
    assert_eq!((row.state, row.expires_at), (MappingState::Gone, Some(end)));
    assert!(row.updated_at > row.created_at);
    write(&store, Write::Remove { resource: pipe("p") }).await;
    assert_eq!(state_of(&store, "p").await, None);
}

pub(super) async fn an_expired_row_is_absent_everywhere_and_can_be_purged(store: Shared) {
    let mut expired = live("expired");
    expired.expires_at = ended();
    store.apply(vec![Write::Put(expired.clone()), Write::Put(live("kept"))]).await.unwrap();
    assert_eq!(store.mapping(&expired.resource).await.unwrap(), None);
    assert_eq!(store.mappings_named(&Kind::of("pipe"), &"expired".into(), 10).await.unwrap(), []);
    assert_eq!(store.scan(Filter::default(), None, 10).await.unwrap(), [live("kept")]);
    assert_eq!(store.count().await.unwrap(), 1);
    let revive = Write::State { resource: expired.resource, state: MappingState::Live, expires_at: None };
    write(&store, revive).await;
    assert_eq!(state_of(&store, "expired").await, None, "a state does not bring it back");
    assert_eq!(store.purge(Purge::Expired(Timestamp::now()), 0).await.unwrap(), 0);
    assert_eq!(store.purge(Purge::Expired(Timestamp::now()), 10).await.unwrap(), 1);
    assert_eq!(store.purge(Purge::Expired(Timestamp::now()), 10).await.unwrap(), 0);
    assert_eq!(store.count().await.unwrap(), 1);
}

pub(super) async fn tombstones_of_a_kind_can_be_purged_by_their_age(store: Shared) {
    let gone = |resource: Resource, at| Mapping {
        state: MappingState::Gone,
        ..Mapping::learned(resource, "alpha".into(), Timestamp::from_millis(at))
    };
    let other = Resource::new(Kind::of("volume"), "v");
    let rows = [gone(pipe("a"), 1), gone(pipe("b"), 1), gone(pipe("young"), 5), gone(other, 1), live("kept")];
    store.apply(rows.map(Write::Put).into()).await.unwrap();
    let purge = || Purge::Tombstones { kind: Kind::of("pipe"), before: Timestamp::from_millis(5) };
    assert_eq!(store.purge(purge(), 1).await.unwrap(), 1, "no more than asked for at once");
    assert_eq!(store.purge(purge(), 10).await.unwrap(), 1);
    assert_eq!(store.purge(purge(), 10).await.unwrap(), 0);
    let left = store.scan(Filter::default(), None, 10).await.unwrap();
    let left: Vec<&str> = left.iter().map(|row| row.resource.id.as_str()).collect();
    assert_eq!(left, ["kept", "young", "v"]);
}

pub(super) async fn names_are_found_whatever_their_parent(store: Shared) {
    let mut other = live("p");
    other.resource.parent = Some("cache".into());
    let mut orphan = live("p");
    orphan.resource.parent = None;
    let rows = [orphan.clone(), other.clone(), live("p"), live("q")];
    store.apply(rows.into_iter().map(Write::Put).collect()).await.unwrap();
    let found = |limit| {
        let store = store.clone();
        async move { store.mappings_named(&Kind::of("pipe"), &"p".into(), limit).await.unwrap() }
    };
    assert_eq!(found(10).await, [orphan.clone(), other.clone(), live("p")]);
    assert_eq!(found(2).await, [orphan, other]);
    assert_eq!(store.mappings_named(&Kind::of("offer"), &"p".into(), 10).await.unwrap(), []);
}

pub(super) async fn a_scan_pages_in_key_order_through_its_filters(store: Shared) {
    let mut rows = Vec::new();
    for (kind, parent, provider) in [("need", "a", "x"), ("pipe", "a", "y"), ("pipe", "b", "x")] {
        for id in ["1", "2", "é"] {
            let resource = Resource::new(Kind::of(kind), id).within(parent);
            rows.push(Mapping::learned(resource, provider.into(), Timestamp::from_millis(1)));
        }
    }
    store.apply(rows.iter().rev().cloned().map(Write::Put).collect()).await.unwrap();
    let filters = [
        Filter::default(),
        Filter { provider: Some("x".into()), ..Filter::default() },
        Filter { kind: Some(Kind::of("pipe")), ..Filter::default() },
        Filter { parent: Some("a".into()), ..Filter::default() },
        Filter {
            provider: Some("x".into()),
            kind: Some(Kind::of("pipe")),
            parent: Some("b".into()),
            ..Filter::default()
        },
        Filter { provider: Some("nobody".into()), ..Filter::default() },
    ];
    for filter in filters {
        let expected: Vec<Mapping> = rows.iter().filter(|row| filter.matches(row)).cloned().collect();
        assert_eq!(all_pages(&store, &filter, 2).await, expected, "{filter:?}");
    }
}

async fn all_pages(store: &Shared, filter: &Filter, page: usize) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    loop {
        let after = all.last().map(|row| row.resource.clone());
        let rows = store.scan(filter.clone(), after, page).await.unwrap();
        if rows.is_empty() {
            return all;
        }
        all.extend(rows);
    }
}

pub(super) async fn a_scan_is_stable_while_others_write(store: Shared) {
    let kept: Vec<Mapping> = (0..500).map(|number| live(&format!("{number:04}-kept"))).collect();
    store.apply(kept.iter().cloned().map(Write::Put).collect()).await.unwrap();
    let filter = Filter { kind: Some(Kind::of("pipe")), ..Filter::default() };
    let mut scanning = std::pin::pin!(all_pages(&store, &filter, 7));
    let mut round = 0;
    let all = loop {
        // Rows come and go on both sides of wherever the scan stands.
        let id = |at: usize| format!("{:04}-passing", at * 37 % 500);
        let come_and_go = vec![
            Write::Put(live(&id(round))),
            Write::Remove { resource: pipe(&id(round.saturating_sub(5))) },
            Write::Put(kept[round * 13 % 500].clone()),
        ];
        round += 1;
        let writing = std::pin::pin!(store.apply(come_and_go));
        match futures_util::future::select(&mut scanning, writing).await {
            futures_util::future::Either::Left((all, writing)) => {
                writing.await.unwrap();
                break all;
            }
            futures_util::future::Either::Right((written, _)) => written.unwrap(),
        }
    };
    let stayed: Vec<Mapping> =
        all.into_iter().filter(|row| row.resource.id.as_str().ends_with("kept")).collect();
    assert_eq!(stayed, kept, "each row that stayed is seen once, in order");
}

pub(super) async fn an_import_never_replaces_a_row_of_another_origin(store: Shared) {
    let imported = |id| {
        let mut row = live(id);
        row.origin = Origin::Imported;
        row.provider = "beta".into();
        row
    };
    let mut expired = created("expired", 1);
    expired.expires_at = ended();
    let mut tombstone = created("tombstone", 1);
    tombstone.state = MappingState::Gone;
    let before = [created("held", 1), expired, tombstone, live("same")];
    store.apply(before.into_iter().map(Write::Put).collect()).await.unwrap();
    let mut same = imported("same");
    same.origin = Origin::Learned;
    let mut intent = imported("intent");
    intent.state = MappingState::Intent;
    let rows = ["held", "expired", "tombstone", "new"].map(imported);
    let done = store.import(rows.into_iter().chain([same.clone(), intent]).collect()).await.unwrap();
    let mut expected = vec![Imported::Written; 6];
    expected[0] = Imported::Kept(Origin::Created);
    assert_eq!(done, expected);
    assert_eq!(store.mapping(&pipe("held")).await.unwrap(), Some(created("held", 1)));
    for id in ["expired", "tombstone", "new"] {
        assert_eq!(store.mapping(&pipe(id)).await.unwrap(), Some(imported(id)));
    }
    assert_eq!(store.mapping(&pipe("same")).await.unwrap(), Some(same));
    assert_eq!(state_of(&store, "intent").await, Some(MappingState::Maybe), "nobody will settle it");
}

#[derive(Default)]
struct Heard(Mutex<Vec<Resource>>);

impl Observer for Heard {
    fn changed(&self, resources: &[Resource]) {
        self.0.lock().unwrap().extend_from_slice(resources);
    }
}

pub(super) async fn observers_hear_of_every_change_before_its_writer(store: Shared) {
    let heard: Arc<Heard> = Arc::default();
    let observer: Arc<dyn Observer> = heard.clone();
    store.observe(Arc::downgrade(&observer));
    let expect = |ids: &[&str]| {
        let heard: Vec<Resource> = heard.0.lock().unwrap().drain(..).collect();
        assert_eq!(heard, ids.iter().map(|id| pipe(id)).collect::<Vec<_>>());
    };
    store.claim(live("a"), None).await.unwrap();
    expect(&["a"]);
    store.claim(live("a"), None).await.unwrap();
    expect(&[]);
    let to = |id| Write::State { resource: pipe(id), state: MappingState::Gone, expires_at: ended() };
    store.apply(vec![Write::Put(live("b")), to("a"), Write::Remove { resource: pipe("c") }]).await.unwrap();
    expect(&["b", "a", "c"]);
    store
        .commit(&namespace(), vec![Change::Learn(live("d")), Change::Forget(pipe("b"))])
        .await
        .unwrap()
        .unwrap();
    expect(&["d", "b"]);
    store.purge(Purge::Expired(Timestamp::now()), 10).await.unwrap();
    expect(&["a"]);
    store.import(vec![live("e")]).await.unwrap();
    expect(&["e"]);
}

pub(super) async fn a_fresh_store_is_healthy(store: Shared) {
    store.health().await.unwrap();
    assert_eq!((store.count().await.unwrap(), store.jobs(None, 10).await.unwrap()), (0, vec![]));
}
