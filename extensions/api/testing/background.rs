//! A stand-in for the engine as background work sees it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};

use super::{MemoryState, Work};
use crate::{
    Answer, Background, Error, ErrorKind, Fault, Hint, Outbound, Provider, ProviderId, Query, Result, State,
    Target, Timestamp, Verifier,
};

/// Background work's view of the same fake: providers answer from a script, nothing stops.
pub struct FakeBackground {
    providers: Vec<Provider>,
    state: Arc<MemoryState>,
    index: Arc<Mutex<BTreeMap<ProviderId, Vec<Hint>>>>,
    spawned: Rc<RefCell<Vec<Work>>>,
    notes: Rc<RefCell<Notes>>,
    script: Script,
}

/// Since when each note stands, where that was said.
type Notes = BTreeMap<(ProviderId, &'static str), Option<Timestamp>>;
/// What a provider answers; `None`: nothing, ever.
type Script = Rc<dyn Fn(&Target, &Query) -> Option<Result<Answer>>>;

impl FakeBackground {
    /// No script: questions to providers fail as unreachable.
    pub fn new(providers: Vec<Provider>) -> Rc<Self> {
        Self::answering(providers, |target, _| {
            let fault = Fault::Provider(target.provider.clone());
            let text = format!("{target} is not there in this test");
            Some(Err(Error::new(ErrorKind::CouldNotAsk, fault, text)))
        })
    }

    /// Each question is answered by `script`; `None`: never.
    pub fn answering(
        providers: Vec<Provider>,
        script: impl Fn(&Target, &Query) -> Option<Result<Answer>> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            script: Rc::new(script),
            providers,
            state: Arc::default(),
            index: Arc::default(),
            spawned: Rc::default(),
            notes: Rc::default(),
        })
    }

    /// The records.
    pub fn memory(&self) -> Arc<MemoryState> {
        self.state.clone()
    }

    /// What was published for a provider.
    pub fn index(&self, provider: &ProviderId) -> Vec<Hint> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).get(provider).cloned().unwrap_or_default()
    }

    /// The notes on providers that stand, by provider and word.
    pub fn noted(&self) -> Vec<(ProviderId, &'static str)> {
        self.notes.borrow().keys().cloned().collect()
    }

    /// Since when a note stands, as whoever set it said.
    pub fn noted_since(&self, provider: &ProviderId, word: &'static str) -> Option<Timestamp> {
        self.notes.borrow().get(&(provider.clone(), word)).copied().flatten()
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

    async fn query(&self, target: &Target, query: Query) -> Result<Answer> {
        match (self.script)(target, &query) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn publish_indexes(&self, indexes: Vec<(ProviderId, Vec<Hint>)>) {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).extend(indexes);
    }

    fn note(&self, provider: &ProviderId, word: &'static str, text: Option<&str>, since: Option<Timestamp>) {
        let (mut notes, note) = (self.notes.borrow_mut(), (provider.clone(), word));
        let _before = if text.is_some() { notes.insert(note, since) } else { notes.remove(&note) };
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

    async fn refreshed(&self) -> ProviderId {
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
            notes: self.notes.clone(),
            script: self.script.clone(),
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
