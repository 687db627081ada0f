//! Carries out what is to be done with an add-on: one request after the other, each written down before the next.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::{Map, Value, json};
use standpipe_api::{Change, Error, ErrorKind, MappingState, Record, Resource, Result, State, Timestamp};

use super::record::{Addon, Plan};
use super::stage::{Heard, Left, Progress, Stage, Task, Work};
use crate::osb::Brokers;
use crate::osb::client::{Client, Reply, Through};

/// Steps that one command makes at most: bind and provision, and both back.
const STEPS: usize = 8;

/// Add-ons somebody is at, in this process. Nobody else begins the same request meanwhile.
#[derive(Clone, Default)]
pub(super) struct Busy(Arc<Mutex<HashSet<String>>>);

/// Being at one of them.
struct At<'a>(&'a Busy, String);

impl Busy {
    fn enter(&self, key: &str) -> Option<At<'_>> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.insert(key.to_owned()).then(|| At(self, key.to_owned()))
    }
}

impl Drop for At<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What carrying on needs.
#[derive(Clone, Copy)]
pub(super) struct Carrier<'a> {
    pub brokers: &'a Brokers,
    pub busy: &'a Busy,
    pub state: &'a dyn State,
    pub through: Through<'a>,
}

impl Carrier<'_> {
    /// Does what is due of an add-on until the broker is to be waited for. The add-on as it is then; `None`: it is gone.
    ///
    /// # Errors
    /// The store does not answer, or the broker could not be asked: then nothing was sent and nothing has changed.
    pub(super) async fn carry_on(&self, key: &str) -> Result<Option<Addon>> {
        let Some(_alone) = self.busy.enter(key) else {
            return self.state.get(key).await?.as_ref().map(Addon::read).transpose();
        };
        for _ in 0..STEPS {
            let Some(record) = self.state.get(key).await? else { return Ok(None) };
            let addon = Addon::read(&record)?;
            let now = Timestamp::now();
            let due = match &addon.stage {
                Stage::Working(work) if work.ask_after <= now => work.clone(),
                _ => return Ok(Some(addon)),
            };
            let (heard, mut changes) = if now >= due.deadline {
                (Heard::Overdue, Vec::new())
            } else {
                self.ask(&addon, &due).await?
            };
            let unclaim = addon.at.unclaim();
            let after = addon.after(heard, Timestamp::now());
            if after.as_ref().is_none_or(|addon| addon.stage == Stage::Failed(Left::Nothing)) {
                changes.extend(unclaim);
            }
            changes.push(next(record, after)?);
            // Whoever wrote it meanwhile wants something else: that is next.
            let _lost = self.state.commit(changes).await?;
        }
        self.state.get(key).await?.as_ref().map(Addon::read).transpose()
    }

    async fn ask(&self, addon: &Addon, work: &Work) -> Result<(Heard, Vec<Change>)> {
        let client = Client::new(self.brokers, self.through, addon.at.caller());
        let (plan, resource) = target(addon, &work.task);
        let place = plan.place(resource.clone());
        if let Progress::Accepted(operation) = &work.progress {
            let reply = client.poll(&place, operation.as_deref()).await?;
            return Ok((
                Heard::Polled(self.with_credentials(&client, addon, work, reply).await?),
                Vec::new(),
            ));
        }
        let creates = matches!(work.task, Task::Provision | Task::Bind);
        let answered = match &work.task {
            Task::Provision => client.create(&place, provision(addon)).await,
            Task::Bind => client.create(&place, bind(addon)).await,
            Task::Update(update) => {
                client.update(&place, update_of(addon, &update.plan, update.parameters.as_ref())).await
            }
            Task::Unbind(_) | Task::Deprovision(_) => client.delete(&place).await,
        };
        let reply = match answered {
            Ok(reply) => reply,
            Err(error) if is_lost(&error) => return Ok((Heard::Lost, Vec::new())),
            Err(error) => return Err(error),
        };
        let lives =
            creates && matches!(reply.status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED);
        let live = Change::Move(resource, place.provider.clone(), MappingState::Live);
        let changes = lives.then_some(live).into_iter().collect();
        Ok((Heard::Answered(reply), changes))
    }

    /// A binding that took its time is fetched, which is the only way to its credentials.
    async fn with_credentials(
        &self,
        client: &Client<'_>,
        addon: &Addon,
        work: &Work,
        mut reply: Reply,
    ) -> Result<Reply> {
        let succeeded = reply.body.get("state").and_then(Value::as_str) == Some("succeeded");
        if work.task == Task::Bind && succeeded && !addon.plan.retrievable {
            let fetched = client.fetch(&addon.plan.place(addon.at.binding())).await?;
            let given = fetched.body.get("credentials").cloned();
            reply.body.extend(given.map(|given| ("credentials".to_owned(), given)));
        }
        Ok(reply)
    }
}

/// What becomes of the record.
fn next(record: Record, after: Option<Addon>) -> Result<Change> {
    Ok(match after {
        Some(addon) => {
            Change::Put { key: record.key, value: addon.written()?, expected: Some(record.revision) }
        }
        None => Change::Remove { key: record.key, expected: record.revision },
    })
}

/// Whether nobody knows if a request arrived.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Nonsense)
}

/// What a task is about, and the plan that is said with it.
fn target<'a>(addon: &'a Addon, task: &'a Task) -> (&'a Plan, Resource) {
    match task {
        Task::Provision | Task::Deprovision(_) => (&addon.plan, addon.at.instance()),
        Task::Update(update) => (&update.plan, addon.at.instance()),
        Task::Bind | Task::Unbind(_) => (&addon.plan, addon.at.binding()),
    }
}

/// What every broker is told of the app.
fn common(addon: &Addon) -> Map<String, Value> {
    let context = json!({
        "platform": "standpipe",
        "organization_guid": addon.at.organization(),
        "space_guid": addon.at.space(),
        "app_name": addon.at.app,
        "channel": addon.at.channel,
    });
    Map::from_iter([("context".to_owned(), context)])
}

fn provision(addon: &Addon) -> Map<String, Value> {
    let mut body = common(addon);
    body.insert("organization_guid".into(), addon.at.organization().into());
    body.insert("space_guid".into(), addon.at.space().into());
    add(&mut body, &addon.plan, addon.parameters.as_ref());
    body
}

fn bind(addon: &Addon) -> Map<String, Value> {
    let mut body = common(addon);
    body.insert("bind_resource".into(), json!({ "app_guid": addon.at.app }));
    body
}

fn update_of(addon: &Addon, to: &Plan, parameters: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut body = common(addon);
    let before = json!({
        "service_id": addon.plan.service_id,
        "plan_id": addon.plan.plan_id,
        "organization_id": addon.at.organization(),
        "space_id": addon.at.space(),
    });
    body.insert("previous_values".into(), before);
    add(&mut body, to, parameters);
    body
}

fn add(body: &mut Map<String, Value>, plan: &Plan, parameters: Option<&Map<String, Value>>) {
    if let Some(parameters) = parameters {
        body.insert("parameters".into(), parameters.clone().into());
    }
    if let Some(version) = &plan.maintenance {
        body.insert("maintenance_info".into(), json!({ "version": version }));
    }
}
