//! The operator's side of a running standpipe: its socket, and what it shows.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use http::{Request, Response};
use standpipe_api::{Body, Connection, EventPage, Kind, Outdated, Problem, Problems, ProviderId, Upstream};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::admin::{
    AdminDoor, AdminService, BreakerState, Guard, KnownEndpoints, LastError, Outbox, PoolStatus,
    ProviderStatus,
};
use crate::background::Failures;
use crate::config::{self, Admin, At, Config, Limits, known_kind};
use crate::engine::Engine;
use crate::forward::breaker;
use crate::forward::deadline::now;
use crate::listener::{Drain, ListenerId, Service, Shared, bind, serve, serve_unix};
use crate::peer::Ledger;
use crate::providers::Place;
use crate::registry::Registry;
use crate::store::{AuditEvent, AuditFilter, AuditRow};
use crate::telemetry::{GaugeSink, Gauges, Metrics, name};
use crate::vault::Vault;

/// What the operator's socket shows.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) engine: Arc<Engine>,
    pub(super) drain: Drain,
    /// Ends the operator's sockets.
    pub(super) over: Drain,
    pub(super) failures: Arc<Failures>,
    pub(super) metrics: Metrics,
    pub(super) vault: Arc<Vault>,
    pub(super) registry: Option<Arc<Registry>>,
    /// What the listener for callers shares with a reload: its certificates.
    pub(super) shared: Arc<Shared>,
}

/// The listener on which callers administer standpipe, if there is one.
pub(super) fn admin_listeners(config: &Config) -> Vec<config::Listener> {
    config.admin_listener.iter().map(|admin| admin.listener.clone()).collect()
}

/// What that listener shares.
///
/// # Errors
/// Certificates and keys that cannot be used.
pub(crate) fn admin_shared(config: &Config) -> Result<Shared, Problems> {
    Shared::new(&admin_listeners(config), &Limits::default()).map_err(at_admin)
}

/// Mistakes of the only admin listener, where they stand in the configuration.
pub(super) fn at_admin(found: Problems) -> Problems {
    let there = |problem: Problem| Problem {
        path: problem.path.replacen("listener[0]", "admin.listener", 1),
        ..problem
    };
    found.into_iter().map(there).collect()
}

type Serving = Pin<Box<dyn Future<Output = ()>>>;

impl Operator {
    /// Binds the operator's sockets; what is returned serves them.
    pub(super) async fn listen(self) -> Result<Serving, String> {
        let running = self.engine.running.load_full();
        let shared = Shared::new(&[], &Limits::default()).map_err(|problems| format!("{problems:?}"))?;
        let (shared, over) = (Arc::new(shared), self.over.clone());
        let own: Serving = match &running.config.admin {
            Admin::Socket(path) => {
                let listener =
                    unix(path).map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
                let service = Rc::new(self.service(Guard::Socket));
                Box::pin(serve_unix(listener, shared, service, over))
            }
            Admin::Tcp { address, token_file } => {
                let (faces, callers, tls) = (Vec::new(), Vec::new(), None);
                let listener = config::Listener { address: *address, faces, callers, tls };
                self.open(listener, shared, |address| {
                    Guard::token_file(address, token_file).map_err(|error| error.to_string())
                })?
            }
        };
        let Some(admin) = &running.config.admin_listener else { return Ok(own) };
        let hosts = admin.hosts.iter().filter_map(|host| host.parse().ok()).collect();
        let callers = self.open(admin.listener.clone(), self.shared.clone(), |address| {
            Ok(Guard::Callers { address, hosts })
        })?;
        Ok(Box::pin(async move {
            futures_util::future::join(own, callers).await;
        }))
    }

    fn open(
        &self,
        listener: config::Listener,
        shared: Arc<Shared>,
        guard: impl FnOnce(SocketAddr) -> Result<Guard, String>,
    ) -> Result<Serving, String> {
        let configured = listener.address;
        let bound = bind(&[listener], 1)
            .map_err(|error| format!("cannot listen on {configured}: {}", error.reason()))?;
        let address = bound.addresses().first().copied().unwrap_or(configured);
        let guard = guard(address)?;
        tracing::info!(%address, "the admin listener is open");
        let sockets = bound.into_cores().pop().ok_or("no socket")?;
        Ok(Box::pin(serve(sockets, shared, Rc::new(self.service(guard)), self.over.clone())))
    }

    fn service(&self, guard: Guard) -> Front {
        let table = self.engine.resolver.mappings().clone();
        Front(Rc::new(AdminService::new(guard, Arc::new(self.clone()), table, self.metrics.clone())))
    }
}

/// A socket file that is left over is nobody's: the data directory's lock is ours.
fn unix(path: &Path) -> std::io::Result<UnixListener> {
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Front(Rc<AdminService>);

impl Service for Front {
    async fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        _socket: ListenerId,
    ) -> Response<Body> {
        self.0.answer(request, &connection).await
    }
}

impl KnownEndpoints for Operator {
    fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String> {
        self.engine.running.load().known_endpoint(provider, endpoint)
    }

    fn known_kind(&self, kind: &Kind) -> Result<(), String> {
        let dialects = self.engine.router.dialects().iter();
        known_kind(kind.as_str(), &dialects.flat_map(|dialect| dialect.kinds()).collect::<Vec<_>>())
    }
}

#[async_trait]
impl crate::admin::Engine for Operator {
    fn draining(&self) -> bool {
        self.drain.has_begun()
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        let running = self.engine.running.load();
        let status = |provider: &Arc<crate::providers::Provider>| {
            let (kind, url) = match &provider.config.at {
                At::Url(url) => ("remote".to_owned(), Some(url.clone())),
                At::InProcess { kind, .. } => (kind.clone(), None),
            };
            let open = provider.connections.count();
            let active = provider.in_flight().min(open);
            ProviderStatus {
                name: provider.id().clone(),
                dialect: provider.public.dialect.to_owned(),
                origin: if provider.registration.is_some() { "registered" } else { "config" },
                availability: provider.public.availability.as_str(),
                kind,
                url,
                breaker: match provider.breaker.state(now()) {
                    breaker::BreakerState::Closed => BreakerState::Closed,
                    breaker::BreakerState::HalfOpen => BreakerState::HalfOpen,
                    breaker::BreakerState::Open => BreakerState::Open,
                },
                in_flight: provider.in_flight(),
                concurrency: usize::try_from(provider.config.concurrency.get()).unwrap_or(usize::MAX),
                pool: PoolStatus { idle: open - active, active },
                indexed: self.engine.resolver.index().size(provider.id()),
                notes: self.engine.notes.on(provider.id()),
                last_error: provider.last_failure().map(|(at, error)| LastError { at, error }),
            }
        };
        running.providers.iter().map(status).collect()
    }

    fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.clone()
    }

    fn door(&self) -> Option<Arc<AdminDoor>> {
        self.engine.running.load().admin.clone()
    }

    fn record(&self, event: AuditEvent) {
        self.engine.audit.record(event);
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: usize,
    ) -> standpipe_api::Result<Vec<AuditRow>> {
        Ok(self.engine.store.audit(filter, after, limit).await?)
    }

    async fn events(&self, after: u64, limit: usize) -> standpipe_api::Result<Result<EventPage, Outdated>> {
        Ok(self.engine.store.events(after, limit).await?)
    }

    fn last_event(&self) -> watch::Receiver<u64> {
        self.engine.store.last_event()
    }

    fn background_failures(&self) -> Vec<String> {
        self.failures.list()
    }

    fn ledger(&self) -> Option<Ledger> {
        Some(Ledger::of(&self.engine))
    }

    fn vault(&self) -> Option<Arc<Vault>> {
        Some(self.vault.clone())
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        self.engine.resolver.mappings().clone()
    }

    fn upstream(&self, provider: &str) -> Option<Arc<dyn Upstream>> {
        let running = self.engine.running.load();
        match &running.find(&provider.into())?.place {
            Place::InProcess(upstream) => Some(upstream.clone()),
            Place::Remote(_) => None,
        }
    }
}

/// Figures that go up and down.
pub(super) struct Figures {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
}

impl Figures {
    pub(super) fn new(engine: Arc<Engine>, shared: Arc<Shared>) -> Self {
        Self { engine, shared }
    }
}

impl Gauges for Figures {
    #[expect(clippy::cast_precision_loss, reason = "Prometheus has floating-point numbers only")]
    fn collect(&self, sink: &mut GaugeSink<'_>) {
        sink(name::CONNECTIONS, &[], self.shared.connections() as f64);
        sink(name::REQUESTS_IN_FLIGHT, &[], self.shared.in_flight() as f64);
        for (reason, count) in self.shared.refused() {
            sink(name::REFUSED_HEADS, &[("reason", reason)], count as f64);
        }
        let (hits, misses) = self.engine.resolver.mappings().lookups();
        sink(name::MAPPING_CACHE_HITS, &[], hits as f64);
        sink(name::MAPPING_CACHE_MISSES, &[], misses as f64);
        sink(name::MAPPINGS, &[], self.engine.mapping_count.load(Ordering::Relaxed) as f64);
        let running = self.engine.running.load();
        for id in running.known().map(|provider| &provider.id) {
            for note in self.engine.notes.on(id) {
                sink(name::PROVIDER_NOTES, &[("provider", id.as_str()), ("note", note.word)], 1.0);
            }
        }
        for provider in &running.providers {
            let labels = [("provider", provider.id().as_str())];
            let state = match provider.breaker.state(now()) {
                breaker::BreakerState::Closed => 0.0,
                breaker::BreakerState::HalfOpen => 1.0,
                breaker::BreakerState::Open => 2.0,
            };
            sink(name::BREAKER_STATE, &labels, state);
            sink(name::PROVIDER_IN_FLIGHT, &labels, provider.in_flight() as f64);
            let open = provider.connections.count();
            let active = provider.in_flight().min(open);
            let pool = |state| [("provider", provider.id().as_str()), ("state", state)];
            sink(name::POOL_CONNECTIONS, &pool("active"), active as f64);
            sink(name::POOL_CONNECTIONS, &pool("idle"), (open - active) as f64);
        }
    }
}
