//! Fetching and polling: what changes nothing.

use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use standpipe_api::Body;

use super::answer::{self, Refusal};
use super::ask::Ask;
use super::core::Broker;
use super::records::{Progress, Subject, Task};
use super::settings::{BrokerSettings, DeletedPoll};

impl Broker {
    /// An instance or binding.
    pub(super) async fn fetch(
        &self,
        settings: &BrokerSettings,
        subject: &Subject,
    ) -> Result<Response<Body>, Refusal> {
        let noun = subject.side().noun();
        let entry = self.entry(subject).await?.map(|stored| stored.content);
        let held = entry.as_ref().and_then(|entry| entry.made());
        let held = held.ok_or_else(|| Refusal::unknown(format!("{noun} does not exist")))?;
        let service = settings.services.get(&held.wish.service);
        let retrievable = service.is_some_and(|service| match subject.binding {
            None => service.instances_retrievable,
            Some(_) => service.bindings_retrievable,
        });
        if !retrievable {
            return Err(Refusal::unknown(format!(
                "{noun} cannot be fetched: its service is not retrievable"
            )));
        }
        if entry.as_ref().is_some_and(|entry| entry.busy) {
            return Err(Refusal::concurrency());
        }
        let mut fields = Map::new();
        let mut add = |key: &str, value: Option<Value>| {
            fields.extend(value.map(|value| (key.to_owned(), value)));
        };
        if subject.binding.is_none() {
            add("service_id", Some(held.wish.service.0.clone().into()));
            add("plan_id", Some(held.wish.plan.0.clone().into()));
            add("maintenance_info", held.wish.maintenance_info.clone());
        }
        add("parameters", held.wish.parameters.clone().map(Value::Object));
        fields.extend(held.told.clone());
        Ok(answer::json(StatusCode::OK, &Value::Object(fields)))
    }

    /// How an operation is going: the one the platform names, else the last one.
    pub(super) async fn poll(
        &self,
        settings: &BrokerSettings,
        ask: &Ask,
        subject: &Subject,
    ) -> Result<Response<Body>, Refusal> {
        let unknown = || Refusal::unknown("there is no such operation");
        let id = match &ask.operation {
            Some(id) if !id.0.is_empty() => id.clone(),
            _ => self.entry(subject).await?.ok_or_else(unknown)?.content.operation,
        };
        let found = self.operation(subject.side(), &id).await?.map(|stored| stored.content);
        let operation = found.filter(|operation| operation.subject == *subject).ok_or_else(unknown)?;
        let deleted = operation.task == Task::Delete && operation.progress == Progress::Succeeded;
        if deleted && settings.deleted_poll == DeletedPoll::Gone {
            return Ok(answer::json(StatusCode::GONE, &json!({})));
        }
        let mut fields = Map::new();
        fields.insert("state".to_owned(), operation.progress.word().into());
        fields.insert("description".to_owned(), operation.description.clone().into());
        fields.extend(operation.failure.as_ref().map(answer::details).into_iter().flatten());
        // `error` belongs to the answers of requests.
        fields.shift_remove("error");
        let mut response = answer::json(StatusCode::OK, &Value::Object(fields));
        let (service, plan) = (&operation.service, &operation.plan);
        let procedure = settings.procedure(service, plan, subject.side(), operation.task);
        if let Some(seconds) = procedure.retry_after.filter(|_| operation.progress == Progress::Running) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        Ok(response)
    }
}
