//! The life of an operation after its start: steps, the hook, and what came of it.
//!
//! It is a durable job, asynchronous or not. After a crash it goes on at the step where it was; a hook that may have been
//! asked already is asked again with the same operation id.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use standpipe_api::{Change, Error, Job, JobId, JobOutcome, NewJob, ProviderId, Timestamp, backoff};

use super::answer::Refusal;
use super::begin::noun;
use super::core::{Broker, Stored, TRIES, put};
use super::hook::{Made, Predecessor};
use super::records::{Entry, Failure, Held, Operation, OperationId, Progress, Side, Subject, Task, Wish};
use super::settings::{BrokerSettings, Procedure};
use super::template;

/// Between attempts to write down what was done: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A job of the broker, as its payload says it. It names its provider, since all brokers of a standpipe share one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Errand {
    pub(super) provider: ProviderId,
    side: Side,
    operation: OperationId,
}

impl Errand {
    pub(super) fn of(provider: &ProviderId, operation: &Operation) -> Self {
        let side = operation.subject.side();
        Self { provider: provider.clone(), side, operation: operation.id.clone() }
    }

    /// One job for each operation, so that its work never runs twice at a time.
    pub(super) fn id(&self) -> JobId {
        JobId(format!("operation/{}/{}/{}", self.provider, self.side.word(), self.operation))
    }

    pub(super) fn job(&self) -> Result<NewJob, Error> {
        let payload = serde_json::to_vec(self)
            .map_err(|error| Error::internal("a job cannot be written").because(error))?;
        Ok(NewJob { id: self.id(), payload: Bytes::from(payload), delay: Duration::ZERO })
    }

    pub(super) fn read(job: &Job) -> Result<Self, String> {
        serde_json::from_slice(&job.payload)
            .map_err(|error| format!("{} has no readable payload: {error}", job.id))
    }
}

/// How far an attempt came.
enum Attempt {
    Ended,
    /// A simulated step takes this long.
    Pause(Duration),
}

impl Broker {
    /// Carries out a job.
    pub(super) async fn run(&self, errand: &Errand, job: Job) -> JobOutcome {
        match self.attempt(errand).await {
            Ok(Attempt::Ended) => JobOutcome::Done,
            Ok(Attempt::Pause(delay)) => {
                JobOutcome::Again { delay, payload: job.payload, reason: "a step is under way".to_owned() }
            }
            Err(refusal) => {
                let reason = refusal.description();
                tracing::warn!(broker = %self.name, job = %job.id, reason, "an operation will be tried again");
                JobOutcome::Again { delay: backoff(job.attempts, WAITS), payload: job.payload, reason }
            }
        }
    }

    async fn attempt(&self, errand: &Errand) -> Result<Attempt, Refusal> {
        let row = self.operation(errand.side, &errand.operation).await?;
        let Some(mut row) = row.filter(|row| row.content.progress.ended().is_none()) else {
            return Ok(Attempt::Ended);
        };
        let settings = self.settings();
        let (service, plan) = (row.content.service.clone(), row.content.plan.clone());
        let procedure = settings.procedure(&service, &plan, errand.side, row.content.task);
        let made = match step(&mut row.content, procedure) {
            Step::Pause(delay) => {
                let key = Operation::key(errand.side, &errand.operation);
                let change = put(key, &row.content, Some(row.revision))?;
                // Nobody else writes a row in progress: a conflict is an attempt that came to nothing.
                let _lost = self.state()?.commit(vec![change]).await?;
                return Ok(Attempt::Pause(delay));
            }
            Step::Failed(failure) => Err(failure),
            Step::Work => self.work(&settings, &row.content, procedure).await?,
        };
        self.settle(&row, made).await?;
        Ok(Attempt::Ended)
    }

    /// What the hook, or the settings alone, make of it; an error of ours is tried again.
    async fn work(
        &self,
        settings: &BrokerSettings,
        operation: &Operation,
        procedure: &Procedure,
    ) -> Result<Result<Made, Failure>, Refusal> {
        let entry = self.entry(&operation.subject).await?.map(|stored| stored.content);
        let parent = match operation.subject.binding {
            Some(_) => self.entry(&operation.subject.parent()).await?.and_then(|stored| stored.content.held),
            None => None,
        };
        let Some(held) = entry.and_then(|entry| entry.held) else {
            return Ok(Err(Failure::new("what it is about is gone")));
        };
        let hooked = match &procedure.hook {
            Some(hook) => {
                let told = settings.story(
                    operation,
                    &held,
                    parent.as_ref(),
                    self.predecessor(operation, &held).await?,
                );
                hook.ask(&told, operation, &*self.engine()?.outbound).await
            }
            None => Ok(Made::default()),
        };
        Ok(hooked.and_then(|made| match (operation.task, &operation.subject.binding) {
            (Task::Create, Some(_)) => settings.complete(made, operation, parent.as_ref()),
            _ => Ok(made),
        }))
    }

    /// The binding that this one takes the place of.
    async fn predecessor(&self, operation: &Operation, held: &Held) -> Result<Option<Predecessor>, Refusal> {
        let Some(id) = &held.wish.predecessor else { return Ok(None) };
        let subject = Subject { binding: Some(id.clone()), ..operation.subject.clone() };
        let entry = self.entry(&subject).await?.and_then(|stored| stored.content.held);
        Ok(entry.map(|held| Predecessor { id: id.clone(), held }))
    }

    /// Writes down how it ended.
    async fn settle(&self, row: &Stored<Operation>, made: Result<Made, Failure>) -> Result<(), Refusal> {
        let mut operation = row.content.clone();
        let (side, task) = (operation.subject.side(), operation.task);
        let result = if made.is_ok() { Progress::Succeeded } else { Progress::Failed };
        operation.progress = result;
        operation.failure = made.as_ref().err().cloned();
        operation.description = match &made {
            Ok(_) => format!("{} {} succeeded.", side.noun(), noun(task)),
            Err(failure) => failure.description.clone(),
        };
        let wish = operation.wish.take();
        if task == Task::Delete && made.is_ok() && side == Side::Instances {
            self.drop_bindings(&operation).await?;
        }
        for _ in 0..TRIES {
            let stored = self.entry(&operation.subject).await?;
            let mut changes = vec![put(Operation::key(side, &operation.id), &operation, Some(row.revision))?];
            if let Some(Stored { content: mut entry, revision }) = stored {
                entry.busy = false;
                entry.apply(task, wish.clone(), &made);
                changes.push(put(operation.subject.key(), &entry, Some(revision))?);
            }
            if self.state()?.commit(changes).await?.is_ok() {
                tracing::info!(broker = %self.name, operation = %operation.id, side = side.word(), task = task.word(), state = result.word(), "an operation ended");
                self.settled.send_modify(|count| *count = count.wrapping_add(1));
                return Ok(());
            }
        }
        Err(Refusal::busy("what came of the operation could not be written down"))
    }

    /// Bindings end with their instance.
    async fn drop_bindings(&self, operation: &Operation) -> Result<(), Refusal> {
        loop {
            let page = self.bindings(&operation.subject, None).await?;
            if page.is_empty() {
                return Ok(());
            }
            let remove =
                |record: standpipe_api::Record| Change::Remove { key: record.key, expected: record.revision };
            let removed = self.state()?.commit(page.into_iter().map(remove).collect()).await?;
            removed.map_err(|_conflict| Refusal::busy("a binding changed while its instance was deleted"))?;
        }
    }
}

/// What comes next.
enum Step {
    /// The next step is under way.
    Pause(Duration),
    /// The step that was to fail has.
    Failed(Failure),
    /// The steps are done.
    Work,
}

/// Goes on to the next step of a simulation.
fn step(operation: &mut Operation, procedure: &Procedure) -> Step {
    while let Some(step) = procedure.steps.get(operation.steps) {
        operation.steps += 1;
        operation.description = step.description.clone().unwrap_or_else(|| {
            let (noun, of) = (operation.subject.side().noun(), noun(operation.task));
            format!("{noun} {of} is in progress: step {} of {}.", operation.steps, procedure.steps.len())
        });
        match &procedure.fails {
            Some((Some(at), failure)) if *at == operation.steps => return Step::Failed(failure.clone()),
            _ if !step.delay.is_zero() => return Step::Pause(step.delay),
            _ => {}
        }
    }
    match &procedure.fails {
        Some((_, failure)) => Step::Failed(failure.clone()),
        None => Step::Work,
    }
}

impl Entry {
    /// What there is after an operation.
    fn apply(&mut self, task: Task, wish: Option<Wish>, made: &Result<Made, Failure>) {
        match (task, made) {
            (Task::Delete, Ok(_)) => self.held = None,
            // Who refuses a request has done nothing.
            (Task::Create, Err(failure)) if failure.status < 500 => self.held = None,
            (Task::Create | Task::Update, Ok(made)) => {
                if let Some(held) = &mut self.held {
                    held.made = true;
                    held.wish = wish.unwrap_or_else(|| held.wish.clone());
                    held.state = made.state.clone().unwrap_or_else(|| held.state.take());
                    held.told.extend(made.told.clone());
                }
            }
            (_, Err(_)) => {}
        }
    }
}

impl BrokerSettings {
    /// A binding's credentials and other fields, as far as its hook did not say them.
    fn complete(
        &self,
        mut made: Made,
        operation: &Operation,
        instance: Option<&Held>,
    ) -> Result<Made, Failure> {
        let failed = |error: String| {
            tracing::error!(operation = %operation.id, error, "a binding cannot be made");
            Failure::new("the binding's credentials cannot be made")
        };
        let Some(wish) = &operation.wish else { return Ok(made) };
        let data = &self.works(&wish.service, &wish.plan).binding;
        let password = crate::outside::secret::random().map_err(|error| failed(error.to_owned()))?;
        let lookup = |name: &str| match name.strip_prefix("state.") {
            Some(key) => match instance.and_then(|held| held.state.get(key))? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
            None if name == "password" => Some(password.clone()),
            None => self.name(&operation.subject, wish, name),
        };
        for (key, value) in &data.fields {
            if !made.told.contains_key(key) {
                let value = template::render(value, &lookup).map_err(failed)?;
                made.told.insert(key.clone(), value);
            }
        }
        if let Some(after) = data.expires_after.filter(|_| !made.told.contains_key("metadata")) {
            let expires = Timestamp::now().plus(after);
            let mut metadata = serde_json::json!({ "expires_at": expires });
            if let (Some(before), Some(metadata)) = (data.renew_before, metadata.as_object_mut()) {
                let renew = Timestamp::now().plus(after.saturating_sub(before));
                metadata.insert("renew_before".to_owned(), renew.to_string().into());
            }
            made.told.insert("metadata".to_owned(), metadata);
        }
        Ok(made)
    }
}
