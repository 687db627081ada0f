//! The merged catalog: every offering that a caller sees, as its broker wrote it but for what collides.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use standpipe_api::ProviderId;

use super::snapshot::replaced;
use super::{Generation, Member, Plan, Service};
use crate::osb::visibility::{Shown, Sight};

/// What a caller sees of the catalogs; two callers with equal views get one merged catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::osb) struct View {
    /// The providers, in configured order; `None`: all.
    pub providers: Option<Arc<[ProviderId]>>,
    /// The rules that are for the caller; `None`: it sees every plan.
    pub sight: Option<Sight>,
}

impl View {
    /// Whether nothing is left out.
    pub(super) fn is_whole(&self) -> bool {
        self.providers.is_none() && self.sight.is_none()
    }

    fn sees(&self, provider: &ProviderId) -> bool {
        self.providers.as_ref().is_none_or(|providers| providers.contains(provider))
    }
}

/// A merged catalog.
#[derive(Debug)]
pub(in crate::osb) struct Merged {
    /// The catalog.
    pub body: Bytes,
    /// Its strong validator.
    pub etag: HeaderValue,
    /// Providers whose offerings are missing because nobody has ever seen their catalog.
    pub missing: Vec<ProviderId>,
}

/// An offering that the merged catalog does not show, because another has its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// Whose it is.
    pub provider: ProviderId,
    /// Its id on the federated face.
    pub service: String,
    /// Who has the id first.
    pub first: ProviderId,
}

impl Merged {
    /// What a view shows.
    pub(super) fn of(now: &Generation, view: &View) -> Self {
        let seen = || now.members.iter().filter(|member| view.sees(&member.provider.id));
        let mut body = String::from(r#"{"services":["#);
        let offered = offerings(seen()).into_iter();
        let texts: Vec<String> =
            offered.filter_map(|(member, service)| written(now, view, member, service)).collect();
        body.push_str(&texts.join(","));
        body.push_str("]}");
        let silent = seen().filter(|member| member.is_active() && member.snapshot.is_none());
        let missing = silent.map(|member| member.provider.id.clone()).collect();
        let hash = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
        // Base64 is visible ASCII, which every field may hold.
        let etag = HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body: body.into(), etag, missing }
    }
}

/// The offerings to be shown, in order: of several with one id those of whoever has it first, or, while that one drains, of the
/// next that offers the same. An id stays with whom it belongs to: a platform knows one service by it.
pub(super) fn offerings<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<(&'a Member, &'a Service)> {
    let mut first: HashMap<String, &Service> = HashMap::new();
    let mut done = HashSet::new();
    let mut shown = Vec::new();
    for member in members {
        for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
            let id = member.federated(service);
            let owned = *first.entry(id.clone()).or_insert(service);
            if member.is_active()
                && !done.contains(&id)
                && (std::ptr::eq(owned, service) || is_same(owned, service))
            {
                done.insert(id);
                shown.push((member, service));
            }
        }
    }
    shown
}

/// The services that several providers offer alike, by their ids on the federated face.
pub(super) fn shared(members: &[Member]) -> HashSet<String> {
    let mut first: HashMap<String, &Service> = HashMap::new();
    let mut shared = HashSet::new();
    for member in members {
        for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
            let id = member.federated(service);
            match first.get(&id) {
                None => drop(first.insert(id, service)),
                Some(same) if is_same(same, service) => drop(shared.insert(id)),
                Some(_) => {}
            }
        }
    }
    shared
}

/// The offerings that are not shown although they differ from the one that is.
pub(super) fn hidden(members: &[Member]) -> Vec<Hidden> {
    let mut first: HashMap<String, (&Member, &Service)> = HashMap::new();
    let mut hidden = Vec::new();
    for member in members {
        for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
            let id = member.federated(service);
            match first.get(&id) {
                None => {
                    first.insert(id, (member, service));
                }
                Some((_, same)) if is_same(same, service) => {}
                Some((owner, _)) => hidden.push(Hidden {
                    provider: member.provider.id.clone(),
                    service: id,
                    first: owner.provider.id.clone(),
                }),
            }
        }
    }
    hidden
}

/// What an operator has to know of each provider's part in the merged catalog: services that it does not show, and services shown
/// whose dashboard has an OAuth client that another broker's has too, which platforms refuse (spec, "Dashboard Client Object").
pub(super) fn conflicts(members: &[Member]) -> Vec<(ProviderId, String)> {
    let hidden = hidden(members).into_iter();
    let mut conflicts: Vec<(ProviderId, String)> = hidden
        .map(|one| (one.provider, format!("{} is hidden: {} has this id", one.service, one.first)))
        .collect();
    let mut clients: HashMap<&str, (&ProviderId, &str)> = HashMap::new();
    for (member, service) in offerings(members) {
        let Some(client) = &service.dashboard_client else { continue };
        let provider = &member.provider.id;
        let (first, other) = *clients.entry(client).or_insert((provider, &service.id));
        if first != provider {
            let id = member.federated(service);
            let text =
                format!("{id} has the dashboard_client.id of {other} of {first}: platforms need another");
            conflicts.push((provider.clone(), text));
        }
    }
    conflicts
}

/// Whether two brokers offer the very same: equal JSON, whatever its spaces and order of keys.
pub(super) fn is_same(one: &Service, other: &Service) -> bool {
    let (first, second) = (one.fields(), other.fields());
    one.text == other.text || (!first.is_empty() && Value::from(first) == Value::from(second))
}

/// An offering as it stands in the merged catalog; `None`: the view shows none of its plans.
fn written(now: &Generation, view: &View, member: &Member, service: &Service) -> Option<String> {
    let name = now.name(member, service);
    let plans: Vec<&Plan> =
        service.plans.iter().filter(|plan| sees(view, member, service, name, plan)).collect();
    if plans.is_empty() {
        return None;
    }
    let mut changes = Vec::new();
    if name != service.name {
        changes.push((service.name_at.clone(), Value::from(name).to_string()));
    }
    if !member.prefix.is_empty() {
        changes.push((service.id_at.clone(), prefixed(member, &service.id)));
    }
    if !member.prefix.is_empty() || plans.len() < service.plans.len() {
        let texts: Vec<String> = plans.into_iter().map(|plan| plan_text(member, plan)).collect();
        changes.push((service.plans_at.clone(), format!("[{}]", texts.join(","))));
    }
    changes.sort_by_key(|(place, _)| place.start);
    Some(replaced(&service.text, &changes))
}

fn sees(view: &View, member: &Member, service: &Service, name: &str, plan: &Plan) -> bool {
    let Some(sight) = &view.sight else { return true };
    let [service_id, plan_id] = [&service.id, &plan.id].map(|id| format!("{}{id}", member.prefix));
    let provider = &member.provider.id;
    sight.sees(Shown { provider, service: [&service_id, name], plan: [&plan_id, &plan.name] })
}

fn plan_text(member: &Member, plan: &Plan) -> String {
    if member.prefix.is_empty() {
        return plan.text.clone();
    }
    replaced(&plan.text, &[(plan.id_at.clone(), prefixed(member, &plan.id))])
}

fn prefixed(member: &Member, id: &str) -> String {
    Value::from(format!("{}{id}", member.prefix)).to_string()
}
