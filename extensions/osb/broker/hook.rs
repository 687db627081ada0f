//! Hooks: a program or a server that does the work of an operation.
//!
//! A hook is told what is to be done as one JSON object, and answers with one, or with nothing. It may be asked again
//! with the same operation id, so that it must find what it did before.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use standpipe_api::Outbound;

use super::records::{BindingId, Failure, Held, Operation, Side, Subject, Task, Wish};
use super::settings::{BrokerSettings, Hook};

/// What came of an operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Made {
    /// The hook's own state; `None`: as it was.
    pub(super) state: Option<Value>,
    /// Fields for the platform.
    pub(super) told: Map<String, Value>,
}

/// The binding that another one takes the place of.
pub(super) struct Predecessor {
    pub(super) id: BindingId,
    pub(super) held: Held,
}

/// A hook's answer. What stands in it beside these fields is a mistake: a misspelt `credentials` would be lost.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    state: Option<Value>,
    dashboard_url: Option<String>,
    metadata: Option<Map<String, Value>>,
    credentials: Option<Map<String, Value>>,
    syslog_drain_url: Option<String>,
    route_service_url: Option<String>,
    volume_mounts: Option<Vec<Value>>,
    endpoints: Option<Vec<Value>>,
    /// There, even if empty: it failed.
    error: Option<String>,
    description: Option<String>,
    status: Option<u16>,
    instance_usable: Option<bool>,
    update_repeatable: Option<bool>,
}

impl Hook {
    /// Asks it. What goes wrong on the way to it is for the log: the platform only hears what the hook says itself.
    pub(super) async fn ask(
        &self,
        told: &Value,
        operation: &Operation,
        outbound: &dyn Outbound,
    ) -> Result<Made, Failure> {
        let event = event(operation);
        let failed = |error: String| {
            tracing::error!(operation = %operation.id, event, error, "a hook failed");
            Failure::new("the hook failed; the broker's log says why")
        };
        let told = told.to_string();
        let (answer, refused) = match self {
            Self::Command(program) => {
                let variables = [("STANDPIPE_EVENT", event), ("STANDPIPE_OPERATION", &operation.id.0)];
                (program.run(told.as_bytes(), &variables).await.map_err(failed)?, false)
            }
            Self::Http(server) => {
                let answer = server.post(outbound, Bytes::from(told)).await;
                let answer = answer.map_err(|error| failed(error.log_text()))?;
                let refused = (!answer.status().is_success()).then(|| answer.status().to_string());
                let body = answer.into_body();
                match refused {
                    Some(status) if !says_why(&body) => return Err(failed(format!("it answered {status}"))),
                    refused => (body, refused.is_some()),
                }
            }
        };
        let answer = read(&answer).map_err(failed)?;
        if refused || answer.error.is_some() {
            return Err(answer.failure());
        }
        Ok(answer.made(operation.subject.side()))
    }
}

fn says_why(body: &[u8]) -> bool {
    read(body).is_ok_and(|answer| answer.error.is_some() || answer.description.is_some())
}

fn read(text: &[u8]) -> Result<Answer, String> {
    if text.trim_ascii().is_empty() {
        return Ok(Answer::default());
    }
    // The text is not repeated: it may hold credentials.
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("its answer is not the JSON object of a hook, line {line}, column {column}")
    })
}

impl Answer {
    fn made(self, side: Side) -> Made {
        let of_instance = side == Side::Instances;
        let fields = [
            ("dashboard_url", self.dashboard_url.map(Value::from).filter(|_| of_instance)),
            ("credentials", self.credentials.map(Value::from).filter(|_| !of_instance)),
            ("syslog_drain_url", self.syslog_drain_url.map(Value::from).filter(|_| !of_instance)),
            ("route_service_url", self.route_service_url.map(Value::from).filter(|_| !of_instance)),
            ("volume_mounts", self.volume_mounts.map(Value::from).filter(|_| !of_instance)),
            ("endpoints", self.endpoints.map(Value::from).filter(|_| !of_instance)),
            ("metadata", self.metadata.map(Value::from)),
        ];
        let told = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
        Made { state: self.state, told }
    }

    fn failure(self) -> Failure {
        let is_error = |status: &u16| matches!(status, 400 | 409 | 422 | 500..=599);
        Failure {
            status: self.status.filter(is_error).unwrap_or(500),
            error: self.error.filter(|error| !error.is_empty()),
            description: self.description.unwrap_or_else(|| "the hook gave no description".to_owned()),
            instance_usable: self.instance_usable,
            update_repeatable: self.update_repeatable,
        }
    }
}

/// What a hook is asked for.
fn event(operation: &Operation) -> &'static str {
    match (operation.subject.side(), operation.task) {
        (Side::Instances, Task::Create) => "create-instance",
        (Side::Instances, Task::Update) => "update-instance",
        (Side::Instances, Task::Delete) => "delete-instance",
        (Side::Bindings, Task::Delete) => "delete-binding",
        (Side::Bindings, _) => "create-binding",
    }
}

impl BrokerSettings {
    /// What a hook is told.
    pub(super) fn story(
        &self,
        operation: &Operation,
        held: &Held,
        instance: Option<&Held>,
        predecessor: Option<Predecessor>,
    ) -> Value {
        let wish = operation.wish.as_ref().unwrap_or(&held.wish);
        let subject = &operation.subject;
        let mut story = json!({
            "event": event(operation),
            "operation_id": operation.id,
            "service": self.name(subject, wish, "service"),
            "plan": self.name(subject, wish, "plan"),
        });
        let mut add = |key: &str, value: Option<Value>| {
            if let (Some(value), Some(story)) = (value, story.as_object_mut()) {
                story.insert(key.to_owned(), value);
            }
        };
        add("originating_identity", operation.identity.clone().map(Value::from));
        if operation.task == Task::Update {
            add("previous", Some(part(&subject.instance.0, &held.wish, &Value::Null)));
        }
        match (&subject.binding, instance) {
            (None, _) => add("instance", Some(part(&subject.instance.0, wish, &held.state))),
            (Some(binding), instance) => {
                add(
                    "instance",
                    instance.map(|instance| part(&subject.instance.0, &instance.wish, &instance.state)),
                );
                add("binding", Some(part(&binding.0, wish, &held.state)));
                let old = predecessor.map(|old| part(&old.id.0, &old.held.wish, &old.held.state));
                add("predecessor", old);
            }
        }
        story
    }

    /// What a name in a template stands for.
    pub(super) fn name(&self, subject: &Subject, wish: &Wish, name: &str) -> Option<String> {
        let service = self.services.get(&wish.service);
        match name {
            "instance_id" => Some(subject.instance.0.clone()),
            "binding_id" => subject.binding.as_ref().map(|id| id.0.clone()),
            "service_id" => Some(wish.service.0.clone()),
            "plan_id" => Some(wish.plan.0.clone()),
            "service" => service.map(|service| service.name.clone()),
            "plan" => service.and_then(|service| service.plan(&wish.plan)).map(|plan| plan.name.clone()),
            _ => None,
        }
    }
}

fn part(id: &str, wish: &Wish, state: &Value) -> Value {
    let mut part = json!({"id": id, "service_id": wish.service, "plan_id": wish.plan, "state": state});
    let rest = [
        ("parameters", wish.parameters.clone().map(Value::Object)),
        ("context", wish.context.clone()),
        ("organization_guid", wish.organization_guid.clone().map(Value::from)),
        ("space_guid", wish.space_guid.clone().map(Value::from)),
        ("maintenance_info", wish.maintenance_info.clone()),
        ("bind_resource", wish.bind_resource.clone()),
    ];
    if let Some(part) = part.as_object_mut() {
        part.extend(rest.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    }
    part
}
