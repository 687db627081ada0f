//! Calls about plans that their caller does not see: to it they are as if absent (decision 22).

use http::{Method, Request, Response};
use standpipe_api::{Body, Call, Federation, Hint, Kind, MappingState, Result};

use super::Brokers;
use super::catalog::{Generation, Member, Plan, Service};
use super::dialect::{PLAN, SERVICE};
use super::ids::Ids;
use super::leading::absent;
use super::recording::{instance, is_poll, mapping};
use super::visibility::{Shown, Sight, User};

/// What is known of the plan a call is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Yes,
    No,
    /// Nothing says which plan it is, or no catalog has it.
    Unknown,
}

impl Brokers {
    /// What a caller is told of a plan it does not see; `None`: the call may go on. What a caller itself created can always be
    /// read, bound, polled and deleted.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn hidden(
        &self,
        now: &Generation,
        (call, request, ids): (&Call, &Request<Body>, &Ids),
        fed: &dyn Federation,
    ) -> Result<Option<Response<Body>>> {
        let Some(rules) = self.visibility() else { return Ok(None) };
        let body = request.body().as_bytes().cloned().unwrap_or_default();
        let refused = || Ok(Some(as_if_absent(call)));
        // A body that says nothing readable may say more to its broker.
        let Some(user) = User::of(request.headers(), &body) else { return refused() };
        let begins = matches!(call.method, Method::PUT | Method::PATCH);
        let user = if begins { user.who_begins() } else { user };
        let Some(sight) = rules.of(&call.caller, &user) else { return Ok(None) };
        // Brokers that read keys in any case would take the other one.
        if begins && (ids.ambiguous || seen(now, &sight, ids) == Seen::No) && !binds(call) {
            return refused();
        }
        if call.method == Method::PUT && !binds(call) {
            return Ok(None);
        }
        let known = mapping(fed, &instance(call)).await?;
        if known.as_ref().is_some_and(|row| row.owner.as_ref() == Some(&call.caller.id)) {
            return Ok(None);
        }
        let there = known.filter(|row| row.state != MappingState::Gone);
        let hinted = there.as_ref().map(|row| hinted(&row.hints)).unwrap_or_default();
        let at_all = match seen(now, &sight, &hinted) {
            Seen::Unknown if ids.ambiguous => Seen::No,
            Seen::Unknown => seen(now, &sight, ids),
            known => known,
        };
        let asks_or_deletes = is_poll(call) || call.method == Method::DELETE;
        Ok(match at_all {
            Seen::Yes => None,
            // It may be the caller's own, of which standpipe has lost sight: a rule must not make a platform forget it.
            _ if asks_or_deletes && there.is_none() => None,
            Seen::Unknown if asks_or_deletes || sees_all(now, &sight) => None,
            Seen::No | Seen::Unknown => Some(as_if_absent(call)),
        })
    }
}

fn binds(call: &Call) -> bool {
    !call.params.get("binding").is_empty()
}

/// The ids that led to a mapping's provider.
fn hinted(hints: &[Hint]) -> Ids {
    let of =
        |kind: Kind| hints.iter().find(|hint| hint.kind == kind).map(|hint| hint.value.as_str().to_owned());
    Ids { service: of(SERVICE), plan: of(PLAN), ..Ids::default() }
}

impl Seen {
    fn or(self, seen: bool) -> Self {
        if seen || self == Self::Yes { Self::Yes } else { Self::No }
    }
}

/// Whether a caller sees the plan of some ids.
fn seen(now: &Generation, sight: &Sight, ids: &Ids) -> Seen {
    let [mut both, mut by_service, mut by_plan] = [Seen::Unknown; 3];
    for (member, service, plan) in plans(now) {
        // Also by the id that the broker itself has: behind a prefix it is nobody's to use.
        let is = |said: &Option<String>, id: &str| {
            said.as_ref().is_some_and(|said| said == id || said.strip_prefix(&*member.prefix) == Some(id))
        };
        let (is_service, is_plan) = (is(&ids.service, &service.id), is(&ids.plan, &plan.id));
        if !is_service && !is_plan {
            continue;
        }
        let seen = sees(now, sight, (member, service, plan));
        by_service = if is_service { by_service.or(seen) } else { by_service };
        by_plan = if is_plan { by_plan.or(seen) } else { by_plan };
        both = if is_service && is_plan { both.or(seen) } else { both };
    }
    match (both, by_service, by_plan) {
        // A plan's id need not be the only one: the service tells which it is.
        (Seen::Yes | Seen::No, _, _) => both,
        // What belongs together in no catalog is for the brokers to refuse, if the caller sees either.
        (_, Seen::No, _) | (_, _, Seen::No) => Seen::No,
        (_, Seen::Yes, _) | (_, _, Seen::Yes) => Seen::Yes,
        _ => Seen::Unknown,
    }
}

/// Whether a caller sees every plan of every catalog.
fn sees_all(now: &Generation, sight: &Sight) -> bool {
    plans(now).all(|plan| sees(now, sight, plan))
}

fn plans(now: &Generation) -> impl Iterator<Item = (&Member, &Service, &Plan)> {
    now.members.iter().flat_map(|member| {
        let services = member.snapshot.iter().flat_map(|snapshot| &snapshot.services);
        services.flat_map(move |service| service.plans.iter().map(move |plan| (member, service, plan)))
    })
}

fn sees(now: &Generation, sight: &Sight, (member, service, plan): (&Member, &Service, &Plan)) -> bool {
    let prefixed = |id: &str| format!("{}{id}", member.prefix);
    sight.sees(Shown {
        provider: &member.provider.id,
        service: [&prefixed(&service.id), now.name(member, service)],
        plan: [&prefixed(&plan.id), &plan.name],
    })
}

/// The words that the dialect has for what does not exist.
fn as_if_absent(call: &Call) -> Response<Body> {
    let why = match call.method {
        Method::PUT | Method::PATCH => "service_id and plan_id are of no service in the catalog",
        _ => "no broker knows this instance, its service or its plan",
    };
    absent(call, why)
}
