//! What the brokers offer: read again and again, kept while one is down, and put together for `/v2/catalog`.
//!
//! `snapshot` reads and checks one catalog; `keep` polls them all; `merge` puts together what a caller sees; `names` remembers
//! which name was given to whom. [`Catalogs`] is what hooks on every core read.

mod keep;
mod merge;
mod names;
mod snapshot;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use standpipe_api::{Availability, Provider, ProviderId};
use tokio::sync::watch;

pub(super) use keep::keep;
pub(super) use merge::{Merged, View};
pub(super) use snapshot::Snapshot;
pub(super) use snapshot::{Plan, Service, place, replaced};

use self::names::Names;
use super::settings::ProviderSettings;

/// Merged catalogs remembered, one for each set of providers and plans that somebody sees.
const MOST_VIEWS: usize = 256;

/// The catalogs of all OSB providers.
pub(super) struct Catalogs {
    now: ArcSwap<Generation>,
    merged: Mutex<Vec<(View, Arc<Merged>)>>,
    /// The merged catalog of callers who see everything.
    whole: ArcSwap<Option<Arc<Merged>>>,
    /// Who has been asked; `None`: not even what was kept from earlier is here.
    heard: watch::Sender<Option<Heard>>,
}

/// Which providers were asked for their catalogs.
#[derive(Debug, Default)]
struct Heard {
    /// The epoch whose providers are here, or a later one.
    epoch: u64,
    /// Those of whom nothing is known, and who have not been asked yet.
    coming: HashSet<ProviderId>,
    /// Those who were asked once, whether or not they answered.
    asked: HashSet<ProviderId>,
}

/// The catalogs as they are at one time.
#[derive(Default)]
pub(super) struct Generation {
    /// The providers, in configured order.
    pub members: Vec<Member>,
    /// Services that several providers offer alike, by their ids on the federated face.
    pub shared: HashSet<String>,
    /// The names that stand in the merged catalog.
    names: Names,
}

/// One provider and its catalog.
#[derive(Clone)]
pub(super) struct Member {
    /// The provider.
    pub provider: Provider,
    /// What stands before its ids on the federated face.
    pub prefix: Arc<str>,
    /// Its catalog, live or last known good; `None`: nobody has ever seen one.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Ids that its catalog once had, by which its instances are still found.
    pub withdrawn: Arc<HashSet<String>>,
}

impl Default for Catalogs {
    fn default() -> Self {
        Self {
            now: ArcSwap::default(),
            merged: Mutex::default(),
            whole: ArcSwap::default(),
            heard: watch::Sender::new(None),
        }
    }
}

impl Catalogs {
    /// The catalogs as they are.
    pub(super) fn now(&self) -> Arc<Generation> {
        self.now.load_full()
    }

    /// Resolves once each of some providers of an epoch has been asked, whether or not it answered, or its catalog is known from
    /// earlier.
    pub(super) async fn heard(&self, epoch: u64, of: &[ProviderId]) {
        let mut heard = self.heard.subscribe();
        let is_heard = |heard: &Option<Heard>| {
            let heard = heard.as_ref().filter(|heard| heard.epoch >= epoch);
            heard.is_some_and(|heard| of.iter().all(|id| !heard.coming.contains(id)))
        };
        // The sender lives as long as the catalogs themselves.
        let _heard = heard.wait_for(is_heard).await;
    }

    /// Whether some provider of an epoch, about whom nothing is known, has not been asked yet.
    pub(super) fn are_coming(&self, epoch: u64) -> bool {
        let heard = self.heard.borrow();
        heard.as_ref().is_none_or(|heard| heard.epoch < epoch || !heard.coming.is_empty())
    }

    /// Whether the providers of an epoch are not here yet.
    pub(super) fn is_behind(&self, epoch: u64) -> bool {
        self.heard.borrow().as_ref().is_none_or(|heard| heard.epoch < epoch)
    }

    /// The providers of an epoch are here; those without a catalog are coming, unless they were asked before.
    fn opened(&self, epoch: u64) {
        let now = self.now();
        self.heard.send_modify(|heard| {
            let mut asked = heard.take().unwrap_or_default().asked;
            asked.retain(|id| now.member(id).is_some());
            let unknown = now.members.iter().filter(|member| member.snapshot.is_none());
            let coming = unknown.map(|member| member.provider.id.clone()).filter(|id| !asked.contains(id));
            *heard = Some(Heard { epoch, coming: coming.collect(), asked });
        });
    }

    /// Nothing known of a provider, and it was not asked either.
    fn is_coming(&self, id: &ProviderId) -> bool {
        self.heard.borrow().as_ref().is_some_and(|heard| heard.coming.contains(id))
    }

    /// Those who were coming have been asked.
    fn came(&self) {
        self.heard.send_modify(|heard| {
            let Some(heard) = heard else { return };
            heard.asked.extend(heard.coming.drain());
        });
    }

    /// Whom the id of a service leads to: the first of the candidates, in configured order, that is of its group, else whoever
    /// has the id, though it is no candidate, else the first candidate that once had it. `sees` says of each provider whether the
    /// caller sees it.
    pub(super) fn first_with(
        &self,
        service: &str,
        candidates: &[ProviderId],
        sees: &dyn Fn(&ProviderId) -> bool,
    ) -> Option<ProviderId> {
        let now = self.now.load();
        let is_candidate = |member: &&Member| candidates.contains(&member.provider.id);
        let found =
            now.group(service, sees).find(is_candidate).or_else(|| now.group(service, sees).next()).or_else(
                || now.members.iter().filter(is_candidate).find(|member| member.withdrawn.contains(service)),
            );
        found.map(|member| member.provider.id.clone())
    }

    /// Whether something new may begin at a provider that a plan's id alone leads to: not if all its services that have the plan
    /// are hidden from the caller behind others' of their ids. An id that is in no catalog is the broker's to judge.
    pub(super) fn shows_plan(&self, plan: &str, at: &ProviderId, sees: &dyn Fn(&ProviderId) -> bool) -> bool {
        let now = self.now.load();
        let Some(member) = now.member(at) else { return true };
        let services = member.snapshot.iter().flat_map(|snapshot| &snapshot.services);
        let having: Vec<&Service> = services.filter(|service| member.plan(service, plan).is_some()).collect();
        let is_shown = |service: &&Service| {
            now.group(&member.federated(service), sees).any(|one| one.provider.id == *at)
        };
        having.is_empty() || having.iter().any(is_shown)
    }

    /// Those of some providers whose catalog nobody has ever seen.
    pub(super) fn unheard(&self, among: &[ProviderId]) -> Vec<ProviderId> {
        let now = self.now.load();
        let has = |id: &ProviderId| now.member(id).is_some_and(|member| member.snapshot.is_some());
        among.iter().filter(|id| !has(id)).cloned().collect()
    }

    /// The catalog as a view shows it.
    pub(super) fn merged(&self, view: &View) -> Arc<Merged> {
        if view.is_whole()
            && let Some(merged) = &**self.whole.load()
        {
            return merged.clone();
        }
        let now = self.now.load();
        let mut remembered = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, merged)) = remembered.iter().find(|(known, _)| known == view) {
            return merged.clone();
        }
        let merged = Arc::new(Merged::of(&now, view));
        if view.is_whole() {
            self.whole.store(Arc::new(Some(merged.clone())));
        } else {
            if remembered.len() >= MOST_VIEWS {
                remembered.remove(0);
            }
            remembered.push((view.clone(), merged.clone()));
        }
        merged
    }

    fn replace(&self, generation: Generation) {
        // Whoever reads the catalogs meanwhile and remembers them late is forgotten with the rest.
        let mut remembered = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.store(Arc::new(generation));
        remembered.clear();
        self.whole.store(Arc::new(None));
    }
}

impl Generation {
    /// A provider's part.
    pub(super) fn member(&self, id: &ProviderId) -> Option<&Member> {
        self.members.iter().find(|member| member.provider.id == *id)
    }
}

impl Generation {
    fn new(members: Vec<Member>, names: Names) -> Self {
        let shared = merge::shared(&members);
        Self { members, shared, names }
    }

    /// Who of those seen offers the service that an id leads to, in configured order: whoever has the id first, though it may
    /// drain, and who offers the very same.
    pub(super) fn group<'a>(
        &'a self,
        id: &str,
        sees: impl Fn(&ProviderId) -> bool,
    ) -> impl Iterator<Item = &'a Member> {
        let mut first: Option<&Service> = None;
        let seen = self.members.iter().filter(move |member| sees(&member.provider.id));
        seen.filter(move |member| {
            member.service(id).is_some_and(|service| {
                let owned = *first.get_or_insert(service);
                std::ptr::eq(owned, service) || merge::is_same(owned, service)
            })
        })
    }

    /// The offerings of some providers that take something new, in order; of several with one id the first.
    pub(super) fn shown(&self, seen: impl Fn(&ProviderId) -> bool) -> Vec<(&Member, &Service)> {
        merge::offerings(self.members.iter().filter(|member| seen(&member.provider.id)))
    }

    /// The name of a provider's service in the merged catalog.
    pub(super) fn name<'a>(&'a self, member: &Member, service: &'a Service) -> &'a str {
        self.names.of(member, service).unwrap_or(&service.name)
    }
}

impl Member {
    fn new(provider: Provider) -> Self {
        let prefix = ProviderSettings::of(&provider).id_prefix.into();
        Self { provider, prefix, snapshot: None, withdrawn: Arc::default() }
    }

    /// Whether it takes something new.
    fn is_active(&self) -> bool {
        self.provider.availability == Availability::Active
    }

    /// The id of one of its services on the federated face.
    pub(super) fn federated(&self, service: &Service) -> String {
        format!("{}{}", self.prefix, service.id)
    }

    /// A service by the id it has on the federated face.
    pub(super) fn service(&self, id: &str) -> Option<&Service> {
        let own = id.strip_prefix(&*self.prefix)?;
        self.snapshot.as_ref()?.services.iter().find(|service| service.id == own)
    }

    /// A plan of one of its services, by the id it has on the federated face.
    pub(super) fn plan<'a>(&self, service: &'a Service, id: &str) -> Option<&'a Plan> {
        let own = id.strip_prefix(&*self.prefix)?;
        service.plans.iter().find(|plan| plan.id == own)
    }

    /// Whether an id of a service or plan, as it is on the federated face, is or was the provider's.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.withdrawn.contains(id)
            || id.strip_prefix(&*self.prefix).is_some_and(|own| {
                let services = self.snapshot.iter().flat_map(|snapshot| &snapshot.services);
                services.into_iter().any(|service| service.id == own)
            })
    }

    /// All ids that lead here, as they are on the federated face: of services, then of plans.
    fn ids(&self) -> (Vec<String>, Vec<String>) {
        let services = || self.snapshot.iter().flat_map(|snapshot| &snapshot.services);
        let prefixed = |id: &String| format!("{}{id}", self.prefix);
        let plans = services().flat_map(|service| &service.plans).map(|plan| prefixed(&plan.id)).collect();
        (services().map(|service| prefixed(&service.id)).collect(), plans)
    }
}
