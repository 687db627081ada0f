//! An offer is bound: what is to be is written down, and the answer waits for it.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{Body, Change, Error, ErrorKind, Fault, Federation, ResourceId, Timestamp};
use tokio::time::Instant;

use super::Stop;
use super::offer::Offer;
use super::record::{Asked, Blame, Bound, Errand, Goal, Instance, POLLING, Plan, Step, derived};
use super::services::{Found, Services, Written};
use crate::cloudpipe::broker::answer::{Refusal, located};
use crate::cloudpipe::broker::pipe::{Binding, Pipe, PipeId, Side};
use crate::cloudpipe::broker::wire;
use crate::cloudpipe::broker::wish::Wish;
use crate::cloudpipe::shape::field;

/// How often a creation is tried that others make at the same time.
const TRIES: usize = 8;

/// A body, read.
pub(super) struct Wanted {
    wish: Wish,
    pub(super) asked: Asked,
}

impl Wanted {
    /// Reads a body: a pipe's, flat or under `pipe`, and `parameters`, `binding_parameters` and `context` in the same place or
    /// beside it.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let body = if body.is_empty() { b"{}" } else { body };
        let wish = Wish::read(body)?;
        let outer: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| Refusal::bad("", format!("the body must be a JSON object: {error}")))?;
        let nothing = Map::new();
        let inner = field(&outer, "pipe").and_then(Value::as_object).unwrap_or(&nothing);
        let object = |name: &str| match field(&outer, name).or_else(|| field(inner, name)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(_) => Err(Refusal::bad(name, "must be an object")),
        };
        let asked = Asked {
            parameters: object("parameters")?,
            binding_parameters: object("binding_parameters")?,
            context: object("context")?,
        };
        Ok(Self { wish, asked })
    }
}

impl Services {
    /// Binds an offer.
    pub(super) async fn create(
        &self,
        fed: &dyn Federation,
        until: Instant,
        (resource, found, offer): (ResourceId, Found, Offer),
        wanted: Wanted,
    ) -> Result<Response<Body>, Stop> {
        let bound = new(fed, (&resource, &found, &offer), wanted)?;
        let errand = bound.errand();
        self.begin(bound, &errand, fed).await?;
        let is_over = |bound: &Bound| !matches!(bound.step, Step::Provision | Step::Bind);
        let Some(stored) = self.wait(&errand, until, is_over).await? else {
            return Err(Refusal::conflict(format!("the pipe {} was just deleted", errand.id)).into());
        };
        let bound = stored.bound;
        if let (Goal::Failed, Some(trouble)) = (bound.goal, &bound.trouble) {
            let status = match trouble.blame {
                Blame::Caller => StatusCode::BAD_REQUEST,
                Blame::Broker => StatusCode::BAD_GATEWAY,
            };
            let text = format!("{} could not be bound: {}", bound.plan.provider, trouble.text);
            return Err(Refusal::new(status, text).into());
        }
        let shown = wire::flat(self.shown(&bound, fed).await?, bound.pipe.binding.as_ref());
        let uri = wire::uri(fed.public_url(), &bound.resource, &bound.pipe.id);
        Ok(located(StatusCode::ACCEPTED, &shown, &wire::location(&uri)))
    }

    /// Writes down what is to be, unless it is so already.
    async fn begin(&self, bound: Bound, errand: &Errand, fed: &dyn Federation) -> Result<(), Stop> {
        for _ in 0..TRIES {
            let before = self.load(errand).await?;
            let attempt = match &before {
                Some(there) if !there.bound.is_of(fed.caller()) || there.bound.goal == Goal::Gone => {
                    return Err(taken(errand).into());
                }
                Some(there) if there.bound.step == Step::Failed => there.bound.attempt.saturating_add(1),
                Some(there) if is_same(&there.bound, &bound) => return Ok(()),
                Some(_) => return Err(taken(errand).into()),
                None => 0,
            };
            let bound = named(bound.clone(), attempt, fed);
            let mut others = vec![Change::Schedule(errand.job(Duration::ZERO)?)];
            if matches!(bound.instance, Instance::Made(_)) {
                others.push(bound.instance_place().claim(fed).await?);
            }
            others.push(bound.binding_place(&bound.binding).claim(fed).await?);
            if before.is_none() {
                let value = Bytes::from(errand.resource.to_string());
                others.push(Change::Put { key: errand.name_key(), value, expected: None });
            }
            if self.write(&bound, before.as_ref(), others).await? == Written::Done {
                return Ok(());
            }
        }
        Err(Refusal::busy("this pipe is made by too many at once; try again").into())
    }
}

fn taken(errand: &Errand) -> Refusal {
    Refusal::conflict(format!("{} has a pipe {} already", errand.resource, errand.id))
}

/// Whether a request asks for what is there.
fn is_same(there: &Bound, asked: &Bound) -> bool {
    let choice = |bound: &Bound| bound.pipe.binding.clone();
    there.asked == asked.asked && choice(there) == choice(asked) && there.plan.plan_id == asked.plan.plan_id
}

/// With the ids that follow from what it is for.
fn named(bound: Bound, attempt: u32, fed: &dyn Federation) -> Bound {
    let id = |what: &str| derived(what, fed.caller(), &bound.plan, &bound.errand(), attempt);
    let (instance, binding) = (id("instance"), id("binding"));
    let instance = match &bound.instance {
        Instance::Made(_) => Instance::Made(instance),
        Instance::Found(found) => Instance::Found(found.clone()),
    };
    Bound { instance, binding, attempt, ..bound }
}

/// The pipe that a body asks for; its ids are still to be given.
fn new(
    fed: &dyn Federation,
    (resource, found, offer): (&ResourceId, &Found, &Offer),
    wanted: Wanted,
) -> Result<Bound, Stop> {
    let Wanted { mut wish, asked } = wanted;
    let (provider, instance, step) = match found {
        Found::Provider(provider) => (provider, Instance::Made(String::new()), Step::Provision),
        Found::Instance { provider, .. } => (provider, Instance::Found(resource.to_string()), Step::Bind),
    };
    if !fed.identity_at(&provider.id).is_empty() {
        let text =
            format!("{} is asked with each caller's own credential, which a pipe would outlive", provider.id);
        return Err(Error::new(ErrorKind::Forbidden, Fault::Proxy, text)
            .advise("give the provider a credential of standpipe's own, or bind through /v2")
            .into());
    }
    let choice = offer.blueprint.choose(wish.proto.take(), std::mem::take(&mut wish.adapters))?;
    let id = wish.id.take().unwrap_or_else(PipeId::random);
    let binding = Binding {
        side: Side::Offers,
        blueprint: offer.blueprint.name.clone(),
        proto: choice.proto,
        adapters: choice.adapters,
        slot: String::new(),
    };
    let pipe = Pipe { binding: Some(binding), ..wish.into_pipe(id) };
    if pipe.this.data.is_some() {
        return Err(Refusal::bad("this.data", "is what the service's broker gives").into());
    }
    Ok(Bound {
        pipe,
        resource: resource.clone(),
        owner: fed.caller().id.clone(),
        tenant: fed.caller().tenant.clone(),
        plan: plan(provider.id.clone(), offer),
        instance,
        binding: String::new(),
        previous: None,
        attempt: 0,
        asked,
        step,
        polled: None,
        since: Timestamp::now(),
        goal: Goal::Live,
        news: None,
        told: Vec::new(),
        trouble: None,
    })
}

pub(super) fn plan(provider: standpipe_api::ProviderId, offer: &Offer) -> Plan {
    let plan = &offer.plan;
    let of = |key: &str| plan.plan_fields.get(key).or_else(|| plan.service_fields.get(key));
    let version = plan.plan_fields.get("maintenance_info").and_then(|info| info.get("version")?.as_str());
    Plan {
        provider,
        service_id: plan.service_id.clone(),
        plan_id: plan.plan_id.clone(),
        retrievable: plan.is_retrievable(),
        rotatable: of("binding_rotatable").and_then(Value::as_bool).unwrap_or_default(),
        polling: of("maximum_polling_duration").and_then(Value::as_u64).unwrap_or(POLLING.as_secs()),
        version: version.map(str::to_owned),
    }
}
