//! What a read has shown counts only if nothing has happened since.

use standpipe_api::Kind;

use super::*;
use crate::store::{MasterKey, Options, Sqlite};

fn learner() -> (tempfile::TempDir, Learner) {
    let dir = tempfile::tempdir().unwrap();
    let store = Sqlite::open(dir.path(), &MasterKey::from_bytes([1; 32]), &Options::default()).unwrap();
    let mappings = Arc::new(Mappings::new(Arc::new(store), 100));
    (dir, Learner::new(mappings, Duration::from_secs(60)))
}

fn pipe() -> Resource {
    Resource::new(Kind::of("pipe"), "web").within("db")
}

fn at(provider: &str) -> Mapping {
    Mapping::learned(pipe(), provider.into(), Timestamp::now())
}

async fn put(learner: &Learner, mapping: Mapping) -> Arc<Mapping> {
    learner.0.mappings.apply(vec![Write::Put(mapping)]).await.unwrap();
    row(learner).await
}

async fn row(learner: &Learner) -> Arc<Mapping> {
    learner.0.mappings.get(&pipe()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_stale_mapping_is_corrected_and_whose_it_is_stays() {
    let (_dir, learner) = learner();
    let created = Mapping { owner: Some("ann".into()), origin: Origin::Created, ..at("one") };
    let stale = put(&learner, created).await;
    learner.correct(&stale, Truth::At(&"two".into())).await.unwrap();
    let corrected = row(&learner).await;
    assert_eq!((corrected.provider.as_str(), corrected.state), ("two", MappingState::Live));
    assert_eq!((&corrected.owner, corrected.created_at), (&stale.owner, stale.created_at));
    learner.correct(&stale, Truth::Nowhere).await.unwrap();
    assert_eq!(row(&learner).await, corrected, "what was read is not what stands there now");
    learner.correct(&corrected, Truth::Nowhere).await.unwrap();
    let gone = row(&learner).await;
    assert_eq!((gone.provider.as_str(), gone.state), ("two", MappingState::Gone));
    assert!(gone.expires_at.is_some());
}

#[tokio::test]
async fn what_is_created_anew_is_not_corrected() {
    let (_dir, learner) = learner();
    let stale = put(&learner, at("one")).await;
    let held = learner.claim(at("one"), None).await.unwrap();
    for truth in [Truth::Nowhere, Truth::At(&"two".into())] {
        learner.correct(&stale, truth).await.unwrap();
        assert_eq!(row(&learner).await, stale, "{truth:?}");
    }
    held.settle(Verdict::Live).await.unwrap();
    assert_eq!(row(&learner).await.provider.as_str(), "one");
}
