//! What the hooks and the jobs share: settings, records, and news of changes for those who wait.

use std::sync::{Arc, OnceLock};

use standpipe_api::{
    Background, Caller, Change, Error, Federation, MappingState, Provider, ResourceId, Result, State,
    Verifier,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::offer::Offer;
use super::record::{Bound, Errand, Kept, Stored, decode, encode};
use super::settings::PipeSettings;
use crate::cloudpipe::Resources;
use crate::cloudpipe::broker::pipe::pipe_prefix;
use crate::osb::Brokers;
use crate::osb::dialect::{INSTANCE, NAME, PLAN, SERVICE, scope};
use crate::osb::visibility::User;

/// Records read at a time.
const PAGE: usize = 100;
/// Pipes, and instances, that one list looks through.
const MOST: usize = 10_000;

/// OSB services as cloudpipe resources.
pub struct Services {
    pub(super) brokers: Arc<Brokers>,
    pub(super) resources: Arc<Resources>,
    settings: OnceLock<PipeSettings>,
    state: OnceLock<Arc<dyn State>>,
    verifier: OnceLock<Arc<dyn Verifier>>,
    changed: watch::Sender<()>,
}

/// What stands under a resource's name.
pub(super) enum Found {
    /// The plans of a provider: each binding makes an instance.
    Provider(Provider),
    /// An instance of the caller's.
    Instance {
        /// Where it is.
        provider: Provider,
        /// The ids of its service and plan.
        ids: [String; 2],
    },
}

impl Services {
    /// Shows what these brokers offer, beside the resources of cloudpipe brokers.
    pub fn new(brokers: Arc<Brokers>, resources: Arc<Resources>) -> Self {
        let (changed, _) = watch::channel(());
        Self {
            brokers,
            resources,
            settings: OnceLock::new(),
            state: OnceLock::new(),
            verifier: OnceLock::new(),
            changed,
        }
    }

    /// Takes the settings in, once.
    pub(super) fn configure(&self, settings: PipeSettings) {
        // Nothing configures an extension twice.
        let _first = self.settings.set(settings);
    }

    pub(super) fn settings(&self) -> &PipeSettings {
        self.settings.get_or_init(PipeSettings::default)
    }

    /// Gives it its records and the keys of others, once, when the extension starts.
    pub(super) fn open(&self, background: &dyn Background) {
        // A second start does not happen, and would bring the same.
        let _first = (self.state.set(background.state()), self.verifier.set(background.verifier()));
    }

    pub(super) fn state(&self) -> Result<&Arc<dyn State>> {
        self.state.get().ok_or_else(|| Error::internal("pipes cannot be read yet; try again"))
    }

    pub(super) fn verifier(&self) -> Result<&dyn Verifier> {
        let verifier = self.verifier.get();
        verifier.map(|one| &**one).ok_or_else(|| Error::internal("tokens cannot be checked yet; try again"))
    }

    /// A pipe.
    pub(super) async fn load(&self, errand: &Errand) -> Result<Option<Stored>> {
        let record = self.state()?.get(&errand.key()).await?;
        let read = |record: standpipe_api::Record| {
            Ok(Stored { bound: decode(&record.value)?, revision: record.revision })
        };
        record.map(read).transpose()
    }

    /// Writes a pipe with what follows from it; whether nobody else wrote it meanwhile.
    pub(super) async fn write(
        &self,
        bound: &Bound,
        before: Option<&Stored>,
        others: Vec<Change>,
    ) -> Result<Written> {
        let expected = before.map(|stored| stored.revision);
        let put = Change::Put { key: bound.errand().key(), value: encode(bound)?, expected };
        self.commit([put].into_iter().chain(others).collect()).await
    }

    /// Carries changes out and tells those who wait.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Written> {
        let committed = self.state()?.commit(changes).await?;
        self.changed.send_replace(());
        Ok(if committed.is_ok() { Written::Done } else { Written::Lost })
    }

    /// Waits until a pipe is as it is waited for, or the time is over; then it is as it is.
    pub(super) async fn wait(
        &self,
        errand: &Errand,
        until: Instant,
        is_there: impl Fn(&Bound) -> bool,
    ) -> Result<Option<Stored>> {
        let mut changes = self.changed.subscribe();
        loop {
            changes.borrow_and_update();
            let stored = self.load(errand).await?;
            let done = stored.as_ref().is_none_or(|stored| is_there(&stored.bound));
            if done || timeout_at(until, changes.changed()).await.is_err() {
                return Ok(stored);
            }
        }
    }

    /// The credentials that are kept of a pipe.
    pub(super) async fn kept(&self, errand: &Errand) -> Result<Option<Kept>> {
        let record = self.state()?.get(&errand.secret_key()).await?;
        record.map(|record| decode(&record.value)).transpose()
    }

    /// The pipes of a resource, or of all, that a caller may know of.
    pub(super) async fn pipes(&self, resource: Option<&ResourceId>, caller: &Caller) -> Result<Vec<Bound>> {
        let prefix = resource.map_or_else(|| "pipe/".to_owned(), pipe_prefix);
        let (mut pipes, mut after, mut read) = (Vec::new(), None::<String>, 0);
        loop {
            let page = self.state()?.list(&prefix, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(pipes) };
            after = Some(last.key.clone());
            read += page.len();
            for record in &page {
                let bound: Bound = decode(&record.value)?;
                pipes.extend(bound.is_of(caller).then_some(bound));
            }
            if read >= MOST {
                return Err(Error::internal(format!("more than {MOST} pipes cannot be listed")));
            }
        }
    }

    /// What a caller means by the name of a resource.
    ///
    /// # Errors
    /// Several instances could be meant.
    pub(super) async fn find(&self, fed: &dyn Federation, resource: &ResourceId) -> Result<Option<Found>> {
        let providers = fed.providers();
        let named = |id: &str| providers.iter().find(|one| one.dialect == NAME && one.id.as_str() == id);
        if let Some(provider) = named(resource.as_str()) {
            return Ok(Some(Found::Provider(provider.clone())));
        }
        let mut known = fed.mappings(&INSTANCE, resource, 10).await?;
        known.retain(|mapping| {
            is_there(mapping.state)
                && mapping.resource.scope == scope(Some(fed.caller()))
                && named(mapping.provider.as_str()).is_some()
        });
        match &known[..] {
            [] => Ok(None),
            [one] => Ok(named(one.provider.as_str()).and_then(|provider| instance(provider, one))),
            _ => {
                let at = known.iter().map(|mapping| mapping.provider.clone()).collect();
                Err(Error::ambiguous(&known.swap_remove(0).resource, at))
            }
        }
    }

    /// The offers of what was found, for a user behind the caller.
    pub(super) fn offers(&self, fed: &dyn Federation, found: &Found, user: &User) -> Vec<Offer> {
        let plans = self.brokers.offered_to(fed, user).into_iter().filter(|plan| match found {
            Found::Provider(provider) => plan.provider == provider.id,
            Found::Instance { ids: [service, id], .. } => plan.service_id == *service && plan.plan_id == *id,
        });
        plans.filter_map(|plan| Offer::of(self.settings(), plan)).collect()
    }

    /// The caller's instances at a provider.
    pub(super) async fn instances(
        &self,
        fed: &dyn Federation,
        provider: &Provider,
    ) -> Result<Vec<(ResourceId, Found)>> {
        let mut known = fed.mappings_at(&provider.id, &INSTANCE, MOST).await?;
        known
            .retain(|mapping| is_there(mapping.state) && mapping.resource.scope == scope(Some(fed.caller())));
        let found = |mapping: &standpipe_api::Mapping| {
            Some((mapping.resource.id.clone(), instance(provider, mapping)?))
        };
        Ok(known.iter().filter_map(found).collect())
    }
}

/// Whether a record could be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// Somebody else wrote it since it was read.
    Lost,
}

const fn is_there(state: MappingState) -> bool {
    matches!(state, MappingState::Live | MappingState::Maybe)
}

/// An instance whose plan is known.
fn instance(provider: &Provider, mapping: &standpipe_api::Mapping) -> Option<Found> {
    let id = |kind| mapping.hints.iter().find(|hint| hint.kind == kind).map(|hint| hint.value.to_string());
    Some(Found::Instance { provider: provider.clone(), ids: [id(SERVICE)?, id(PLAN)?] })
}
