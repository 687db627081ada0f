//! The shared parts: what all cores, the background thread and the admin listener have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ahash::HashMap;
use arc_swap::ArcSwap;
use http::HeaderValue;
use standpipe_api::{
    Caller, Error, ErrorKind, Extension, Fault, Mapping, Outbound, Provider as Public, ProviderId, Resource,
    Result, Target,
};

use crate::access::{Access, Quotas, Refusal};
use crate::admin::AdminDoor;
use crate::audit::AuditLog;
use crate::config::Config;
use crate::forward::headers::Hop;
use crate::identify::{Authenticators, Oidc, Shown};
use crate::issuer::Issuer;
use crate::jwt::Issuers;
use crate::learn::Learner;
use crate::notes::Notes;
use crate::peer::Peers;
use crate::providers::Provider;
use crate::rate_limit::RateLimits;
use crate::registry::{AtRunTime, LeftOut};
use crate::resolve::{By, Place, Resolver};
use crate::route::{DialectId, FaceId, Router};
use crate::store::Store;
use crate::telemetry::{AccessLog, Metrics, ProviderMetrics};
use crate::token::TokenMappings;

/// Everything that lives as long as the process.
pub struct Engine {
    /// The extensions, in calling order.
    pub extensions: Vec<Arc<dyn Extension>>,
    /// What they registered.
    pub router: Router,
    /// The tables on disk.
    pub store: Arc<dyn Store>,
    /// Step 4.
    pub resolver: Resolver,
    /// Step 7.
    pub learner: Learner,
    /// This process among proxies.
    pub hop: Hop,
    /// What is counted.
    pub metrics: Metrics,
    /// The figures of calls that never got a provider.
    pub nowhere: ProviderMetrics,
    /// Hooks that panicked, by extension.
    pub hook_panics: Vec<metrics::Counter>,
    /// Where calls leave their events.
    pub access_log: AccessLog,
    /// Where calls that change something leave theirs.
    pub audit: AuditLog,
    /// Calls that access rules refused, by reason.
    pub refusals: [metrics::Counter; Refusal::ALL.len()],
    /// Calls to addresses that are no provider's; carried out on the background thread.
    pub outbound: Arc<dyn Outbound>,
    /// What callers' tokens became at providers.
    pub tokens: Arc<TokenMappings>,
    /// standpipe as an issuer of tokens.
    pub issuer: Arc<Issuer>,
    /// Everybody's keys.
    pub issuers: Arc<Issuers>,
    /// State-changing exchanges under way, which the end of the process waits for.
    pub writing: Writing,
    /// What extensions tell an operator about providers.
    pub notes: Notes,
    /// Rows of the mapping table, counted now and then.
    pub mapping_count: AtomicU64,
    /// What a reload replaces.
    pub running: ArcSwap<Running>,
}

/// Counts exchanges that must run to their end.
#[derive(Clone, Debug, Default)]
pub struct Writing(Arc<AtomicUsize>);

/// One of them; ends when dropped.
#[derive(Debug)]
pub struct OneWriting(Arc<AtomicUsize>);

impl Writing {
    /// Counts one.
    pub fn begin(&self) -> OneWriting {
        self.0.fetch_add(1, Ordering::Relaxed);
        OneWriting(self.0.clone())
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for OneWriting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One configuration, put to work. A call keeps the one it began under.
#[derive(Clone)]
pub struct Running {
    /// The configuration.
    pub config: Config,
    /// The providers: the configured ones, in their order, and the registered ones behind them.
    pub providers: Vec<Arc<Provider>>,
    by_id: HashMap<ProviderId, usize>,
    /// Who may come in through which listener, by its index.
    pub doors: Vec<Door>,
    /// Who may reach what.
    pub access: Arc<Access>,
    /// How many resources a tenant may have.
    pub quotas: Arc<Quotas>,
    /// How much callers and tenants may ask for.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// Whose tokens are callers' tokens.
    pub oidc: Arc<Oidc>,
    /// Other standpipes.
    pub peers: Arc<Peers>,
    /// What was said of providers at run time.
    pub at_run_time: AtRunTime,
    /// Registered providers that cannot be put to work as they are.
    pub left_out: Vec<LeftOut>,
    /// Who administers standpipe as a caller.
    pub admin: Option<Arc<AdminDoor>>,
    /// How many others were in force before it.
    pub epoch: u64,
}

/// A listener as the proxy sees it.
#[derive(Clone)]
pub struct Door {
    /// Who may come in.
    pub authenticators: Authenticators,
    /// The faces it answers on; empty: all.
    pub faces: Vec<FaceId>,
    /// Whether standpipe's own keys and tokens are to be had here.
    pub issues: bool,
    /// Whether peers are listened to here.
    pub takes_peers: bool,
}

impl Running {
    /// Puts checked parts together.
    pub fn new(
        config: Config,
        providers: Vec<Arc<Provider>>,
        doors: Vec<Door>,
        oidc: Arc<Oidc>,
        rate_limits: Option<Arc<RateLimits>>,
    ) -> Self {
        let access = Access::compile(&config.access);
        let quotas = Quotas::compile(&config.quotas);
        let running = Self {
            config,
            providers: Vec::new(),
            by_id: HashMap::default(),
            doors,
            access: Arc::new(access),
            quotas: Arc::new(quotas),
            rate_limits,
            oidc,
            peers: Arc::default(),
            at_run_time: AtRunTime::default(),
            left_out: Vec::new(),
            admin: None,
            epoch: 0,
        };
        running.with_providers(providers)
    }

    /// The same, with other standpipes.
    #[must_use]
    pub fn with_peers(self, peers: Arc<Peers>) -> Self {
        Self { peers, ..self }
    }

    /// The same with these providers.
    #[must_use]
    pub fn with_providers(self, providers: Vec<Arc<Provider>>) -> Self {
        let by_id = providers.iter().enumerate().map(|(at, provider)| (provider.id().clone(), at)).collect();
        Self { providers, by_id, ..self }
    }

    /// A provider by name.
    pub fn find(&self, id: &ProviderId) -> Option<&Arc<Provider>> {
        self.by_id.get(id).and_then(|at| self.providers.get(*at))
    }

    /// A provider that somebody named.
    ///
    /// # Errors
    /// There is none of this name, or it cannot be put to work.
    pub fn provider(&self, id: &ProviderId) -> Result<&Arc<Provider>> {
        self.find(id).ok_or_else(|| if self.is_left_out(id) { not_at_work(id) } else { unknown_provider(id) })
    }

    /// The place an extension chose.
    ///
    /// # Errors
    /// There is no such provider, or the endpoint is not one of its bases.
    pub fn place(&self, target: &Target) -> Result<Place> {
        let provider = self.provider(&target.provider)?;
        let endpoint = target.endpoint.as_deref();
        self.known_endpoint(&target.provider, endpoint).map_err(Error::internal)?;
        let mut place = Place::at(provider.clone(), By::TakenOver);
        place.endpoint.clone_from(&target.endpoint);
        place.remote_scope.clone_from(&target.remote_scope);
        Ok(place)
    }

    /// A provider that a caller named.
    ///
    /// # Errors
    /// There is none of this name, or the caller sees one that cannot be put to work.
    pub fn named(&self, caller: Option<&Caller>, id: &ProviderId) -> Result<&Arc<Provider>> {
        match self.find(id) {
            Some(provider) => Ok(provider),
            None if self.access.sees_provider(caller, id) => self.provider(id),
            None => Err(unknown_provider(id)),
        }
    }

    /// Whether a name is that of a registered provider that cannot be put to work.
    pub fn is_left_out(&self, id: &ProviderId) -> bool {
        self.find(id).is_none() && self.left_out.iter().any(|left_out| left_out.name == *id)
    }

    /// All providers as extensions know them, in their order; each of those that cannot be put to work in its own place, so
    /// that what is whose does not depend on who is at work.
    pub fn known(&self) -> impl Iterator<Item = &Public> {
        let (configured, registered) =
            (|one: &&Arc<Provider>| one.registration.is_none(), self.at_run_time.registered());
        let registered = registered.iter().filter_map(|registration| match self.find(&registration.name) {
            Some(one) => one.registration.is_some().then_some(&one.public),
            None => self.left_out.iter().find(|one| one.name == registration.name)?.public.as_ref(),
        });
        self.providers.iter().filter(configured).map(|one| &one.public).chain(registered)
    }

    /// The registered providers of a dialect that cannot be put to work: nobody can ask them, and each may have what the
    /// others do not. A registration whose name another has taken counts for nothing.
    pub fn silent(&self, dialect: DialectId) -> impl Iterator<Item = &ProviderId> {
        let of_it = self.left_out.iter().filter(move |left_out| left_out.dialect == Some(dialect));
        of_it.map(|left_out| &left_out.name).filter(|id| self.find(id).is_none())
    }

    /// The providers of a dialect, in configured order.
    pub fn speaking(&self, dialect: DialectId) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.iter().filter(move |provider| provider.dialect == dialect)
    }

    /// Whether providers may be asked for a caller in turn: with a credential made for the provider always, with the
    /// caller's own only where all that take it are of one group (decision 16).
    pub fn may_visit(&self, provider: &Provider) -> bool {
        let group = &provider.config.credential_group;
        let same =
            |other: &Arc<Provider>| !other.credentials.passes_on() || other.config.credential_group == *group;
        !provider.credentials.passes_on() || (group.is_some() && self.speaking(provider.dialect).all(same))
    }

    /// The challenges of a listener.
    pub fn challenges(&self, door: usize, shown: Shown) -> &[HeaderValue] {
        self.doors.get(door).map_or(&[], |door| door.authenticators.challenges(shown))
    }

    /// Whether an endpoint is one a provider's requests may go to (decision 20: an endpoint is where our credentials go).
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String> {
        let provider = self.find(provider).ok_or_else(|| format!("no provider is named {provider}"))?;
        let Some(endpoint) = endpoint else { return Ok(()) };
        let outside = || format!("{endpoint} is not under the url of {}", provider.id());
        let base = provider.public.url.as_str();
        let rest = match base.split_once('{') {
            None => endpoint.strip_prefix(base),
            // Only the path of a template may vary: a host that may vary could be anybody's.
            Some((fixed, _)) if fixed.matches('/').count() >= 3 && fixed.ends_with('/') => {
                endpoint.strip_prefix(fixed.trim_end_matches('/'))
            }
            Some(_) => None,
        };
        let plain = rest.ok_or_else(outside)?;
        let steps = plain.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
        if (plain.is_empty() || plain.starts_with('/')) && !steps && !plain.contains(['%', '?', '#', '@']) {
            Ok(())
        } else {
            Err(outside())
        }
    }
}

/// There is no provider of this name, or the caller does not see it: the two are one to a caller.
pub fn unknown_provider(id: &ProviderId) -> Error {
    Error::new(ErrorKind::NoRoute, Fault::Caller, format!("no provider is named {id}"))
        .advise("the names of the providers stand in the configuration and in the items of GET /offers")
}

/// A registered provider cannot be put to work. Whoever heard "not found" of it would forget what it has there.
fn not_at_work(id: &ProviderId) -> Error {
    left_out(id, format!("{id} is registered, but could not be put to work"))
}

/// Something lives at a registered provider that cannot be put to work.
pub fn lives_where_nobody_works(what: &Resource, id: &ProviderId) -> Error {
    left_out(id, format!("{what} lives at {id}, which is registered, but could not be put to work"))
}

fn left_out(id: &ProviderId, public: String) -> Error {
    Error::new(ErrorKind::CouldNotAsk, Fault::Provider(id.clone()), public)
        .advise(format!(
            "an operator sees why (standpipe providers show {id}), mends it, and has it tried again (standpipe providers refresh {id})"
        ))
        .with_candidates(vec![id.clone()])
        .retry_after(Duration::from_secs(2))
}

impl Engine {
    /// The mapping a call would follow for a resource.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn mapping(&self, resource: &Resource) -> Result<Option<Arc<Mapping>>> {
        self.resolver.mappings().get(resource).await.map_err(Error::from)
    }
}
