//! `GET /offers`, `/needs` and `/pipes`: every provider's and resource's, asked at once, as one list.
//!
//! Each item is as its broker gave it, plus `provider`, `resource` and `_links` that lead through standpipe.
//! Who did not answer is named in `Standpipe-Partial`; blueprints last known good stand in, marked stale.

mod besides;
mod blueprints;
mod filter;
mod merge;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LINK, VARY};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{
    Answer, Availability, Body, Call, Error, ErrorKind, Extension, Fault, Federation, Flow, Provider,
    ProviderId, Query, Resource, ResourceId, Result, Route, Target,
};

use tokio::time::timeout_at;

pub use self::besides::{Besides, Listed, Takes};
use self::blueprints::{Blueprints, Items, Join, Known, Lead};
use self::filter::Filter;
use self::merge::{Item, merge};
use super::dialect::{NAME, PIPE, RESOURCE};
use super::resources::{Found, Resources};
use super::shape;
use crate::path;

/// Who did not answer, and why.
const PARTIAL: HeaderName = HeaderName::from_static("standpipe-partial");
/// Questions one call may ask; more resources than this need a filter.
const MOST_QUESTIONS: usize = 1000;

/// The extension.
pub struct Aggregate {
    resources: Arc<Resources>,
    blueprints: Arc<Blueprints>,
    besides: Vec<Arc<dyn Besides>>,
}

/// One list to be asked for.
#[derive(Clone)]
struct Wanted {
    provider: Provider,
    at: usize,
    resource: ResourceId,
    side: &'static str,
}

/// One list's items, or why there are none.
struct Part {
    wanted: Wanted,
    items: Items,
    missing: Option<Missing>,
}

/// Why a provider is missing, or that its items are old.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Missing {
    reason: &'static str,
    stale: Option<u64>,
}

impl Aggregate {
    /// Asks for the resources of these lists, and for learned ones.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources, blueprints: Arc::default(), besides: Vec::new() }
    }

    /// The same, with what somebody else brings.
    #[must_use]
    pub fn beside(mut self, besides: Arc<dyn Besides>) -> Self {
        self.besides.push(besides);
        self
    }

    /// The lists the filter leaves, in their order, and the providers that cannot be asked.
    async fn wanted(
        &self,
        fed: &dyn Federation,
        side: &'static str,
        filter: &Filter,
    ) -> Result<(Vec<Wanted>, Vec<(ProviderId, Missing)>)> {
        let (mut asked, mut wanted, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        let pinned = fed.pinned();
        for (at, provider) in fed.providers().into_iter().enumerate().filter(|(_, one)| one.dialect == NAME) {
            let chosen = filter.provider.as_deref().or(pinned.as_ref().map(ProviderId::as_str));
            if chosen.is_some_and(|chosen| chosen != provider.id.as_str()) {
                continue;
            }
            // What takes nothing new offers nothing, unless somebody wants to see just that.
            if chosen.is_none() && side != "pipes" && provider.availability == Availability::Draining {
                continue;
            }
            // A caller's own credential must not visit all providers in turn.
            if chosen.is_none() && !fed.may_visit(&provider.id) {
                left_out.push((provider.id.clone(), Missing { reason: "credential", stale: None }));
                continue;
            }
            asked.push((at, provider));
        }
        let found =
            join_all(asked.iter().map(|(_, provider)| self.resources_of(fed, provider, filter))).await;
        for ((at, provider), found) in asked.into_iter().zip(found) {
            let (ids, unknown) = found?;
            left_out.extend(unknown.map(|reason| (provider.id.clone(), Missing { reason, stale: None })));
            let sees = |id: &ResourceId| fed.may_see(&provider.id, &Resource::new(RESOURCE, id.clone()));
            let kept = ids.into_iter().filter(|id| filter.takes_resource(id.as_str()) && sees(id));
            wanted.extend(kept.map(|resource| Wanted { provider: provider.clone(), at, resource, side }));
        }
        Ok((wanted, left_out))
    }

    /// The resources of a provider, in order, and why they may not be all: only an operator or a list can say that.
    async fn resources_of(
        &self,
        fed: &dyn Federation,
        provider: &Provider,
        filter: &Filter,
    ) -> Result<(Vec<ResourceId>, Option<&'static str>)> {
        let mut ids = self.resources.ids(provider);
        let (learned, found) = self.resources.learned(fed, provider).await?;
        let mut unknown = match (self.resources.are_known(provider), &filter.resource) {
            (true, _) => None,
            // The one that is asked for may be there.
            (false, Some(asked)) => {
                ids.push(asked.as_str().into());
                None
            }
            (false, None) => Some("resources-unknown"),
        };
        if found == Found::Some {
            unknown = Some("too-many-resources");
        }
        ids.extend(learned);
        ids.sort_unstable();
        ids.dedup();
        Ok((ids, unknown))
    }

    /// All parts, from memory where that is fresh enough, else asked for. Pipes change with every call and are always
    /// asked for.
    async fn parts(
        &self,
        fed: &dyn Federation,
        wanted: Vec<Wanted>,
        filter: &Filter,
        deadline: Instant,
    ) -> Vec<Part> {
        // Who wants the whole list or none wants to know who answers now.
        if filter.strict || wanted.first().is_some_and(|wanted| wanted.side == "pipes") {
            return ask(fed, wanted).await;
        }
        let later = fed.detached(blueprints::PATIENCE);
        let parts = wanted.into_iter().map(|wanted| self.part(fed, &later, wanted, deadline));
        join_all(parts).await
    }

    async fn part(
        &self,
        fed: &dyn Federation,
        later: &Rc<dyn Federation>,
        wanted: Wanted,
        deadline: Instant,
    ) -> Part {
        let key = blueprints::key(&wanted, fed.identity_at(&wanted.provider.id));
        let known = self.blueprints.known(&key);
        if let Known::Fresh(items) = known {
            return Part { wanted, items, missing: None };
        }
        let reading = match self.blueprints.join(&key) {
            Join::Follow(reading) => reading,
            Join::Lead(lead, reading) => {
                fed.detach(blueprints::PATIENCE, Box::pin(read_list(later.clone(), wanted.clone(), lead)));
                reading
            }
        };
        if let Known::Aging(items) = known {
            return Part { wanted, items, missing: None };
        }
        let until = match known {
            Known::Failing(_) => deadline.min(tokio::time::Instant::now().into_std() + blueprints::GLANCE),
            _ => deadline,
        };
        let read = timeout_at(until.into(), reading.end()).await;
        let read = read.unwrap_or(Err(if let Known::Failing(reason) = known { reason } else { "timeout" }));
        match (read, self.blueprints.last_good(&key)) {
            (Ok(items), _) => Part { wanted, items, missing: None },
            (Err(reason), Some((items, age))) => {
                Part { wanted, items, missing: Some(Missing { reason, stale: Some(age) }) }
            }
            (Err(reason), None) => {
                Part { wanted, items: Items::default(), missing: Some(Missing { reason, stale: None }) }
            }
        }
    }
}

fn question(wanted: &Wanted) -> Option<(Target, Query)> {
    let path = format!("/{}/{}", path::encode(wanted.resource.as_str()), wanted.side);
    Some((Target::from(&wanted.provider), Request::get(path).body(Bytes::new()).ok()?))
}

async fn read_list(fed: Rc<dyn Federation>, wanted: Wanted, lead: Lead) {
    let Some((target, query)) = question(&wanted) else { return };
    let answer = fed.query(&target, query).await;
    let bytes = answer.as_ref().map_or(0, |answer| answer.body().len());
    lead.tell(read(answer).map(Arc::new), bytes);
}

/// Asks for lists that are not kept.
async fn ask(fed: &dyn Federation, wanted: Vec<Wanted>) -> Vec<Part> {
    let answers = fed.query_each(wanted.iter().filter_map(question).collect()).await;
    let each = wanted.into_iter().zip(answers).map(|(wanted, (_, answer))| match read(answer) {
        Ok(items) => Part { wanted, items: Arc::new(items), missing: None },
        Err(reason) => {
            Part { wanted, items: Items::default(), missing: Some(Missing { reason, stale: None }) }
        }
    });
    each.collect()
}

/// The items of an answer, or the word for why there are none.
fn read(answer: Result<Answer>) -> Result<Vec<Map<String, Value>>, &'static str> {
    let answer = answer.map_err(|error| match error.kind() {
        ErrorKind::Timeout => "timeout",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::CouldNotAsk | ErrorKind::NotSent => "unreachable",
        ErrorKind::Nonsense => "nonsense",
        _ => "refused",
    })?;
    match answer.status() {
        status if status.is_success() => shape::items(&answer).map_err(|_| "nonsense"),
        // The resource is gone, and an authority said so.
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Vec::new()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err("denied"),
        _ => Err("refused"),
    }
}

#[async_trait(?Send)]
impl Extension for Aggregate {
    fn name(&self) -> &'static str {
        "cloudpipe-aggregate"
    }

    fn routes(&self) -> Vec<Route> {
        let read = |pattern| Route::of([Method::GET, Method::HEAD], pattern);
        vec![read("/offers"), read("/needs"), read("/pipes")]
    }

    async fn take_over(
        &self,
        call: &mut Call,
        _request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        let side = match call.uri.path() {
            "/offers" => "offers",
            "/needs" => "needs",
            _ => "pipes",
        };
        let filter = Filter::parse(call.uri.query().unwrap_or_default())?;
        let (wanted, mut left_out) = self.wanted(fed, side, &filter).await?;
        let brought = self.brought(fed, side, &filter, &mut left_out).await?;
        let (wanted, cut) = filter.window(wanted, MOST_QUESTIONS);
        let mut parts = self.parts(fed, wanted, &filter, call.deadline).await;
        if side == "pipes" {
            parts.iter_mut().for_each(|part| leave_out(fed, part));
        }
        parts.extend(brought);
        let missing = missing(&parts, left_out);
        let nobody =
            parts.iter().all(|part| part.missing.as_ref().is_some_and(|missing| missing.stale.is_none()));
        if !missing.is_empty() && (filter.strict || nobody) {
            return Err(not_whole(side, &missing, &filter));
        }
        let (items, next) = filter.page(merge(&self.resources, parts, fed.public_url()), cut);
        respond(call, fed.public_url(), &items, next, &missing).map(Flow::Respond)
    }
}

fn not_whole(side: &str, missing: &[(ProviderId, Missing)], filter: &Filter) -> Error {
    let named = |(provider, missing): &(ProviderId, Missing)| format!("{provider} ({})", missing.reason);
    let names = missing.iter().map(named).collect::<Vec<_>>().join(", ");
    let silent: Vec<ProviderId> = missing.iter().map(|(provider, _)| provider.clone()).collect();
    let fault = silent.first().cloned().map_or(Fault::Proxy, Fault::Provider);
    let advice = match missing.iter().any(|(_, missing)| missing.reason == "resources-unknown") {
        true => "name the provider's `resources` in the configuration, or one with ?resource=...",
        false if filter.strict => "leave out strict, or name a provider that answers: ?provider=...",
        false => "try again later, or name a provider that answers: ?provider=...",
    };
    Error::new(ErrorKind::CouldNotAsk, fault, format!("the list of {side} is not whole without {names}"))
        .advise(advice)
        .with_candidates(silent)
        .retry_after(Duration::from_secs(2))
}

/// Leaves out the pipes that the caller may not see.
fn leave_out(fed: &dyn Federation, part: &mut Part) {
    let Wanted { provider, resource, .. } = &part.wanted;
    let sees = |item: &Map<String, Value>| {
        let pipe = Resource::new(PIPE, shape::name(item).unwrap_or_default()).within(resource.clone());
        fed.may_see(&provider.id, &pipe)
    };
    if !part.items.iter().all(sees) {
        part.items = Arc::new(part.items.iter().filter(|item| sees(item)).cloned().collect());
    }
}

/// One entry per provider; a provider without any answer counts more than stale items of it.
fn missing(parts: &[Part], left_out: Vec<(ProviderId, Missing)>) -> Vec<(ProviderId, Missing)> {
    let mut missing = left_out;
    for part in parts {
        let Some(found) = &part.missing else { continue };
        match missing.iter_mut().find(|(provider, _)| *provider == part.wanted.provider.id) {
            Some((_, known)) if found.stale.is_none() || found.stale > known.stale => *known = found.clone(),
            Some(_) => {}
            None => missing.push((part.wanted.provider.id.clone(), found.clone())),
        }
    }
    missing
}

fn respond(
    call: &Call,
    public_url: &str,
    items: &[Item],
    next: Option<String>,
    missing: &[(ProviderId, Missing)],
) -> Result<Response<Body>> {
    let values: Vec<&Map<String, Value>> = items.iter().map(|item| &item.value).collect();
    let body = serde_json::to_vec(&values)
        .map_err(|error| Error::internal("the list cannot be written").because(error))?;
    let mut response = Response::new(if call.method == Method::HEAD {
        Body::empty()
    } else {
        Body::from(Bytes::from(body))
    });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    for (provider, missing) in missing {
        let stale = missing.stale.map_or_else(String::new, |age| format!(";stale={age}"));
        let told = format!("{provider};reason={}{stale}", missing.reason);
        headers.extend(HeaderValue::try_from(told).ok().map(|told| (PARTIAL, told)));
    }
    let next = next.map(|query| format!("<{public_url}{}?{query}>; rel=\"next\"", call.uri.path()));
    headers.extend(next.and_then(|next| HeaderValue::try_from(next).ok()).map(|next| (LINK, next)));
    Ok(response)
}

#[cfg(test)]
mod tests;
