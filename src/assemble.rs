//! From a configuration to running parts: extensions, providers, doors. All mistakes are reported together.

mod providers;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use standpipe_api::{
    Authenticator, CredentialStrategy, Extension, Outbound, Problem, Problems, Secrets as _, Signer,
};

use self::providers::{Making, Reread};
use crate::admin::AdminDoor;
use crate::config::{self, Admin, Config, Known};
use crate::engine::{Door, Running};
use crate::identify::{Anonymous, Authenticators, Basic, Mtls, Oidc};
use crate::issuer::Issuer;
use crate::jwt::Issuers;
use crate::listener::Shared;
use crate::outbound;
use crate::peer::Peers;
use crate::rate_limit::RateLimits;
use crate::registry::AtRunTime;
use crate::route::{FaceId, Router};
use crate::store::{MasterKey, Store};
use crate::telemetry::Metrics;
use crate::token::{ProcessSecrets, SecretFiles, TokenMappings, strategies};

/// What listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The proxy with all its faces.
    Proxy,
    /// The one provider served in this process, alone, as a broker.
    Broker,
}

/// What the extensions bring, before any configuration was read.
#[derive(Clone)]
pub struct Parts {
    /// The extensions, configured, in calling order.
    pub extensions: Vec<Arc<dyn Extension>>,
    /// What they registered.
    pub router: Router,
    /// The words a configuration may use.
    pub known: Known,
    /// What will listen.
    pub front: Front,
}

/// The word for standpipe's own keys and tokens in a listener's `faces`.
const ISSUER_FACE: &str = "oidc";
/// The word for other standpipes' page in a listener's `faces`.
const PEER_FACE: &str = "peer";

/// What callers are recognised with and credentials are made with; lives as long as the process.
#[derive(Clone)]
pub struct Tools {
    /// standpipe's own signature; `None` where nothing is served.
    pub issuer: Option<Arc<Issuer>>,
    /// Everybody's keys.
    pub issuers: Arc<Issuers>,
    /// Calls to addresses that are no provider's.
    pub outbound: Arc<dyn Outbound>,
    /// What callers' tokens became at providers.
    pub tokens: Arc<TokenMappings>,
    /// Files with secrets that may change.
    pub secret_files: Arc<SecretFiles>,
}

impl Tools {
    /// For a process that serves.
    pub fn new(issuer: Arc<Issuer>, outbound: Arc<dyn Outbound>, store: Arc<dyn Store>) -> Self {
        let issuers = Issuers::new(Some(issuer.clone()), outbound.clone());
        let tokens = Arc::new(TokenMappings::new(Some(store), outbound.clone()));
        Self { issuer: Some(issuer), issuers, outbound, tokens, secret_files: Arc::default() }
    }

    fn strategies(&self) -> Vec<Arc<dyn CredentialStrategy>> {
        strategies(self.issuer.clone().map(|issuer| issuer as Arc<dyn Signer>), &self.tokens)
    }

    /// For a process that only looks at a configuration: nothing is signed and nobody is called.
    pub fn idle() -> Self {
        let (calls, _never_made) = outbound::queue();
        let outbound: Arc<dyn Outbound> = Arc::new(calls);
        let tokens = Arc::new(TokenMappings::new(None, outbound.clone()));
        let issuers = Issuers::new(None, outbound.clone());
        Self { issuer: None, issuers, outbound, tokens, secret_files: Arc::default() }
    }
}

/// The words a configuration may use.
pub fn known(extensions: &[Box<dyn Extension>]) -> Known {
    let mut known = Known {
        faces: vec![crate::route::TRANSPARENT, ISSUER_FACE, PEER_FACE],
        authenticators: vec!["anonymous", "basic", "mtls", "oidc"],
        credentials: Tools::idle().strategies().iter().map(|strategy| strategy.kind()).collect(),
        ..Known::default()
    };
    for extension in extensions {
        known.extensions.push(extension.name());
        known.upstreams.extend(extension.upstream_kind());
        known.faces.extend(extension.faces().iter().map(|face| face.name));
        known
            .authenticators
            .extend(extension.authenticators().iter().map(|authenticator| authenticator.name()));
        known.credentials.extend(extension.credential_strategies().iter().map(|strategy| strategy.kind()));
        for dialect in extension.dialects() {
            known.dialects.push(dialect.name());
            known.faces.push(dialect.face().name);
            known.kinds.extend(dialect.kinds());
        }
    }
    known
}

/// Reads a configuration and configures the extensions with it.
///
/// # Errors
/// Every mistake of file, extensions, routes and providers.
pub fn load(
    path: Option<&Path>,
    extensions: Vec<Box<dyn Extension>>,
    reserved: &[&'static str],
    front: Front,
) -> Result<(Config, Parts), Problems> {
    let config = config::load(path, &known(&extensions))?;
    match configured(&config, extensions, reserved, front) {
        (Some(parts), problems) if problems.is_empty() => Ok((config, parts)),
        (_, problems) => Err(problems),
    }
}

/// Every mistake that can be found without starting, also where one hides others from a start.
pub fn mistakes(
    path: Option<&Path>,
    extensions: Vec<Box<dyn Extension>>,
    reserved: &[&'static str],
    front: Front,
) -> Problems {
    let (config, mut problems) = match config::examine(path, &known(&extensions)) {
        Ok(found) => found,
        Err(unreadable) => return unreadable,
    };
    problems.extend(Shared::new(&config.listeners, &config.limits).err().into_iter().flatten());
    problems.extend(crate::serve::admin_shared(&config).err().into_iter().flatten());
    if let Admin::Tcp { token_file, .. } = &config.admin
        && let Err(error) = crate::admin::read_token(token_file)
    {
        problems.push(Problem::at("admin.token_file", error.to_string()));
    }
    let key = |reference| {
        ProcessSecrets
            .read(reference)
            .and_then(|key| MasterKey::parse(&key).map_err(|error| error.to_string()))
    };
    if let Some(Err(text)) = config.master_key.as_ref().map(key) {
        problems.push(Problem::at("master_key", text));
    }
    let (parts, mut found) = configured(&config, extensions, reserved, front);
    if let Some(parts) = parts {
        let running = running(config, AtRunTime::default(), &parts, &Tools::idle(), &Metrics::new(), None);
        found.extend(running.err().into_iter().flatten());
    }
    // A provider whose dialect nobody knows has no more to be asked about.
    let is_new = |problem: &Problem| {
        let unasked = |known: &Problem| {
            known.path.strip_suffix(".dialect").is_some_and(|provider| problem.path.starts_with(provider))
        };
        !problems.iter().any(|known| known.path == problem.path || unasked(known))
    };
    let found: Problems = found.into_iter().filter(is_new).collect();
    problems.extend(found);
    problems
}

/// The extensions, configured, and what they registered, if that fits together; and every mistake of theirs. One whose table has a
/// mistake is as without a table: providers can be looked at all the same.
fn configured(
    config: &Config,
    mut extensions: Vec<Box<dyn Extension>>,
    reserved: &[&'static str],
    front: Front,
) -> (Option<Parts>, Problems) {
    let mut problems = Problems::new();
    for extension in &mut extensions {
        let empty = toml::Table::new();
        let table = config.extensions.get(extension.name()).and_then(toml::Value::as_table).unwrap_or(&empty);
        if let Err(found) = extension.configure(table) {
            let under = format!("extensions.{}", extension.name());
            problems.extend(found.into_iter().map(|problem| problem.under(&under)));
        }
    }
    let known = known(&extensions);
    let extensions: Vec<Arc<dyn Extension>> = extensions.into_iter().map(Arc::from).collect();
    match Router::build(&extensions, reserved) {
        Ok(router) => (Some(Parts { extensions, router, known, front }), problems),
        Err(found) => {
            problems.extend(found);
            (None, problems)
        }
    }
}

/// Puts a configuration to work. Providers that have not changed since `earlier` stay as they are, with their
/// pools, breakers and limits.
///
/// # Errors
/// Every mistake that only dialects, credentials and files can tell.
pub fn running(
    config: Config,
    at_run_time: AtRunTime,
    parts: &Parts,
    tools: &Tools,
    metrics: &Metrics,
    earlier: Option<&Running>,
) -> Result<Running, Problems> {
    let making = Making { config: &config, parts, tools, metrics, earlier, reread: Reread::Secrets };
    let (providers, left_out, mut problems) = making.all(&at_run_time);
    let oidc = Arc::new(Oidc::new(config.trusted_issuers.clone(), tools.issuers.clone()));
    let doors = doors(&config, parts, &oidc);
    let peers = Peers::new(&config.peers).unwrap_or_else(|found| {
        problems.extend(found);
        Peers::default()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    // What was used under the same limits goes on to count.
    let kept = earlier.and_then(|earlier| earlier.rate_limits.clone());
    let rate_limits = kept
        .filter(|kept| kept.are(&config.limits))
        .or_else(|| RateLimits::new(&config.limits, metrics).map(Arc::new));
    let admin = admin_door(&config, parts, &oidc);
    let mut running = Running::new(config, providers, doors, oidc, rate_limits).with_peers(Arc::new(peers));
    (running.at_run_time, running.left_out, running.admin) = (at_run_time, left_out, admin);
    Ok(running)
}

/// The same configuration after something else was said of providers at run time. All that it was not said of stay as
/// they are.
pub fn with_providers(
    running: &Running,
    at_run_time: AtRunTime,
    parts: &Parts,
    tools: &Tools,
    metrics: &Metrics,
) -> Running {
    let (config, earlier) = (&running.config, Some(running));
    let making = Making { config, parts, tools, metrics, earlier, reread: Reread::Nothing };
    // Configured providers are kept, and cannot have become wrong.
    let (providers, left_out, _none) = making.all(&at_run_time);
    let mut changed = running.clone().with_providers(providers);
    (changed.at_run_time, changed.left_out) = (at_run_time, left_out);
    changed
}

/// Authenticators by the words that listeners name them with.
fn authenticators(
    config: &Config,
    parts: &Parts,
    oidc: &Arc<Oidc>,
) -> HashMap<&'static str, Arc<dyn Authenticator>> {
    let mut known: HashMap<&'static str, Arc<dyn Authenticator>> = HashMap::new();
    known.insert("anonymous", Arc::new(Anonymous::new()));
    known.insert("basic", Arc::new(Basic::new(&config.callers)));
    known.insert("mtls", Arc::new(Mtls::default()));
    known.insert("oidc", oidc.clone());
    for authenticator in parts.extensions.iter().flat_map(|extension| extension.authenticators()) {
        known.insert(authenticator.name(), authenticator);
    }
    known
}

/// Who comes in by the admin listener for callers.
fn admin_door(config: &Config, parts: &Parts, oidc: &Arc<Oidc>) -> Option<Arc<AdminDoor>> {
    let admin = config.admin_listener.as_ref()?;
    let known = authenticators(config, parts, oidc);
    let named = admin.listener.callers.iter().filter_map(|name| known.get(name.as_str()).cloned());
    Some(Arc::new(AdminDoor::new(Authenticators::new(named.collect()), &admin.roles)))
}

fn doors(config: &Config, parts: &Parts, oidc: &Arc<Oidc>) -> Vec<Door> {
    let known = authenticators(config, parts, oidc);
    let names: Vec<&'static str> = parts.router.face_names().collect();
    let has = |listener: &config::Listener, face| {
        listener.faces.is_empty() || listener.faces.iter().any(|name| name == face)
    };
    let door = |listener: &config::Listener| Door {
        authenticators: Authenticators::new(
            listener.callers.iter().filter_map(|name| known.get(name.as_str()).cloned()).collect(),
        ),
        faces: listener
            .faces
            .iter()
            .filter_map(|name| names.iter().position(|known| known == name))
            .map(FaceId)
            .collect(),
        issues: has(listener, ISSUER_FACE),
        takes_peers: has(listener, PEER_FACE),
    };
    config.listeners.iter().map(door).collect()
}
