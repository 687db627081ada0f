//! The start of an operation, and the answer to whoever asked for it.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{Body, BoxError, Change, Timestamp};

use super::answer::{self, Refusal};
use super::ask::Ask;
use super::core::{Broker, TRIES, put};
use super::decide::{Decision, Found, Order, Start};
use super::records::{Entry, Operation, OperationId, Progress, Subject, Task, Wish};
use super::settings::{Asynchronous, BrokerSettings, Played, Procedure};
use super::template;
use super::work::Errand;

impl Broker {
    /// Carries out a request that may change something, and answers it. Whatever it begins goes on when the platform
    /// does not wait for it.
    pub(super) async fn carry_out(
        &self,
        settings: &BrokerSettings,
        ask: &Ask,
        subject: &Subject,
        order: &Order,
    ) -> Result<Response<Body>, Refusal> {
        for _ in 0..TRIES {
            let found = self.look(subject).await?;
            let operation = match self.decide(settings, subject, order, &found).await? {
                Decision::Answer(answer) => return Ok(answer),
                Decision::Follow(operation) => *operation,
                Decision::Start(start) => match self.start(settings, ask, subject, *start, &found).await? {
                    Some(operation) => operation,
                    None => continue,
                },
            };
            let (service, plan) = (&operation.service, &operation.plan);
            let procedure = settings.procedure(service, plan, subject.side(), operation.task);
            let answered = self.follow(ask, operation.clone(), procedure).await;
            return played(answered, &procedure.played).await;
        }
        Err(Refusal::concurrency())
    }

    /// Writes the operation, what it is about, and its job; `None`: somebody else was faster.
    async fn start(
        &self,
        settings: &BrokerSettings,
        ask: &Ask,
        subject: &Subject,
        start: Start,
        found: &Found,
    ) -> Result<Option<Operation>, Refusal> {
        let Start { task, mut held, wish } = start;
        let now = wish.as_ref().unwrap_or(&held.wish);
        let (service, plan) = (now.service.clone(), now.plan.clone());
        let procedure = settings.procedure(&service, &plan, subject.side(), task);
        if procedure.asynchronous == Asynchronous::Only && !ask.accepts_incomplete {
            let text = "this operation is asynchronous only; the platform must send accepts_incomplete=true";
            return Err(Refusal::code("AsyncRequired", text));
        }
        if task == Task::Create {
            held.told = told_at_once(settings, subject, &held.wish)?;
        }
        let operation = Operation {
            id: OperationId(format!("{:032x}", fastrand::u128(..))),
            subject: subject.clone(),
            task,
            service,
            plan,
            created_at: Timestamp::now(),
            progress: Progress::Running,
            description: format!("{} {} is in progress.", subject.side().noun(), noun(task)),
            steps: 0,
            identity: ask.identity.clone(),
            wish,
            failure: None,
        };
        let entry = Entry { operation: operation.id.clone(), busy: true, held: Some(held) };
        let mut changes = vec![
            put(Operation::key(subject.side(), &operation.id), &operation, None)?,
            put(subject.key(), &entry, found.entry.as_ref().map(|stored| stored.revision))?,
            Change::Schedule(Errand::of(&self.name, &operation).job()?),
        ];
        if let Some(parent) = &found.parent {
            // The instance is as it was when this was decided, or the commit loses.
            changes.push(put(subject.parent().key(), &parent.content, Some(parent.revision))?);
        }
        Ok(self.state()?.commit(changes).await?.is_ok().then_some(operation))
    }

    /// The answer to a request whose operation is on its way: at once, or when it has ended.
    async fn follow(
        &self,
        ask: &Ask,
        operation: Operation,
        procedure: &Procedure,
    ) -> Result<Response<Body>, Refusal> {
        if ask.accepts_incomplete && procedure.asynchronous != Asynchronous::Never {
            let mut fields = Map::new();
            fields.insert("operation".to_owned(), operation.id.0.clone().into());
            if operation.subject.binding.is_none() && operation.task != Task::Delete {
                let entry = self.entry(&operation.subject).await?.and_then(|stored| stored.content.held);
                let url = entry.and_then(|held| held.told.get("dashboard_url").cloned());
                fields.extend(url.map(|url| ("dashboard_url".to_owned(), url)));
            }
            return Ok(answer::json(StatusCode::ACCEPTED, &Value::Object(fields)));
        }
        let ended = self.wait(&operation, procedure.patience()).await?;
        if let Some(failure) = &ended.failure {
            return Err(Refusal::from(failure));
        }
        let status = if ended.task == Task::Create { StatusCode::CREATED } else { StatusCode::OK };
        match ended.task {
            Task::Delete => Ok(answer::done()),
            Task::Create | Task::Update => {
                let entry = self.entry(&ended.subject).await?.map(|stored| stored.content);
                let told = entry.and_then(|entry| entry.held).map(|held| held.told).unwrap_or_default();
                Ok(answer::json(status, &Value::Object(told)))
            }
        }
    }

    /// Waits until an operation has ended.
    async fn wait(&self, operation: &Operation, limit: Duration) -> Result<Operation, Refusal> {
        let ended = async {
            let mut settled = self.settled.subscribe();
            loop {
                settled.mark_unchanged();
                let row = self.operation(operation.subject.side(), &operation.id).await?;
                match row.map(|row| row.content) {
                    Some(row) if row.progress.ended().is_some() => return Ok(row),
                    Some(_) => {}
                    None => return Err(Refusal::busy("the operation was removed before it was answered")),
                }
                if settled.changed().await.is_err() {
                    return Err(Refusal::busy("the broker ends"));
                }
            }
        };
        tokio::time::timeout(limit, ended).await.unwrap_or_else(|_elapsed| {
            let text = "the operation takes too long; it goes on";
            Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, text))
        })
    }
}

/// What is known of an instance before anything was done: where its dashboard will be.
fn told_at_once(
    settings: &BrokerSettings,
    subject: &Subject,
    wish: &Wish,
) -> Result<Map<String, Value>, Refusal> {
    let url = &settings.works(&wish.service, &wish.plan).dashboard_url;
    let Some(url) = url.as_ref().filter(|_| subject.binding.is_none()) else { return Ok(Map::new()) };
    let url = template::render(url, &|name| settings.name(subject, wish, name)).map_err(|error| {
        tracing::error!(error, "a dashboard's address cannot be made");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the dashboard's address cannot be made")
    })?;
    Ok(Map::from_iter([("dashboard_url".to_owned(), url)]))
}

/// What a task is called in a description.
pub(super) const fn noun(task: Task) -> &'static str {
    match task {
        Task::Create => "creation",
        Task::Update => "update",
        Task::Delete => "deletion",
    }
}

/// What the settings let become of an answer, so that platforms can be tried against a broker at its worst.
async fn played(
    answered: Result<Response<Body>, Refusal>,
    played: &Played,
) -> Result<Response<Body>, Refusal> {
    if !played.after.is_zero() {
        tokio::time::sleep(played.after).await;
    }
    if let Some(status) = played.status.and_then(|status| StatusCode::from_u16(status).ok()) {
        return Err(Refusal::new(status, "simulated"));
    }
    if !played.dropped {
        return answered;
    }
    let mut response = answered.unwrap_or_else(Refusal::into_response);
    *response.body_mut() = Body::stream(Broken);
    Ok(response)
}

/// A body that breaks off before its first byte.
struct Broken;

impl http_body::Body for Broken {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, BoxError>>> {
        std::task::Poll::Ready(Some(Err("simulated".into())))
    }
}
