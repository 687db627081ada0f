//! What the engine sees: an extension, an upstream, jobs.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use standpipe_api::testing::{FakeBackground, provider};
use standpipe_api::{Body, Extension, Job, JobOutcome};

use super::super::CloudpipeBroker;
use super::super::jobs::Task;

fn sink_job() -> Job {
    let task = Task::Sink { provider: "alpha".into(), resource: "db".into() };
    let new = task.job(Duration::ZERO).unwrap();
    Job { id: new.id, payload: new.payload, attempts: 0 }
}

#[tokio::test]
async fn an_upstream_serves_once_started_and_its_jobs_find_it() {
    let extension = CloudpipeBroker::default();
    let table: toml::Table = toml::from_str("[resource.db]").unwrap();
    let upstream = extension.upstream(&provider("alpha", "cloudpipe"), &table).unwrap();
    let request = || Request::builder().uri("/db/pipes").body(Body::empty()).unwrap();
    assert_eq!(upstream.serve(request()).await.status(), 503);
    let background = FakeBackground::new(Vec::new());
    let early = extension.run_job(sink_job(), background.clone()).await;
    assert!(matches!(early, JobOutcome::Again { .. }), "{early:?}");
    upstream.start(background.clone()).await.unwrap();
    assert_eq!(upstream.serve(request()).await.status(), 200);
    assert!(matches!(extension.run_job(sink_job(), background.clone()).await, JobOutcome::Done));
    let broken = Job { payload: Bytes::from_static(b"?"), ..sink_job() };
    assert!(matches!(extension.run_job(broken, background.clone()).await, JobOutcome::Failed(_)));
    assert_eq!(background.spawned_work().len(), 1, "the sweeps");
}

#[tokio::test]
async fn a_wrong_reload_keeps_the_old_settings() {
    let extension = CloudpipeBroker::default();
    let table: toml::Table = toml::from_str("[resource.db]").unwrap();
    let alpha = provider("alpha", "cloudpipe");
    let upstream = extension.upstream(&alpha, &table).unwrap();
    upstream.start(FakeBackground::new(Vec::new())).await.unwrap();
    let wrong: toml::Table = toml::from_str("[resource]\ndb = 5").unwrap();
    assert_eq!(upstream.reload(&alpha, &wrong).unwrap_err()[0].path, "resource.db");
    let request = Request::builder().uri("/db/pipes").body(Body::empty()).unwrap();
    assert_eq!(upstream.serve(request).await.status(), 200);
}
