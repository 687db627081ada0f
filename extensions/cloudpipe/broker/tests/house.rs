//! A broker to call, sources and sinks that remember, and a store that loses races on demand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use standpipe_api::testing::{FakeBackground, MemoryState};
use standpipe_api::{Background, Body, Change, Conflict, Error, Job, JobOutcome, Record, Result, State};

use super::super::core::{Broker, Engine};
use super::super::declared::DeclaredSink;
use super::super::jobs::Task;
use super::super::settings::BrokerSettings;
use super::super::sink::Sink;
use super::super::source::{Event, Reach, Source};

pub(super) const SETTINGS: &str = r#"
url = "http://127.0.0.1:9001"
[resource.db]
data = { URI = "postgresqls://one" }
[[resource.db.offers]]
name = "postgres"
protos = ["postgresqls"]
adapters = ["auth:basic", "auth:secret"]
default_adapters = ["auth:basic"]
[resource.frontend]
[[resource.frontend.needs]]
name = "database"
protos = ["postgresqls"]
adapters = ["auth:oidc"]
max_pipes = 1
[resource."arn:rds:db"]
"#;

/// A started broker over a store of its own, or over one that an earlier broker left.
pub(super) struct House {
    pub(super) broker: Arc<Broker>,
    pub(super) memory: Arc<MemoryState>,
}

pub(super) fn settings(text: &str) -> BrokerSettings {
    BrokerSettings::read(&toml::from_str(text).unwrap()).unwrap()
}

impl House {
    pub(super) async fn new() -> Self {
        Self::open(settings(SETTINGS), Arc::default()).await
    }

    pub(super) async fn open(settings: BrokerSettings, memory: Arc<MemoryState>) -> Self {
        let state = Arc::clone(&memory);
        Self::over(settings, memory, state).await
    }

    pub(super) async fn over(
        settings: BrokerSettings,
        memory: Arc<MemoryState>,
        state: Arc<dyn State>,
    ) -> Self {
        let background = FakeBackground::new(Vec::new());
        let broker = Arc::new(Broker::new("alpha".into(), settings));
        let engine = Engine {
            state,
            outbound: background.outbound(),
            url: format!("{}/providers/alpha", background.public_url()),
            issuer: background.public_url(),
            verifier: background.verifier(),
        };
        broker.open(engine).await.unwrap();
        Self { broker, memory }
    }

    pub(super) async fn call(&self, line: &str, body: Value) -> (StatusCode, HeaderMap, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
        let (head, body) = self.broker.answer(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (head.status, head.headers, body)
    }

    /// The same, and the status is as expected.
    pub(super) async fn expect(&self, status: u16, line: &str, body: Value) -> Value {
        let (answered, _, body) = self.call(line, body).await;
        assert_eq!(answered.as_u16(), status, "{line}: {body}");
        body
    }

    pub(super) async fn keys(&self) -> Vec<String> {
        let records = self.memory.list("", None, 1000).await.unwrap();
        records.into_iter().map(|record| record.key).collect()
    }

    pub(super) async fn run(&self, task: &Task, job: Job) -> JobOutcome {
        self.broker.run(task, job, &*FakeBackground::new(Vec::new())).await
    }

    /// Runs what is due in the queue, once each, as the engine does.
    pub(super) async fn run_jobs(&self) -> Vec<JobOutcome> {
        let mut outcomes = Vec::new();
        for new in self.memory.jobs().into_iter().filter(|job| job.delay == Duration::ZERO) {
            let job = Job { id: new.id, payload: new.payload, attempts: 0 };
            let id = job.id.clone();
            self.memory.commit(vec![Change::Cancel(id)]).await.unwrap().unwrap();
            outcomes.push(self.run(&Task::read(&job).unwrap(), job).await);
        }
        outcomes
    }
}

/// A source that numbers what it makes, remembers what it was told, and fails when asked to.
#[derive(Default)]
pub(super) struct Counter {
    pub(super) told: Mutex<Vec<String>>,
    pub(super) fails: Mutex<Option<Event>>,
    pub(super) made: Mutex<Map<String, Value>>,
    pub(super) hangs: AtomicUsize,
    pub(super) every: Mutex<Option<Duration>>,
}

#[async_trait]
impl Source for Counter {
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let id = pipe.get("id").and_then(Value::as_str).unwrap_or_default();
        self.told.lock().unwrap().push(format!("{event:?} {id}"));
        if self.hangs.load(Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        if *self.fails.lock().unwrap() == Some(event) {
            return Err(Error::internal("the command exited with 1"));
        }
        Ok(self.made.lock().unwrap().clone())
    }

    fn rotate_every(&self) -> Option<Duration> {
        *self.every.lock().unwrap()
    }
}

impl Counter {
    pub(super) fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    pub(super) fn makes(&self, made: &Value) {
        *self.made.lock().unwrap() = made.as_object().unwrap().clone();
    }
}

/// Settings whose resource `db` has this source, which reaches outside.
pub(super) fn with_source(text: &str, source: &Arc<Counter>) -> BrokerSettings {
    let mut settings = settings(text);
    let db = settings.resources.get_mut("db").unwrap();
    db.source.as_mut().unwrap().replace(source.clone(), Reach::Outside);
    settings
}

/// A sink that remembers what it was last given.
#[derive(Default)]
pub(super) struct Shelf(pub(super) Mutex<Vec<Value>>);

#[async_trait]
impl Sink for Shelf {
    async fn apply(&self, _resource: &str, pipes: &[Value], _gone: &[String]) -> Result<()> {
        *self.0.lock().unwrap() = pipes.to_vec();
        Ok(())
    }
}

pub(super) fn with_sink(sink: &Arc<Shelf>) -> BrokerSettings {
    let mut settings = settings(SETTINGS);
    settings.resources.get_mut("frontend").unwrap().sink = Some(DeclaredSink(sink.clone()));
    settings
}

/// A store in which other requests get their turn before each commit, and the first commits lose.
pub(super) struct Contended {
    pub(super) memory: Arc<MemoryState>,
    pub(super) losses: AtomicUsize,
    pub(super) key: &'static str,
}

#[async_trait]
impl State for Contended {
    async fn get(&self, key: &str) -> Result<Option<Record>> {
        self.memory.get(key).await
    }

    async fn mapping(&self, resource: &standpipe_api::Resource) -> Result<Option<standpipe_api::Mapping>> {
        self.memory.mapping(resource).await
    }

    async fn within(
        &self,
        kind: &standpipe_api::Kind,
        parent: &standpipe_api::ResourceId,
        after: Option<&standpipe_api::Resource>,
        limit: usize,
    ) -> Result<Vec<standpipe_api::Mapping>> {
        self.memory.within(kind, parent, after, limit).await
    }

    async fn purge(
        &self,
        kind: &standpipe_api::Kind,
        before: standpipe_api::Timestamp,
        limit: usize,
    ) -> Result<usize> {
        self.memory.purge(kind, before, limit).await
    }

    async fn waits(&self, id: &standpipe_api::JobId) -> Result<bool> {
        self.memory.waits(id).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>> {
        self.memory.list(prefix, after, limit).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Result<(), Conflict>> {
        tokio::task::yield_now().await;
        let loses = |losses: usize| losses.checked_sub(1);
        if self.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, loses).is_ok() {
            return Ok(Err(Conflict { key: self.key.to_owned() }));
        }
        self.memory.commit(changes).await
    }
}
