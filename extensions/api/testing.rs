//! Stand-ins for the engine, for unit tests of extensions: no sockets, no files, no clock.

mod memory;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Extensions, Method, Response, StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Answer, Background, Call, CallId, Caller, Change, Connection, Credential, Delivery, Error, ErrorKind,
    Fault, Federation, Hint, Injection, Kind, Located, Mapping, NewJob, Outbound, Params, PeerId, Provider,
    ProviderId, Query, RemoteScope, Resource, ResourceId, Result, Settings, State, Target, Verifier,
};

pub use self::memory::MemoryState;

type Script = Box<dyn Fn(&Target, &Query) -> Result<Answer>>;
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A federation whose providers answer from a script, and which remembers what it was asked.
pub struct FakeFederation(Rc<Inner>);

struct Inner {
    caller: Arc<Caller>,
    providers: Vec<Provider>,
    pinned: Option<ProviderId>,
    script: Script,
    located: BTreeMap<Resource, Target>,
    asked: RefCell<Vec<(Target, Query)>>,
    detached: RefCell<Vec<Work>>,
    state: Arc<MemoryState>,
}

impl FakeFederation {
    /// Providers by name, all of one dialect, with empty settings; each question is answered by `script`.
    pub fn new(
        dialect: &'static str,
        names: &[&str],
        script: impl Fn(&Target, &Query) -> Result<Answer> + 'static,
    ) -> Self {
        let providers = names.iter().map(|name| provider(name, dialect)).collect();
        Self(Rc::new(Inner {
            caller: caller("test"),
            providers,
            pinned: None,
            script: Box::new(script),
            located: BTreeMap::new(),
            asked: RefCell::default(),
            detached: RefCell::default(),
            state: Arc::default(),
        }))
    }

    /// The same, with other providers.
    #[must_use]
    pub fn with_providers(mut self, providers: Vec<Provider>) -> Self {
        self.change(|inner| inner.providers = providers);
        self
    }

    /// The same, with a provider pinned by the caller.
    #[must_use]
    pub fn pinning(mut self, provider: &str) -> Self {
        self.change(|inner| inner.pinned = Some(provider.into()));
        self
    }

    /// The same, knowing where a resource lives.
    #[must_use]
    pub fn locating(mut self, resource: Resource, target: Target) -> Self {
        self.change(|inner| {
            inner.located.insert(resource, target);
        });
        self
    }

    fn change(&mut self, change: impl FnOnce(&mut Inner)) {
        // A federation being built has no second handle yet; later changes are not offered.
        if let Some(inner) = Rc::get_mut(&mut self.0) {
            change(inner);
        }
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<(Target, Query)> {
        self.0.asked.borrow().clone()
    }

    /// Runs what hooks detach, for as long as it is polled: `select!` it with the hook.
    pub async fn run_detached(&self) -> Infallible {
        let mut running: Vec<Work> = Vec::new();
        poll_fn(|cx| {
            while !self.0.detached.borrow().is_empty() {
                running.append(&mut self.0.detached.take());
                running.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            }
            running.retain_mut(|work| work.as_mut().poll(cx).is_pending());
            Poll::Pending
        })
        .await
    }

    /// The records of the extension.
    pub fn memory(&self) -> &MemoryState {
        &self.0.state
    }
}

#[async_trait(?Send)]
impl Federation for FakeFederation {
    fn caller(&self) -> &Arc<Caller> {
        &self.0.caller
    }

    fn public_url(&self) -> &str {
        "http://standpipe.test"
    }

    fn providers(&self) -> Vec<Provider> {
        self.0.providers.clone()
    }

    fn pinned(&self) -> Option<ProviderId> {
        self.0.pinned.clone()
    }

    fn identity_at(&self, _provider: &ProviderId) -> Arc<str> {
        Arc::from("")
    }

    async fn query(&self, target: &Target, query: Query) -> Result<Answer> {
        self.0.asked.borrow_mut().push((target.clone(), query.clone()));
        (self.0.script)(target, &query)
    }

    async fn query_each(&self, queries: Vec<(Target, Query)>) -> Vec<(Target, Result<Answer>)> {
        let mut answers = Vec::with_capacity(queries.len());
        for (target, query) in queries {
            let answer = self.query(&target, query).await;
            answers.push((target, answer));
        }
        answers
    }

    async fn locate(&self, _dialect: &str, resource: &Resource) -> Result<Located> {
        Ok(self.0.located.get(resource).map_or(Located::Nowhere, |target| Located::At(target.clone())))
    }

    async fn mappings(&self, kind: &Kind, id: &ResourceId, limit: usize) -> Result<Vec<Mapping>> {
        let matching = |mapping: &Mapping| mapping.resource.kind == *kind && mapping.resource.id == *id;
        Ok(self.0.state.mappings().into_iter().filter(matching).take(limit).collect())
    }

    async fn mappings_at(&self, provider: &ProviderId, kind: &Kind, limit: usize) -> Result<Vec<Mapping>> {
        let matching = |mapping: &Mapping| {
            let gone = mapping.state == crate::MappingState::Gone;
            mapping.resource.kind == *kind && mapping.provider == *provider && !gone
        };
        Ok(self.0.state.mappings().into_iter().filter(matching).take(limit).collect())
    }

    async fn learn(&self, mapping: Mapping) -> Result<()> {
        self.0.state.apply(Change::Learn(mapping));
        Ok(())
    }

    async fn forget(&self, resource: &Resource) -> Result<()> {
        self.0.state.apply(Change::Forget(resource.clone()));
        Ok(())
    }

    async fn create(&self, _resource: &Resource, target: &Target, query: Query) -> Result<Answer> {
        self.query(target, query).await
    }

    async fn credential(&self, _provider: &ProviderId, _scope: Option<&RemoteScope>) -> Result<Credential> {
        Ok(Credential::none())
    }

    async fn inject(&self, peer: &PeerId, _injections: &[Injection], _delivery: Delivery) -> Result<()> {
        Err(Error::bad_request(format!("no peer is named {peer}")))
    }

    fn state(&self) -> Arc<dyn State> {
        self.0.state.clone()
    }

    async fn schedule(&self, job: NewJob) -> Result<()> {
        self.0.state.apply(Change::Schedule(job));
        Ok(())
    }

    fn detach(&self, _limit: Duration, work: Work) {
        self.0.detached.borrow_mut().push(work);
    }

    fn detached(&self, _limit: Duration) -> Rc<dyn Federation> {
        Rc::new(Self(self.0.clone()))
    }
}

/// Background work's view of the same fake: providers answer from a script, nothing stops.
pub struct FakeBackground {
    providers: Vec<Provider>,
    state: Arc<MemoryState>,
    index: Arc<Mutex<BTreeMap<ProviderId, Vec<Hint>>>>,
    spawned: Rc<RefCell<Vec<Work>>>,
}

impl FakeBackground {
    /// No script: questions to providers fail as unreachable.
    pub fn new(providers: Vec<Provider>) -> Rc<Self> {
        Rc::new(Self { providers, state: Arc::default(), index: Arc::default(), spawned: Rc::default() })
    }

    /// The records.
    pub fn memory(&self) -> Arc<MemoryState> {
        self.state.clone()
    }

    /// What was published for a provider.
    pub fn index(&self, provider: &ProviderId) -> Vec<Hint> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).get(provider).cloned().unwrap_or_default()
    }

    /// Work that was spawned, for the test to run.
    pub fn spawned_work(&self) -> Vec<Work> {
        self.spawned.take()
    }
}

#[async_trait(?Send)]
impl Background for FakeBackground {
    fn providers(&self) -> Vec<Provider> {
        self.providers.clone()
    }

    fn public_url(&self) -> String {
        "http://standpipe.test".into()
    }

    async fn query(&self, target: &Target, _query: Query) -> Result<Answer> {
        let fault = Fault::Provider(target.provider.clone());
        Err(Error::new(ErrorKind::CouldNotAsk, fault, format!("{target} is not there in this test")))
    }

    fn publish_index(&self, provider: &ProviderId, hints: Vec<Hint>) {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).insert(provider.clone(), hints);
    }

    fn state(&self) -> Arc<dyn State> {
        self.state.clone()
    }

    fn spawn(&self, work: Work) {
        self.spawned.borrow_mut().push(work);
    }

    fn outbound(&self) -> Arc<dyn Outbound> {
        Arc::new(Unreachable)
    }

    async fn stopped(&self) {
        std::future::pending().await
    }

    async fn reloaded(&self) {
        std::future::pending().await
    }

    /// The claims as they are, as a text.
    async fn sign(&self, claims: &serde_json::Value) -> Result<SecretString> {
        Ok(claims.to_string().into())
    }

    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value> {
        self.verifier().verify(token).await
    }

    fn verifier(&self) -> Arc<dyn Verifier> {
        Arc::new(Believing)
    }

    fn handle(&self) -> Rc<dyn Background> {
        Rc::new(Self {
            providers: self.providers.clone(),
            state: self.state.clone(),
            index: self.index.clone(),
            spawned: self.spawned.clone(),
        })
    }
}

/// Believes what [`FakeBackground`] signed.
struct Believing;

#[async_trait]
impl Verifier for Believing {
    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value> {
        let bad = |_| Error::new(ErrorKind::Unauthenticated, Fault::Caller, "the token is not good");
        serde_json::from_str(token.expose_secret()).map_err(bad)
    }

    async fn verify_at(&self, token: &SecretString, _jwks_url: &str) -> Result<serde_json::Value> {
        self.verify(token).await
    }
}

/// A network on which nobody answers.
struct Unreachable;

#[async_trait]
impl Outbound for Unreachable {
    async fn fetch(&self, request: http::Request<Bytes>, _limit: Duration) -> Result<Answer> {
        let text = format!("{} is not there in this test", request.uri());
        Err(Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, text))
    }

    async fn fetch_named(&self, request: http::Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.fetch(request, limit).await
    }
}

/// A provider with empty settings.
pub fn provider(name: &str, dialect: &'static str) -> Provider {
    Provider {
        id: name.into(),
        dialect,
        url: format!("http://{name}.test"),
        local: false,
        folder: Path::new(".").into(),
        settings: Settings::new(()),
    }
}

/// A caller without tenant or groups.
pub fn caller(name: &str) -> Arc<Caller> {
    Arc::new(Caller {
        id: format!("test:{name}").into(),
        tenant: None,
        groups: Vec::new(),
        authenticator: "test",
    })
}

/// A call with parameters as a pattern would have found them.
pub fn call(method: Method, uri: &str, params: &[(&str, &str)]) -> Call {
    Call {
        id: CallId::from_bits(1),
        deadline: Instant::now() + Duration::from_secs(30),
        caller: caller("test"),
        connection: Arc::new(Connection { peer: None, scheme: "http", client_certificate: None }),
        method,
        uri: uri.parse().unwrap_or_else(|_| Uri::from_static("/")),
        params: Params::decode(params.iter().map(|(name, value)| (Arc::from(*name), *value))),
        notes: Extensions::new(),
    }
}

/// An answer with a JSON body.
pub fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Bytes::from(body.to_string()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}
