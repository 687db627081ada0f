//! What users ask for.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use standpipe_api::{
    Body, Call, Change, Error, ErrorKind, Fault, Federation, JobId, ProviderId, Record, Result, Timestamp,
};

use super::carry::Carrier;
use super::record::{Addon, At, Bound, Plan};
use super::stage::{Left, Stage, Task, Update, Why};
use super::{Addons, broker_said, choice, job, json as answer};
use crate::incoming;
use crate::osb::client::{Client, Through};
use crate::osb::offered::Offered;
use crate::path::{decode, is_segment};

/// When a broker that has not answered yet may have.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Bytes of a request.
const LONGEST: usize = 64 * 1024;
/// Letters of an app's or channel's name.
const LONGEST_NAME: usize = 128;
/// Add-ons in one list.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    plan: Option<String>,
    app: String,
    channel: String,
    parameters: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    plan: Option<String>,
    parameters: Option<Map<String, Value>>,
}

impl Addons {
    fn carrier<'a>(&'a self, fed: &'a dyn Federation, state: &'a dyn standpipe_api::State) -> Carrier<'a> {
        Carrier { brokers: &self.brokers, busy: &self.busy, state, through: Through::Call(fed) }
    }

    pub(super) async fn catalog(&self, fed: &dyn Federation) -> Result<Response<Body>> {
        let offered = choice::offered(&self.brokers, fed).await;
        let missing = self.brokers.missing(fed);
        let body = json!({ "services": choice::catalog(&offered), "missing": missing });
        Ok(answer(StatusCode::OK, &body))
    }

    pub(super) async fn service(
        &self,
        name: &str,
        call: &Call,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let offered = choice::offered(&self.brokers, fed).await;
        let plan = parameter(call, "plan")?;
        let found = choice::one(&offered, name, plan.as_deref());
        Ok(answer(
            StatusCode::OK,
            &found.map_err(|error| self.perhaps_missing(error, (name, &offered), fed))?,
        ))
    }

    /// While a broker has never answered, nobody knows that it does not offer a service.
    fn perhaps_missing(
        &self,
        error: Error,
        (name, offered): (&str, &[Offered]),
        fed: &dyn Federation,
    ) -> Error {
        let missing = self.brokers.missing(fed);
        let is_offered = offered.iter().any(|offered| offered.service == name);
        let Some(first) = missing.first().filter(|_| !is_offered) else { return error };
        let names: Vec<&str> = missing.iter().map(ProviderId::as_str).collect();
        let text = format!(
            "{}; what these offer is not known, for they have not answered: {}",
            error.public(),
            names.join(", ")
        );
        Error::new(ErrorKind::CouldNotAsk, Fault::Provider(first.clone()), text)
            .advise("try again later")
            .retry_after(RETRY_AFTER)
            .with_candidates(missing)
    }

    pub(super) async fn list(&self, call: &Call, fed: &dyn Federation) -> Result<Response<Body>> {
        let (app, channel) = (parameter(call, "app")?, parameter(call, "channel")?);
        let given = [("app", &app), ("channel", &channel)];
        given
            .into_iter()
            .try_for_each(|(what, name)| name.as_deref().map_or(Ok(()), |name| check((what, name))))?;
        let prefix = At::group(fed.caller(), app.as_deref(), channel.as_deref());
        let mut addons = Vec::new();
        for record in fed.state().list(&prefix, None, MOST).await? {
            let addon = Addon::read(&record)?;
            if channel.as_ref().is_none_or(|channel| *channel == addon.at.channel) {
                addons.push(addon.shown());
            }
        }
        Ok(answer(StatusCode::OK, &json!({ "addons": addons })))
    }

    pub(super) async fn add(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let wanted: Wanted = read(call, request).await?;
        let at = named(fed, [&wanted.app, &wanted.channel, &wanted.name])?;
        let offered = choice::offered(&self.brokers, fed).await;
        let known = fed.state().get(&at.key()).await?;
        let own = known.as_ref().map(Addon::read).transpose()?;
        let plan = choice::plan(&offered, (&wanted.name, wanted.plan.as_deref()), own.as_ref());
        let plan = plan.map_err(|error| self.perhaps_missing(error, (&wanted.name, &offered), fed))?;
        if let Some(addon) = &own {
            let same = addon.plan.plan_id == plan.plan_id && addon.plan.provider == plan.provider;
            match &addon.stage {
                Stage::Working(work) if same && matches!(work.task, Task::Provision | Task::Bind) => {
                    return self.carried(&at, Method::PUT, fed).await;
                }
                Stage::Ready
                    if same
                        && wanted
                            .parameters
                            .as_ref()
                            .is_none_or(|new| Some(new) == addon.parameters.as_ref()) =>
                {
                    return Ok(answer(StatusCode::OK, &addon.shown()));
                }
                Stage::Failed(Left::Nothing) => {}
                _ => return Err(occupied(addon)),
            }
        }
        let addon = Addon::new(at, plan, wanted.parameters, Timestamp::now());
        self.begin(addon, known, Method::PUT, fed).await
    }

    pub(super) async fn update(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let changed: Changed = read(call, request).await?;
        let (record, mut addon) = self.known(call, fed).await?;
        let offered = choice::offered(&self.brokers, fed).await;
        let plan = match &changed.plan {
            Some(plan) => {
                let plan = choice::plan(&offered, (&addon.at.name, Some(plan)), Some(&addon));
                plan.map_err(|error| self.perhaps_missing(error, (&addon.at.name, &offered), fed))?
            }
            None if changed.parameters.is_none() => {
                return Err(Error::invalid("nothing is to change").advise("give a plan or parameters"));
            }
            None => addon.plan.clone(),
        };
        if let Stage::Working(work) = &addon.stage {
            let same = matches!(&work.task, Task::Update(update) if update.plan.plan_id == plan.plan_id);
            return if same {
                self.carried(&addon.at, Method::PATCH, fed).await
            } else {
                Err(occupied(&addon))
            };
        }
        if addon.stage != Stage::Ready {
            return Err(occupied(&addon));
        }
        let parameters = changed.parameters.filter(|new| Some(new) != addon.parameters.as_ref());
        if plan.plan_id == addon.plan.plan_id && parameters.is_none() {
            return Ok(answer(StatusCode::OK, &addon.shown()));
        }
        refuse_move(&addon, &plan, &offered)?;
        plan.place(addon.at.instance()).admit(&Method::PATCH, fed)?;
        let update = Update { plan, parameters };
        addon.stage = Stage::begin(Task::Update(Box::new(update)), Timestamp::now());
        addon.error = None;
        self.begin(addon, Some(record), Method::PATCH, fed).await
    }

    pub(super) async fn remove(&self, call: &Call, fed: &dyn Federation) -> Result<Response<Body>> {
        let (record, mut addon) = self.known(call, fed).await?;
        addon.plan.place(addon.at.instance()).admit(&Method::DELETE, fed)?;
        let removing =
            |task: &Task| matches!(task, Task::Unbind(Why::Wanted) | Task::Deprovision(Why::Wanted));
        if matches!(&addon.stage, Stage::Working(work) if removing(&work.task)) {
            return self.carried(&addon.at, Method::DELETE, fed).await;
        }
        let Some(stage) = addon.removal(Timestamp::now()) else {
            let gone = Change::Remove { key: record.key, expected: record.revision };
            fed.state().commit(vec![gone]).await?.map_err(|_| written_meanwhile())?;
            return Ok(answer(StatusCode::OK, &json!({})));
        };
        (addon.stage, addon.error) = (stage, None);
        self.begin(addon, Some(record), Method::DELETE, fed).await
    }

    pub(super) async fn show(&self, call: &Call, fed: &dyn Federation) -> Result<Response<Body>> {
        let (record, mut addon) = self.known(call, fed).await?;
        if matches!(addon.stage, Stage::Working(_)) {
            let state = fed.state();
            match self.carrier(fed, &*state).carry_on(&record.key).await {
                Ok(Some(now)) => addon = now,
                Ok(None) => return Err(not_added(&addon.at, &[])),
                // It is as it was; whoever asks again may see more.
                Err(error) => tracing::debug!(key = record.key, error = error.log_text(), "an add-on waits"),
            }
        }
        Ok(answer(StatusCode::OK, &addon.shown()))
    }

    pub(super) async fn credentials(&self, call: &Call, fed: &dyn Federation) -> Result<Response<Body>> {
        let (_, addon) = self.known(call, fed).await?;
        let label = addon.label();
        if !addon.plan.bindable {
            return Err(Error::conflict(format!("{label} cannot be bound: it has no credentials")));
        }
        if addon.bound == Bound::No || !matches!(addon.stage, Stage::Ready | Stage::Working(_)) {
            return Err(Error::conflict(format!("{label} is not bound: it is {}", addon.stage.word())));
        }
        if let Some(credentials) = &addon.credentials {
            return Ok(answer(StatusCode::OK, &json!({ "credentials": credentials })));
        }
        let client = Client::new(&self.brokers, Through::Call(fed), addon.at.caller());
        let reply = client.fetch(&addon.plan.place(addon.at.binding())).await?;
        match reply.body.get("credentials") {
            Some(credentials) if reply.status == StatusCode::OK => {
                Ok(answer(StatusCode::OK, &json!({ "credentials": credentials })))
            }
            _ => Err(broker_said(
                &addon,
                &format!("the broker gave no credentials of {label}: {}", reply.status),
            )),
        }
    }

    /// Writes down what a command is about to do, with the job that carries it on, and does what can be done now. A command
    /// whose request never left changes nothing.
    async fn begin(
        &self,
        mut addon: Addon,
        before: Option<Record>,
        method: Method,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let (state, key) = (fed.state(), addon.at.key());
        let expected = before.as_ref().map(|record| record.revision);
        let claims = if method == Method::PUT { addon.claim(fed).await? } else { Vec::new() };
        let put = Change::Put { key: key.clone(), value: addon.written()?, expected };
        let changes = [put, Change::Schedule(job(&key))].into_iter().chain(claims);
        state.commit(changes.collect()).await?.map_err(|_| written_meanwhile())?;
        let begun = state.get(&key).await?;
        let carried = self.carried(&addon.at, method, fed).await;
        let unchanged = match (&begun, state.get(&key).await?) {
            (Some(begun), Some(now)) if begun.revision == now.revision => Some(now),
            _ => None,
        };
        if let (Err(_), Some(now)) = (&carried, unchanged) {
            let undo = match before {
                Some(record) => {
                    Change::Put { key: record.key, value: record.value, expected: Some(now.revision) }
                }
                None => Change::Remove { key: now.key, expected: now.revision },
            };
            let changes = [undo, Change::Cancel(JobId(key))].into_iter().chain(addon.at.unclaim());
            // Whoever wrote it meanwhile has seen to it.
            let _theirs = state.commit(changes.collect()).await?;
        }
        carried
    }

    /// Carries an add-on on, and says where it is.
    async fn carried(&self, at: &At, method: Method, fed: &dyn Federation) -> Result<Response<Body>> {
        let state = fed.state();
        let Some(addon) = self.carrier(fed, &*state).carry_on(&at.key()).await? else {
            return Ok(answer(StatusCode::OK, &json!({})));
        };
        let status = match (&addon.stage, &addon.error) {
            (Stage::Working(_), _) => StatusCode::ACCEPTED,
            (_, Some(error)) => return Err(broker_said(&addon, error)),
            _ if method == Method::PUT => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        Ok(answer(status, &addon.shown()))
    }

    async fn known(&self, call: &Call, fed: &dyn Federation) -> Result<(Record, Addon)> {
        let named = named(fed, ["app", "channel", "name"].map(|part| call.params.get(part)))?;
        if let Some(record) = fed.state().get(&named.key()).await? {
            let addon = Addon::read(&record)?;
            return Ok((record, addon));
        }
        let group = At::group(fed.caller(), Some(&named.app), Some(&named.channel));
        let others = fed.state().list(&group, None, MOST).await?;
        let others: Vec<Addon> = others.iter().map(Addon::read).collect::<Result<_>>()?;
        Err(not_added(&named, &others))
    }
}

/// Plan changes that the broker does not allow are refused before anything is sent.
fn refuse_move(addon: &Addon, to: &Plan, offered: &[Offered]) -> Result<()> {
    if to.service_id != addon.plan.service_id || to.provider != addon.plan.provider {
        let text = format!("{} is now another service than the one that was added", addon.at.name);
        return Err(Error::conflict(text).advise("remove the add-on and add it again"));
    }
    if to.plan_id == addon.plan.plan_id {
        return Ok(());
    }
    // What the present plan says counts; it may no longer be shown.
    let present = offered.iter().find(|offered| offered.plan_id == addon.plan.plan_id);
    let judged = present.or_else(|| offered.iter().find(|offered| offered.plan_id == to.plan_id));
    if judged.is_some_and(Offered::is_updateable) {
        return Ok(());
    }
    let text = format!("{} cannot be moved to another plan", addon.label());
    Err(Error::conflict(text)
        .advise("remove the add-on and add it with the other plan; its data is then gone"))
}

fn occupied(addon: &Addon) -> Error {
    let (label, place) = (addon.label(), format!("{}:{}", addon.at.app, addon.at.channel));
    let name = &addon.at.name;
    match &addon.stage {
        Stage::Ready => Error::conflict(format!("{name} is already added to {place}, as {label}"))
            .advise(format!("change it with `standpipe addons update {name}`")),
        Stage::Working(_) => Error::conflict(format!("{label} of {place} is {}", addon.stage.word()))
            .advise("wait until it is done"),
        Stage::Failed(_) => {
            let why = addon.error.as_deref().unwrap_or_default();
            Error::conflict(format!("{label} of {place} has failed: {why}"))
                .advise(format!("remove it first with `standpipe addons remove {name}`"))
        }
    }
}

fn not_added(at: &At, others: &[Addon]) -> Error {
    let text = format!("{} is not added to {}:{}", at.name, at.app, at.channel);
    let names: Vec<&str> = others.iter().map(|addon| addon.at.name.as_str()).collect();
    let there = names.join(", ");
    let advice =
        if names.is_empty() { "nothing is added to it".to_owned() } else { format!("added: {there}") };
    Error::new(ErrorKind::NoRoute, Fault::Caller, text).advise(advice)
}

fn written_meanwhile() -> Error {
    Error::conflict("somebody else changes this add-on").advise("try again")
}

fn named(fed: &dyn Federation, [app, channel, name]: [&str; 3]) -> Result<At> {
    [("app", app), ("channel", channel), ("name", name)].into_iter().try_for_each(check)?;
    let caller = fed.caller();
    Ok(At {
        caller: caller.id.clone(),
        tenant: caller.tenant.clone(),
        app: app.to_owned(),
        channel: channel.to_owned(),
        name: name.to_owned(),
        salt: None,
    })
}

fn check((what, name): (&str, &str)) -> Result<()> {
    if is_segment(name) && !name.trim().is_empty() && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let rule = format!("must be 1 to {LONGEST_NAME} letters, not blank, without `/` and not dots alone");
    Err(Error::invalid(format!("`{what}` {rule}")))
}

/// A parameter of the query; an empty one is absent.
fn parameter(call: &Call, name: &str) -> Result<Option<String>> {
    let pairs = call.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.into_iter().find(|(key, _)| *key == name) else { return Ok(None) };
    let value = decode(value).ok_or_else(|| Error::bad_request(format!("`{name}` is no UTF-8")))?;
    Ok(Some(value.into_owned()).filter(|value| !value.is_empty()))
}

async fn read<T: DeserializeOwned>(call: &Call, request: &mut Request<Body>) -> Result<T> {
    let body = incoming::body(call, request, LONGEST).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::bad_request(format!("the request is not understood: {error}")))
}
