//! From a method and path to what it does. What is not about an OSB service is left to others.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use standpipe_api::{Body, Call, Change, Error, Federation, ResourceId, Timestamp};
use tokio::time::Instant;

use super::Stop;
use super::create::{Wanted, plan};
use super::names::Ours;
use super::offer::Offer;
use super::record::{Bound, Errand, Goal, Instance, Step, Stored};
use super::services::{Found, Services, Written};
use crate::cloudpipe::broker::answer::{Refusal, empty, json};
use crate::cloudpipe::broker::pipe::{BlueprintName, Side};
use crate::cloudpipe::broker::push::address;
use crate::cloudpipe::broker::serve::{Kind, Place};
use crate::cloudpipe::broker::wish::Wish;
use crate::incoming;
use crate::osb::dialect::NAME;
use crate::osb::visibility::User;
use crate::path;

/// Bytes of a body, and of an end's data.
pub(super) const LONGEST: usize = 1 << 20;
/// How long an answer waits for the job, at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is left of the call then, to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How often a change is tried that others make at the same time.
const TRIES: usize = 8;

pub(super) type Done<T> = std::result::Result<T, Stop>;

impl Services {
    /// Answers a call that is about an OSB service; `None`: it is about something else.
    pub(super) async fn serve(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Done<Option<Response<Body>>> {
        if let Some(heard) = self.hear(call, request, fed).await? {
            return Ok(Some(heard));
        }
        if call.caller.is_nobody() || !fed.providers().iter().any(|provider| provider.dialect == NAME) {
            return Ok(None);
        }
        let Some(path) = self.full_path(call, fed).await? else { return Ok(None) };
        let (resource, _) = path::split_first(&path);
        let Some(resource) = path::decode(resource).map(|id| ResourceId::from(&*id)) else { return Ok(None) };
        let Some(place) = Place::read(&path) else { return Ok(None) };
        let found = self.find(fed, &resource).await?;
        let stored = match named(&place) {
            Some(errand) => self.load(&errand).await?.filter(|stored| stored.bound.is_of(fed.caller())),
            None => None,
        };
        let at = match (&found, &stored) {
            (Some(Found::Provider(provider) | Found::Instance { provider, .. }), _) => provider.id.clone(),
            // A pipe outlives what it was made under.
            (None, Some(stored)) => stored.bound.plan.provider.clone(),
            (None, None) => return Ok(None),
        };
        let ours = if stored.is_some() { Ours::Pipe } else { Ours::Name };
        if self.is_anothers(fed, &place, &resource, (ours, &at)).await? {
            return Ok(None);
        }
        let word = if call.method == Method::HEAD { "GET" } else { call.method.as_str() };
        if !place.allow().split(", ").any(|allowed| allowed == word) {
            return Err(Refusal::method(place.allow()).into());
        }
        let mut response = match (word, named(&place)) {
            (_, Some(errand)) => {
                let stored = stored.ok_or_else(|| unknown(&errand))?;
                self.serve_pipe(call, request, fed, (&place, errand, stored)).await?
            }
            (_, None) => self.serve_resource(call, request, fed, (&place, resource, found)).await?,
        };
        if call.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        Ok(Some(response))
    }

    /// A pipe that there is.
    async fn serve_pipe(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
        (place, errand, stored): (&Place, Errand, Stored),
    ) -> Done<Response<Body>> {
        match (&call.method, place) {
            (&Method::GET | &Method::HEAD, _) => {
                Ok(json(StatusCode::OK, &self.shown(&stored.bound, fed).await?))
            }
            (&Method::DELETE, _) => {
                let stored = self.present(stored, fed).await?;
                may_leave(&stored.bound, fed)?;
                self.refuse_orphans(&stored.bound, fed).await?;
                self.change(&errand, stored, fed, |bound| Ok(leaving(bound))).await?;
                let left = self.wait(&errand, until(call), |_| false).await?;
                Ok(match left {
                    None => empty(StatusCode::NO_CONTENT),
                    Some(stored) => json(StatusCode::ACCEPTED, &stored.bound.wire(fed.public_url()).into()),
                })
            }
            (_, Place::RotatePipe(..)) => {
                self.rotate(&errand, stored, fed).await?;
                let rotated = |bound: &Bound| bound.state() != "rotating" && bound.news.is_none();
                self.wait(&errand, until(call), rotated).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
            _ => {
                stored.bound.binding_place(&stored.bound.binding).admit(&Method::PATCH, fed)?;
                let body = incoming::body(call, request, LONGEST).await?;
                self.change(&errand, stored, fed, |bound| told(bound, &body)).await?;
                Ok(empty(StatusCode::ACCEPTED))
            }
        }
    }

    /// What stands under a resource beside single pipes.
    async fn serve_resource(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
        (place, resource, found): (&Place, ResourceId, Option<Found>),
    ) -> Done<Response<Body>> {
        let Some(found) = found else {
            return Err(Error::internal("a resource that was found is gone").into());
        };
        let reads = matches!(call.method, Method::GET | Method::HEAD);
        let shown: Value = match place {
            Place::Pipes(_) | Place::Bindings(..) if reads => {
                let mut pipes = self.pipes(Some(&resource), fed.caller()).await?;
                if let Place::Bindings(_, _, name) = place {
                    pipes.retain(|bound| {
                        bound.pipe.binding.as_ref().is_some_and(|binding| binding.blueprint == *name)
                    });
                }
                pipes.iter().map(|bound| Value::from(bound.wire(fed.public_url()))).collect()
            }
            Place::Pipes(_) => {
                let text = "a pipe to a service is made from an offer: POST to its `bindings`";
                return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).into());
            }
            Place::Rotate(_) => {
                for bound in self.pipes(Some(&resource), fed.caller()).await? {
                    let errand = bound.errand();
                    if let Some(stored) =
                        self.load(&errand).await?.filter(|one| one.bound.step == Step::Ready)
                    {
                        self.rotate(&errand, stored, fed).await?;
                    }
                }
                return Ok(empty(StatusCode::ACCEPTED));
            }
            Place::Blueprints(_, Side::Needs) => Value::Array(Vec::new()),
            Place::Blueprints(_, Side::Offers) => {
                let offers = self.offers(fed, &found, &User::default());
                offers.iter().map(|offer| offer.blueprint.wire()).collect()
            }
            Place::Blueprint(_, _, name) if reads => {
                self.offer(fed, &found, name, &User::default())?.blueprint.wire()
            }
            Place::Templates(_, _, name, kind) => {
                let offer = self.offer(fed, &found, name, &User::default())?.blueprint;
                let templates = if *kind == Kind::Protos { &offer.protos } else { &offer.adapters };
                offer.wire_templates(templates).into()
            }
            Place::Template(_, _, name, kind, id) => {
                let offer = self.offer(fed, &found, name, &User::default())?.blueprint;
                let templates = if *kind == Kind::Protos { &offer.protos } else { &offer.adapters };
                let template = templates.iter().find(|template| template.id == *id);
                let unknown = || Refusal::unknown(format!("{name} of {resource} has no {id}"));
                template.ok_or_else(unknown)?.wire(Side::Offers)
            }
            Place::Blueprint(_, _, name) | Place::Bindings(_, _, name) => {
                let wanted = Wanted::read(&incoming::body(call, request, LONGEST).await?)?;
                let context = wanted.asked.context.clone().unwrap_or_default();
                let told = serde_json::json!({ "context": context }).to_string();
                let user = User::of(request.headers(), &told.into()).unwrap_or_default();
                // An instance that is there may be bound by whose it is, as under /v2.
                let user = if matches!(found, Found::Provider(_)) { user.who_begins() } else { user };
                let offer = self.offer(fed, &found, name, &user)?;
                return self.create(fed, until(call), (resource, found, offer), wanted).await;
            }
            Place::Pipe(..) | Place::RotatePipe(..) => return Err(Refusal::method(place.allow()).into()),
        };
        Ok(json(StatusCode::OK, &shown))
    }

    fn offer(&self, fed: &dyn Federation, found: &Found, name: &BlueprintName, user: &User) -> Done<Offer> {
        let mut offers = self.offers(fed, found, user);
        offers.retain(|offer| offer.blueprint.name == *name);
        match (offers.len(), offers.pop()) {
            (1, Some(offer)) => Ok(offer),
            (_, Some(_)) => Err(Refusal::conflict(format!("{name} could be one of several plans")).into()),
            (_, None) => match &self.brokers.missing(fed)[..] {
                [] => Err(Refusal::unknown(format!("there is no offer {name} here")).into()),
                missing => Err(Error::could_not_ask(format!("the offer {name}"), missing.to_vec()).into()),
            },
        }
    }

    /// An instance that goes with its pipe has no other pipes.
    async fn refuse_orphans(&self, bound: &Bound, fed: &dyn Federation) -> Done<()> {
        let Instance::Made(id) = &bound.instance else { return Ok(()) };
        let others = self.pipes(Some(&id.as_str().into()), fed.caller()).await?;
        let Some(other) = others.first() else { return Ok(()) };
        let text =
            format!("the pipe {} is bound to the instance {id}, which would go with this one", other.pipe.id);
        Err(Refusal::conflict(text).into())
    }

    /// With the plan that its instance has now; it may have been moved to another one since the pipe was made.
    async fn present(&self, mut stored: Stored, fed: &dyn Federation) -> Done<Stored> {
        let found = self.find(fed, &stored.bound.instance.id().into()).await?;
        if let Some(found @ Found::Instance { .. }) = &found
            && let Some(offer) = self.offers(fed, found, &User::default()).first()
        {
            stored.bound.plan = plan(stored.bound.plan.provider, offer);
        }
        Ok(stored)
    }

    /// Asks for a new binding.
    async fn rotate(&self, errand: &Errand, stored: Stored, fed: &dyn Federation) -> Done<()> {
        let stored = self.present(stored, fed).await?;
        let rotated = |bound: Bound| match (bound.step, &bound.previous) {
            (Step::Ready, None) => Ok(bound.rotated()),
            // The last rotation is not over yet: what hindered it is tried again.
            (Step::Ready, Some(_)) => Ok(Bound { since: Timestamp::now(), ..bound }),
            _ => {
                let text =
                    format!("{} is {}: it can be rotated once it is ready", bound.pipe.id, bound.state());
                Err(Refusal::conflict(text))
            }
        };
        self.change(errand, stored, fed, rotated).await
    }

    /// Changes a pipe and has its job look at it.
    pub(super) async fn change(
        &self,
        errand: &Errand,
        mut stored: Stored,
        fed: &dyn Federation,
        change: impl Fn(Bound) -> Result<Bound, Refusal>,
    ) -> Done<()> {
        for _ in 0..TRIES {
            let bound = change(stored.bound.clone())?;
            if bound == stored.bound {
                return Ok(());
            }
            let mut others = vec![Change::Schedule(errand.job(Duration::ZERO)?)];
            if bound.binding != stored.bound.binding {
                others.push(bound.binding_place(&bound.binding).claim(fed).await?);
            }
            if self.write(&bound, Some(&stored), others).await? == Written::Done {
                return Ok(());
            }
            stored = self.load(errand).await?.ok_or_else(|| unknown(errand))?;
        }
        Err(Refusal::busy("this pipe is changed by too many at once; try again").into())
    }
}

/// The pipe that a path names.
pub(super) fn named(place: &Place) -> Option<Errand> {
    match place {
        Place::Pipe(resource, id) | Place::RotatePipe(resource, id) => {
            Some(Errand { resource: resource.clone(), id: id.clone() })
        }
        _ => None,
    }
}

fn unknown(errand: &Errand) -> Refusal {
    Refusal::unknown(format!("{} has no pipe {}", errand.resource, errand.id))
}

/// Whether a caller may delete what a pipe is made of. What it made itself it may delete unseen (decision 22).
fn may_leave(bound: &Bound, fed: &dyn Federation) -> Done<()> {
    let made = matches!(bound.instance, Instance::Made(_)).then(|| bound.instance_place());
    for place in [bound.binding_place(&bound.binding)].into_iter().chain(made) {
        if bound.owner != fed.caller().id || fed.may_see(&place.provider, &place.resource) {
            place.admit(&Method::DELETE, fed)?;
        }
    }
    Ok(())
}

/// How long an answer waits.
fn until(call: &Call) -> Instant {
    let now = Instant::now();
    let deadline = Instant::from_std(call.deadline);
    (now + PATIENCE).min(deadline.checked_sub(ANSWER).unwrap_or(now))
}

/// A pipe that is to go. Asked again, a broker that refused is asked again.
fn leaving(bound: Bound) -> Bound {
    if bound.goal == Goal::Gone {
        return Bound { since: Timestamp::now(), ..bound };
    }
    let step = match (bound.step, &bound.instance) {
        (Step::Failed, _) => Step::Failed,
        (Step::Provision, Instance::Made(_)) => Step::Deprovision,
        _ => Step::Unbind,
    };
    Bound { goal: Goal::Gone, news: None, ..bound.at(step) }
}

/// What a caller, or its broker, tells of the other end.
pub(super) fn told(bound: Bound, body: &[u8]) -> Result<Bound, Refusal> {
    let mut pipe = bound.pipe.clone();
    Wish::read(body)?.update(&mut pipe);
    if pipe.this.data.is_some() {
        return Err(Refusal::bad(
            "this.data",
            "is what the service's broker gave, and is changed by rotating",
        ));
    }
    let is_new = address(&pipe.other).is_some()
        && (pipe.other.uri != bound.pipe.other.uri || pipe.other.issuer != bound.pipe.other.issuer);
    let news = if is_new && bound.goal == Goal::Live { Some(Timestamp::now()) } else { bound.news };
    let told = if is_new { Vec::new() } else { bound.told.clone() };
    Ok(Bound { pipe, news, told, ..bound })
}
