//! A configuration, listening: threads, sockets, the operator's socket, reload and end.

mod operator;

pub(crate) use self::operator::admin_shared;

use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use standpipe_api::{Problems, ProviderId, Upstream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;

use self::operator::Operator;
use crate::access::Refusal;
use crate::assemble::{self, Front, Parts, Tools};
use crate::audit::AuditLog;
use crate::background::{Failures, Thread};
use crate::config::{Config, Limits};
use crate::engine::{Engine, Running, Writing};
use crate::forward::Forward;
use crate::forward::headers::Hop;
use crate::issuer::Issuer;
use crate::learn::Learner;
use crate::listener::{BindError, Bound, CoreSockets, Drain, Service, Shared, bind, serve};
use crate::notes::{Note, Notes};
use crate::outbound;
use crate::proxy::Proxy;
use crate::registry::{AtRunTime, Registry};
use crate::resolve::Resolver;
use crate::standalone::Standalone;
use crate::store::{DataDirLock, Keys, Mappings, Options, Sqlite, Store, StoreError};
use crate::telemetry::{AccessLog, Metrics, name};
use crate::token::ProcessSecrets;
use crate::vault::Vault;

/// A start that did not work, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has mistakes.
    #[error("{}", lines(.0))]
    Config(Problems),
    /// The tables cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operator's socket cannot be used.
    #[error("admin: {0}")]
    Admin(String),
    /// A provider in this process did not start.
    #[error("{0}")]
    Upstream(String),
    /// The signing keys cannot be read or made.
    #[error("issuer: {0}")]
    Issuer(String),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

fn lines(problems: &Problems) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A running standpipe.
pub struct Server {
    engine: Arc<Engine>,
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    admin: Arc<Shared>,
    drain: Drain,
    /// The end of the operator's sockets, which answer until the last call has ended.
    over: Drain,
    bound: Vec<std::net::SocketAddr>,
    cores: Vec<JoinHandle<()>>,
    background: Option<JoinHandle<()>>,
    _lock: DataDirLock,
}

impl Server {
    /// Starts everything; returns when it accepts connections.
    ///
    /// # Errors
    /// The first thing that cannot be had, with everything begun undone.
    pub fn start(
        config: Config,
        parts: Parts,
        metrics: &Metrics,
        access_log: AccessLog,
    ) -> Result<Self, StartError> {
        let lock = DataDirLock::take(&config.data_dir)?;
        let store: Arc<dyn Store> = Arc::new(open_store(&config)?);
        let keys = keys(&config);
        let bound = bind(&config.listeners, config.threads.get())?;
        let addresses = bound.addresses().to_vec();
        let config = with_real_port(config, &addresses);
        let shared = Shared::new(&config.listeners, &config.limits).map_err(StartError::Config)?;
        let shared = Arc::new(shared);
        let (calls, outgoing) = outbound::queue();
        let issuer = open_issuer(&config, &store)?;
        let tools = Tools::new(issuer.clone(), Arc::new(calls), store.clone());
        let said = read_said(&*store)?;
        let running = assemble::running(config, said, &parts, &tools, metrics, None);
        let running = running.map_err(StartError::Config)?;
        let audit = AuditLog::start(store.clone(), metrics.counter(name::AUDIT_DROPPED, &[]))?;
        let engine = engine(running, &parts, store, metrics, (access_log, audit), &tools, issuer);
        let (drain, over, failures) = (Drain::new(), Drain::new(), Arc::new(Failures::default()));
        let registry = Arc::new(Registry::new(engine.clone(), parts.clone(), tools.clone()));
        metrics.watch(Arc::new(operator::Figures::new(engine.clone(), shared.clone())));
        let thread = Thread {
            engine: engine.clone(),
            drain: drain.clone(),
            reloads: registry.reloads(),
            wishes: registry.wishes(),
            outgoing,
            failures: failures.clone(),
            tokens: tools.tokens.clone(),
            secret_files: tools.secret_files.clone(),
        };
        let vault = Arc::new(Vault::new(tools.tokens.clone(), engine.store.clone(), keys));
        let (metrics, drain_too) = (metrics.clone(), drain.clone());
        let admin = admin_shared(&engine.running.load().config).map_err(StartError::Config)?;
        let admin = Arc::new(admin);
        let operator = Operator {
            engine: engine.clone(),
            drain: drain_too,
            over: over.clone(),
            failures,
            metrics,
            vault,
            // A broker served alone is in front of nobody, and has nothing to register.
            registry: (parts.front == Front::Proxy).then(|| registry.clone()),
            shared: admin.clone(),
        };
        let background = start_background(thread, operator)?;
        let cores = start_cores(bound, parts.front, &engine, &shared, &drain)?;
        let background = Some(background);
        let bound = addresses;
        Ok(Self { engine, registry, shared, admin, drain, over, bound, cores, background, _lock: lock })
    }

    /// Where it listens, in the order of the configuration.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.bound
    }

    /// The configuration in force.
    pub fn running(&self) -> Arc<Running> {
        self.engine.running.load_full()
    }

    /// What an operator should know of a provider.
    pub fn notes(&self, provider: &ProviderId) -> Vec<Note> {
        self.engine.notes.on(provider)
    }

    /// Takes in a changed configuration: providers, callers, limits and certificates. Nothing is dropped, and what was
    /// registered at run time stays. Gives back the keys that changed and need a restart.
    ///
    /// # Errors
    /// Every mistake; the old configuration stays in force.
    pub async fn reload(&self, config: Config) -> Result<Vec<&'static str>, Problems> {
        let old = self.engine.running.load_full();
        let mut config = with_real_port(config, &self.bound);
        let later = old.config.needs_restart(&config);
        // The issuer of tokens is named by it, and keeps its name.
        config.public_url.clone_from(&old.config.public_url);
        // TLS that came or went on the admin listener is said with the other keys that need a restart.
        let admin = (!later.contains(&"admin")).then(|| operator::admin_listeners(&config));
        let accept = |running: &Running| {
            if let Some(listeners) = admin {
                self.admin.reload(&listeners, &Limits::default()).map_err(operator::at_admin)?;
            }
            self.shared.reload(&running.config.listeners, &running.config.limits)
        };
        self.registry.reload(config, accept).await?;
        Ok(later)
    }

    /// Ends: nothing new is taken, what is in flight is finished, at most for `limits.drain`.
    pub fn stop(mut self) {
        self.drain.begin();
        self.cores.drain(..).for_each(join);
        self.over.begin();
        self.background.take().into_iter().for_each(join);
        self.engine.audit.end();
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread ended in a panic");
    }
}

/// The database in the data directory, under the configured key or the one beside it. Its lock must be held.
///
/// # Errors
/// The key or the database cannot be read, is not ours, or the two do not belong together.
pub(crate) fn open_store(config: &Config) -> Result<Sqlite, StoreError> {
    use standpipe_api::Secrets as _;
    let options = Options { tombstone: config.resolve.tombstone, ..Options::default() };
    keys(config).open(|reference| ProcessSecrets.read(reference), &options)
}

/// Where the key of that database is.
pub(crate) fn keys(config: &Config) -> Keys {
    Keys::new(&config.data_dir, config.master_key.as_ref())
}

/// What was said of providers while an earlier process ran.
pub(crate) fn read_said(store: &dyn Store) -> Result<AtRunTime, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(AtRunTime::read(store))?)
}

/// With port 0 and no public url, links hold the port that was bound.
fn with_real_port(mut config: Config, bound: &[std::net::SocketAddr]) -> Config {
    if let (Some(listener), Some(real)) = (config.listeners.first(), bound.first()) {
        let asked = listener.address.to_string();
        if let Some(scheme) = config.public_url.strip_suffix(&asked) {
            config.public_url = format!("{scheme}{real}");
        }
    }
    config
}

/// The issuer is named by the public url, which may hold a port that was only now bound.
fn open_issuer(config: &Config, store: &Arc<dyn Store>) -> Result<Arc<Issuer>, StartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let opened = Issuer::open(store.clone(), config.public_url.clone(), config.issuer.rotate_every);
    runtime.block_on(opened).map_err(|error| StartError::Issuer(error.log_text().to_owned()))
}

fn engine(
    running: Running,
    parts: &Parts,
    store: Arc<dyn Store>,
    metrics: &Metrics,
    (access_log, audit): (AccessLog, AuditLog),
    tools: &Tools,
    issuer: Arc<Issuer>,
) -> Arc<Engine> {
    let resolve = &running.config.resolve;
    let mappings = Arc::new(Mappings::new(store.clone(), resolve.cached_mappings));
    let refused = |why: Refusal| metrics.counter(self::name::ACCESS_REFUSED, &[("reason", why.as_str())]);
    let panics = |name| metrics.counter(self::name::HOOK_PANICS, &[("extension", name)]);
    Arc::new(Engine {
        extensions: parts.extensions.clone(),
        router: parts.router.clone(),
        store,
        resolver: Resolver::new(mappings.clone(), resolve),
        learner: Learner::new(mappings, resolve.tombstone),
        hop: Hop::new(fastrand::u32(..)),
        metrics: metrics.clone(),
        nowhere: metrics.provider(&"-".into(), &[]),
        hook_panics: parts.extensions.iter().map(|extension| panics(extension.name())).collect(),
        access_log,
        audit,
        refusals: Refusal::ALL.map(refused),
        outbound: tools.outbound.clone(),
        tokens: tools.tokens.clone(),
        issuer,
        issuers: tools.issuers.clone(),
        writing: Writing::default(),
        notes: Notes::default(),
        mapping_count: AtomicU64::new(0),
        running: ArcSwap::from_pointee(running),
    })
}

fn start_background(thread: Thread, operator: Operator) -> Result<JoinHandle<()>, StartError> {
    let (ready, started) = mpsc::channel();
    let (drain, over) = (thread.drain.clone(), operator.over.clone());
    let spawned = thread::Builder::new().name("background".into()).spawn(move || {
        let runtime = match local_runtime() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(StartError::Thread(error)))),
        };
        runtime.block_on(async move {
            let admin = match operator.listen().await {
                Ok(admin) => admin,
                Err(error) => return drop(ready.send(Err(StartError::Admin(error)))),
            };
            let (tell, told) = oneshot::channel();
            let work = tokio::task::spawn_local(thread.run(tell));
            let outcome = told.await.map_or_else(
                |_| Err(StartError::Upstream("the background thread ended".into())),
                |outcome| outcome.map_err(|error| StartError::Upstream(error.log_text())),
            );
            let failed = outcome.is_err();
            // The starter is waiting for exactly this.
            let _gone = ready.send(outcome);
            if failed {
                return;
            }
            let admin = tokio::task::spawn_local(admin);
            drain.begun().await;
            // What does not end by itself ends with its thread.
            let _ended = tokio::time::timeout(Duration::from_secs(1), work).await;
            over.begun().await;
            let _ended = tokio::time::timeout(Duration::from_secs(1), admin).await;
        });
    })?;
    started.recv().unwrap_or_else(|_| Err(StartError::Upstream("the background thread ended".into())))?;
    Ok(spawned)
}

fn start_cores(
    bound: Bound,
    front: Front,
    engine: &Arc<Engine>,
    shared: &Arc<Shared>,
    drain: &Drain,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let mut cores = Vec::new();
    for (at, sockets) in bound.into_cores().into_iter().enumerate() {
        let (engine, shared, drain) = (engine.clone(), shared.clone(), drain.clone());
        let (ready, started) = mpsc::channel();
        cores.push(thread::Builder::new().name(format!("core-{at}")).spawn(move || {
            let runtime = match local_runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(error)),
            };
            drop(ready);
            let forward = Forward::default();
            runtime.block_on(async move {
                tokio::task::spawn_local(forward.clone().run());
                match front {
                    Front::Proxy => {
                        run_core(sockets, Proxy::new(engine.clone(), forward), &engine, shared, drain).await;
                    }
                    Front::Broker => {
                        if let Some(standalone) = Standalone::new(&engine) {
                            run_core(sockets, standalone, &engine, shared, drain).await;
                        }
                    }
                }
            });
        })?);
        if let Ok(error) = started.recv() {
            return Err(StartError::Thread(error));
        }
    }
    Ok(cores)
}

/// A runtime for the thread that makes it: its tasks never change threads, and are scheduled once, not again by a `LocalSet`.
fn local_runtime() -> std::io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Serves until the end has begun and everything in flight has ended, or the time for that is over.
async fn run_core<S: Service>(
    sockets: CoreSockets,
    service: S,
    engine: &Arc<Engine>,
    shared: Arc<Shared>,
    drain: Drain,
) {
    let serving = serve(sockets, shared, Rc::new(service), drain.clone());
    let ended = async {
        drain.begun().await;
        let limit = engine.running.load().config.limits.drain;
        tokio::time::sleep(limit).await;
    };
    let serving = async {
        serving.await;
        // Callers may have left before their writes ended; those are still to be settled.
        while engine.writing.count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = serving => {}
        () = ended => tracing::warn!("limits.drain is over; what is still in flight is cut off"),
    }
}

/// The provider served in process, when there is exactly one.
pub(crate) fn only_upstream(running: &Running) -> Option<Arc<dyn Upstream>> {
    let mut upstreams = running.providers.iter().filter_map(|provider| match &provider.place {
        crate::providers::Place::InProcess(upstream) => Some(upstream.clone()),
        crate::providers::Place::Remote(_) => None,
    });
    let only = upstreams.next()?;
    upstreams.next().is_none().then_some(only)
}
