//! Stand-ins for the engine, for unit tests of extensions: no sockets, no files, no clock.

mod background;
mod memory;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Extensions, Method, Response, StatusCode, Uri};

use crate::{
    Answer, Call, CallId, Caller, Change, Connection, Credential, Delivery, Error, EventPage, Federation,
    Hint, Injection, Kind, Located, Mapping, NewJob, Outdated, Params, PeerId, Provider, ProviderId, Query,
    RemoteScope, Resource, ResourceId, Result, Settings, State, Target,
};

pub use self::background::FakeBackground;
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
    peers: Vec<PeerId>,
    injected: RefCell<Vec<(PeerId, Injection)>>,
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
            peers: Vec::new(),
            injected: RefCell::default(),
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

    /// The same, with a peer beside every provider.
    #[must_use]
    pub fn with_peer(mut self, peer: &str) -> Self {
        self.change(|inner| inner.peers.push(peer.into()));
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

    /// What peers were given so far, in order.
    pub fn injected(&self) -> Vec<(PeerId, Injection)> {
        self.0.injected.borrow().clone()
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

    fn sees_everything(&self) -> bool {
        true
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

    fn claim(&self, resource: Resource, target: &Target, hints: Vec<Hint>) -> Result<Change> {
        let provider = target.provider.clone();
        let mapping = Mapping {
            hints,
            state: crate::MappingState::Intent,
            ..Mapping::learned(resource, provider, crate::Timestamp::now())
        };
        Ok(Change::Claim(mapping, None))
    }

    async fn credential(&self, _provider: &ProviderId, _scope: Option<&RemoteScope>) -> Result<Credential> {
        Ok(Credential::none())
    }

    fn peers_beside(&self, _provider: &ProviderId) -> Vec<PeerId> {
        self.0.peers.clone()
    }

    async fn inject(&self, peer: &PeerId, injections: &[Injection], _delivery: Delivery) -> Result<()> {
        if !self.0.peers.contains(peer) {
            return Err(Error::bad_request(format!("no peer is named {peer}")));
        }
        self.0.injected.borrow_mut().extend(injections.iter().map(|given| (peer.clone(), given.clone())));
        Ok(())
    }

    /// All of them.
    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>> {
        Ok(self.0.state.page(after, limit))
    }

    fn last_event(&self) -> u64 {
        self.0.state.events().len() as u64
    }

    async fn event_behind(&self, revision: u64) {
        poll_fn(|cx| self.0.state.poll_behind(revision, cx)).await;
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

/// A provider with empty settings.
pub fn provider(name: &str, dialect: &'static str) -> Provider {
    Provider {
        id: name.into(),
        dialect,
        url: format!("http://{name}.test"),
        local: false,
        availability: crate::Availability::Active,
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
