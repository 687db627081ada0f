//! A broker to call, with the queue of jobs beside it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use standpipe_api::testing::{FakeBackground, MemoryState};
use standpipe_api::{Background, Body, Change, Job, JobOutcome, Outbound, State};

use super::super::core::{Broker, Engine};
use super::super::records::{Operation, Side};
use super::super::settings::BrokerSettings;
use super::super::work::Errand;

/// One service: a plan that is at once, one that is asynchronous, one that is nothing else.
pub(super) const SETTINGS: &str = r#"
[instances]
dashboard_url = "https://db.test/{{plan}}/{{instance_id}}"
[bindings]
credentials = { uri = "db://{{binding_id}}:{{password}}@h/{{instance_id}}" }
[[services]]
id = "s"
name = "db"
description = "d"
bindable = true
instances_retrievable = true
bindings_retrievable = true
plan_updateable = true
[[services.plans]]
id = "sync"
name = "sync"
description = "d"
maintenance_info = { version = "1.0.0" }
schemas.service_instance.create.parameters = { type = "object", properties = { disk = { type = "integer" } } }
schemas.service_instance.update.parameters = { required = ["disk"] }
schemas.service_binding.create.parameters = { properties = { role = { enum = ["r", "w"] } } }
[[services.plans]]
id = "async"
name = "async"
description = "d"
[services.plans.instances]
create = { async = true, retry_after = "7s" }
update = { async = true }
delete = { async = true }
[services.plans.bindings]
create = { async = true }
delete = { async = true }
[[services.plans]]
id = "only"
name = "only"
description = "d"
plan_updateable = false
[services.plans.instances]
create = { async = "only" }
[[services]]
id = "t"
name = "queue"
description = "d"
[[services.plans]]
id = "tp"
name = "tp"
description = "d"
"#;

/// A started broker over a store of its own, or over one that an earlier broker left.
pub(super) struct House {
    pub(super) broker: Arc<Broker>,
    pub(super) memory: Arc<MemoryState>,
}

pub(super) fn settings(text: &str) -> BrokerSettings {
    BrokerSettings::read(&toml::from_str(text).unwrap(), std::path::Path::new("")).unwrap()
}

/// The body of a provision.
pub(super) fn provision(plan: &str) -> Value {
    json!({"service_id": "s", "plan_id": plan, "organization_guid": "o", "space_guid": "p"})
}

/// The body of a binding.
pub(super) fn bind(plan: &str) -> Value {
    json!({"service_id": "s", "plan_id": plan})
}

impl House {
    pub(super) async fn new() -> Self {
        Self::with(SETTINGS).await
    }

    pub(super) async fn with(text: &str) -> Self {
        Self::over(text, Arc::default()).await
    }

    /// A broker that starts with what another one left.
    pub(super) async fn over(text: &str, memory: Arc<MemoryState>) -> Self {
        Self::asking(text, memory, FakeBackground::new(Vec::new()).outbound()).await
    }

    /// A broker whose hooks may be servers.
    pub(super) async fn asking(text: &str, memory: Arc<MemoryState>, outbound: Arc<dyn Outbound>) -> Self {
        let broker = Arc::new(Broker::new("db".into(), settings(text)));
        broker.open(Engine { state: memory.clone(), outbound }).await.unwrap();
        Self { broker, memory }
    }

    /// Sends a request and leaves the queue alone.
    pub(super) async fn send(&self, line: &str, body: Value, headers: &[(&str, &str)]) -> Told {
        let (method, path) = line.split_once(' ').unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder().method(method).uri(format!("/v2{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.broker.answer(request.body(Body::from(body)).unwrap()).await;
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Told { status: head.status, headers: head.headers, body }
    }

    /// The same of a platform that does what it should.
    pub(super) async fn ask(&self, line: &str, body: Value) -> Told {
        self.send(line, body, &[("x-broker-api-version", "2.17")]).await
    }

    /// A request that waits for its operation: the queue is worked off meanwhile.
    pub(super) async fn call(&self, line: &str, body: Value) -> Told {
        tokio::select! {
            biased;
            told = self.ask(line, body) => told,
            () = async {
                loop {
                    self.run_jobs().await;
                    tokio::task::yield_now().await;
                }
            } => unreachable!(),
        }
    }

    /// The same, and the status is as expected.
    pub(super) async fn expect(&self, status: u16, line: &str, body: Value) -> Value {
        let told = self.call(line, body).await;
        assert_eq!(told.status.as_u16(), status, "{line}: {}", told.body);
        told.body
    }

    /// An asynchronous request: 202, and the operation it names. The queue is left alone.
    pub(super) async fn accepted(&self, line: &str, body: Value) -> String {
        let told = self.ask(line, body).await;
        assert_eq!(told.status.as_u16(), 202, "{line}: {}", told.body);
        told.body["operation"].as_str().unwrap().to_owned()
    }

    /// What a poll says of an operation.
    pub(super) async fn poll(&self, of: &str, operation: &str) -> Told {
        self.ask(&format!("GET /service_instances/{of}/last_operation?operation={operation}"), Value::Null)
            .await
    }

    /// Carries out each job in the queue once, as the engine does; a job to be tried again stays.
    pub(super) async fn run_jobs(&self) -> Vec<JobOutcome> {
        let mut outcomes = Vec::new();
        for new in self.memory.jobs() {
            let job = Job { id: new.id.clone(), payload: new.payload.clone(), attempts: 0 };
            let outcome = self.broker.run(&Errand::read(&job).unwrap(), job).await;
            if matches!(outcome, JobOutcome::Done) {
                self.memory.commit(vec![Change::Cancel(new.id)]).await.unwrap().unwrap();
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    /// The rows of operations.
    pub(super) async fn rows(&self, side: Side) -> Vec<Operation> {
        let records = self.memory.list(&side.operations(), None, 1000).await.unwrap();
        records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }

    /// Makes every operation older than it is.
    pub(super) async fn age(&self, span: Duration) {
        for side in Side::BOTH {
            for record in self.memory.list(&side.operations(), None, 1000).await.unwrap() {
                let mut row: Operation = serde_json::from_slice(&record.value).unwrap();
                let millis = i64::try_from(span.as_millis()).unwrap();
                row.created_at = standpipe_api::Timestamp::from_millis(row.created_at.as_millis() - millis);
                let value = serde_json::to_vec(&row).unwrap().into();
                let put = Change::Put { key: record.key, value, expected: Some(record.revision) };
                self.memory.commit(vec![put]).await.unwrap().unwrap();
            }
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Told {
    pub(super) fn state(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["state"].as_str().unwrap_or_default())
    }
}
