//! Work beside calls, on a thread of its own: extensions' background work, durable jobs, purges, outbound calls.

mod heard;
mod verify;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use secrecy::SecretString;
use standpipe_api::{
    Answer, Background, Error, ErrorKind, Fault, Hint, JobOutcome, Outbound, Provider, ProviderId, Query,
    Result, Signer as _, SigningAlgorithm, State, Target, Timestamp, Verifier,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use self::heard::Heard;
use self::verify::Verifying;
use crate::announce;
use crate::config::Retention;
use crate::engine::Engine;
use crate::forward::Forward;
use crate::forward::deadline::now;
use crate::listener::Drain;
use crate::outbound::Outgoing;
use crate::providers::Place;
use crate::query::Querier;
use crate::registry::Wishes;
use crate::store::{DueJob, Namespace, Purge, Records, StoreError, TokenFilter};
use crate::token::{EVERY, SecretFiles, TokenMappings};

/// Jobs taken up at once.
const JOBS: usize = 512;
/// How long one attempt at a job may take.
const JOB_PATIENCE: Duration = Duration::from_secs(300);
/// How often expired rows are removed, and how many at once.
const PURGE: (Duration, usize) = (Duration::from_secs(60), 1000);
/// How long a question of background work may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The background thread's parts.
pub struct Thread {
    /// The engine.
    pub engine: Arc<Engine>,
    /// The end.
    pub drain: Drain,
    /// Rings after each reload and each change of the providers.
    pub reloads: watch::Receiver<u64>,
    /// Rings when a provider is to be asked now.
    pub wishes: watch::Receiver<Wishes>,
    /// Outbound calls of other threads.
    pub outgoing: mpsc::Receiver<Outgoing>,
    /// Where failures to start are told.
    pub failures: Arc<Failures>,
    /// What callers' tokens became at providers.
    pub tokens: Arc<TokenMappings>,
    /// Files with secrets that may change.
    pub secret_files: Arc<SecretFiles>,
}

/// Background work that could not start, for `/ready`.
#[derive(Debug, Default)]
pub struct Failures(std::sync::Mutex<Vec<String>>);

impl Failures {
    /// Notes one.
    pub fn note(&self, text: String) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
    }

    /// All of them.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Thread {
    /// Starts in-process providers, tells `ready`, and runs the rest until the end.
    pub async fn run(self, ready: oneshot::Sender<Result<()>>) {
        let forward = Forward::default();
        tokio::task::spawn_local(forward.clone().run());
        tokio::task::spawn_local(crate::outbound::run(self.outgoing, self.engine.clone(), forward.clone()));
        let reloads = self.reloads.clone();
        let shared = Shared {
            engine: self.engine,
            forward,
            drain: self.drain,
            heard: Heard::new(self.reloads, self.wishes),
        };
        if let Err(error) = announce::configured(&shared.engine).await {
            tracing::warn!(
                error = error.log_text(),
                "the feed does not hear of providers before the next reload"
            );
        }
        let started = shared.start_upstreams().await;
        let failed = started.is_err();
        // Whoever waits gave up only if the process is ending.
        let _gave_up = ready.send(started);
        if failed {
            return;
        }
        for extension in &shared.engine.extensions {
            let (extension, failures) = (extension.clone(), self.failures.clone());
            let handle = shared.handle(Namespace::extension(extension.name()));
            tokio::task::spawn_local(async move {
                if let Err(error) = extension.start(Rc::new(handle)).await {
                    let text = format!("{}: {}", extension.name(), error.log_text());
                    tracing::error!(
                        extension.name = extension.name(),
                        error = error.log_text(),
                        "background work failed"
                    );
                    failures.note(text);
                }
            });
        }
        tokio::task::spawn_local(purge(shared.engine.clone(), self.tokens));
        tokio::task::spawn_local(look_at_secrets(self.secret_files));
        tokio::task::spawn_local(renew_tokens(shared.engine.clone()));
        tokio::task::spawn_local(announce::after_reloads(shared.engine.clone(), reloads));
        let issuer = shared.engine.issuer.clone();
        tokio::task::spawn_local(async move { issuer.keep_rotating().await });
        shared.run_jobs().await;
    }
}

#[derive(Clone)]
struct Shared {
    engine: Arc<Engine>,
    forward: Forward,
    drain: Drain,
    heard: Heard,
}

impl Shared {
    fn handle(&self, namespace: Namespace) -> Handle {
        Handle { shared: self.clone(), namespace }
    }

    async fn start_upstreams(&self) -> Result<()> {
        let running = self.engine.running.load_full();
        for provider in &running.providers {
            let (Place::InProcess(upstream), crate::config::At::InProcess { kind, .. }) =
                (&provider.place, &provider.config.at)
            else {
                continue;
            };
            let extension =
                self.engine.extensions.iter().find(|one| one.upstream_kind() == Some(kind.as_str()));
            let name = extension.map_or("", |extension| extension.name());
            let handle = self.handle(Namespace::provider(name, provider.id()));
            upstream.start(Rc::new(handle)).await?;
        }
        Ok(())
    }

    /// Takes up jobs as they become due, until the end.
    async fn run_jobs(&self) {
        let scheduled = self.engine.resolver.mappings().scheduled().clone();
        let mut taken = std::collections::HashSet::new();
        let (done, mut finished) = mpsc::channel::<(String, String)>(JOBS);
        loop {
            let due = self.engine.store.due_jobs(Timestamp::now(), JOBS + taken.len()).await;
            let due =
                due.inspect_err(|error| tracing::error!(%error, "jobs cannot be read")).unwrap_or_default();
            for job in due {
                let key = (job.namespace.as_str().to_owned(), job.id().to_string());
                // One attempt at a time for each job; a job scheduled anew meanwhile follows.
                if taken.len() < JOBS && taken.insert(key.clone()) {
                    let (shared, done) = (self.clone(), done.clone());
                    tokio::task::spawn_local(async move {
                        shared.attempt(job).await;
                        // The runner outlives its jobs except at the end.
                        let _ended = done.send(key).await;
                    });
                }
            }
            let wait = self.next_job().await;
            tokio::select! {
                () = scheduled.notified() => {}
                key = finished.recv() => { key.map(|key| taken.remove(&key)); }
                () = sleep(wait) => {}
                () = self.drain.begun() => return,
            }
        }
    }

    async fn next_job(&self) -> Duration {
        let next = self.engine.store.next_job().await.ok().flatten();
        let millis = next.map_or(60_000, |next| next.as_millis() - Timestamp::now().as_millis());
        // A job that is due and already taken up would otherwise be asked for without a pause.
        Duration::from_millis(u64::try_from(millis).unwrap_or(0).clamp(100, 60_000))
    }

    async fn attempt(&self, due: DueJob) {
        let (name, _) = due.namespace.parts();
        let work = if due.namespace == crate::peer::namespace() {
            crate::peer::deliver(&self.engine, due.job.clone()).boxed_local()
        } else {
            let extension = self.engine.extensions.iter().find(|extension| extension.name() == name);
            let Some(extension) = extension else { return };
            let handle = self.handle(due.namespace.clone());
            extension.run_job(due.job.clone(), Rc::new(handle))
        };
        let attempt = timeout(JOB_PATIENCE, work).await;
        let outcome = attempt.unwrap_or_else(|_| JobOutcome::Again {
            delay: Duration::from_secs(60),
            payload: due.payload().clone(),
            reason: "the attempt took too long".into(),
        });
        if let JobOutcome::Failed(reason) = &outcome {
            tracing::error!(extension.name = name, job = %due.id(), reason, "a job failed for good");
        }
        if let Err(error) = self.engine.store.finish_job(&due, outcome).await {
            tracing::error!(%error, job = %due.id(), "a job's outcome could not be written; it will run again");
        }
    }
}

/// Reads secrets that have changed; a file system that hangs holds up nothing else.
async fn look_at_secrets(files: Arc<SecretFiles>) {
    loop {
        sleep(EVERY).await;
        let files = files.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || files.look()).await {
            tracing::error!(%error, "secrets that change are not looked at any more");
            return;
        }
    }
}

/// Renews standpipe's own tokens ahead of their end.
async fn renew_tokens(engine: Arc<Engine>) {
    loop {
        sleep(EVERY).await;
        let running = engine.running.load_full();
        running.providers.iter().for_each(|provider| provider.credentials.renew_due());
    }
}

async fn purge(engine: Arc<Engine>, tokens: Arc<TokenMappings>) {
    loop {
        match engine.store.count().await {
            Ok(rows) => engine.mapping_count.store(rows, std::sync::atomic::Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "mappings cannot be counted"),
        }
        sleep(PURGE.0).await;
        match engine.store.purge(Purge::Expired(Timestamp::now()), PURGE.1).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "expired mappings removed"),
            Err(error) => tracing::warn!(%error, "expired mappings could not be removed"),
        }
        let ended = TokenFilter { ended_before: Some(Timestamp::now()), ..TokenFilter::default() };
        match tokens.purge(&ended).await {
            Ok(0) => {}
            Ok(rows) => tracing::debug!(rows, "ended tokens removed"),
            Err(error) => tracing::warn!(error = error.log_text(), "ended tokens could not be removed"),
        }
        let (audit, feed) = {
            let config = &engine.running.load().config;
            (config.audit.clone(), config.events.clone())
        };
        purge_old("audit", &audit, |before, most| engine.store.purge_audit(before, most, PURGE.1)).await;
        purge_old("feed", &feed, |before, most| engine.store.purge_events(before, most, PURGE.1)).await;
    }
}

/// Removes events until none is too old or too much; each step lets other writes in between.
async fn purge_old<P>(of: &'static str, retention: &Retention, purge: impl Fn(Timestamp, u64) -> P)
where
    P: Future<Output = std::result::Result<usize, StoreError>>,
{
    let keep = i64::try_from(retention.keep.as_millis()).unwrap_or(i64::MAX);
    let before = Timestamp::from_millis(Timestamp::now().as_millis().saturating_sub(keep));
    loop {
        match purge(before, retention.most).await {
            Ok(0) => return,
            Ok(events) => tracing::debug!(of, events, "old events removed"),
            Err(error) => return tracing::warn!(%error, of, "old events could not be removed"),
        }
    }
}

/// The background handle of one namespace.
#[derive(Clone)]
struct Handle {
    shared: Shared,
    namespace: Namespace,
}

#[async_trait(?Send)]
impl Background for Handle {
    fn providers(&self) -> Vec<Provider> {
        let running = self.shared.engine.running.load();
        running.providers.iter().map(|provider| provider.public.clone()).collect()
    }

    fn with_left_out(&self) -> Vec<Provider> {
        self.shared.engine.running.load().known().cloned().collect()
    }

    fn epoch(&self) -> u64 {
        self.shared.engine.running.load().epoch
    }

    fn public_url(&self) -> String {
        self.shared.engine.running.load().config.public_url.clone()
    }

    async fn query(&self, target: &Target, query: Query) -> Result<Answer> {
        let (running, end) = (self.shared.engine.running.load_full(), now() + PATIENCE);
        let turn = running.provider(&target.provider)?.background_turns.clone().acquire_owned();
        let turn = self.shared.forward.deadlines().within(|| end, turn).await;
        let busy = |_| {
            let text = format!("all that background work may ask {} at once is under way", target.provider);
            Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, text)
        };
        let _turn = turn.map_err(busy)?;
        let querier = Querier {
            engine: self.shared.engine.clone(),
            forward: self.shared.forward.clone(),
            running,
            caller: None,
            on_behalf: crate::call::OnBehalf::default(),
            hops: 0,
            deadline: end,
        };
        querier.ask(target, None, query).await
    }

    fn publish_indexes(&self, indexes: Vec<(ProviderId, Vec<Hint>)>) {
        self.shared.engine.resolver.index().publish(indexes);
    }

    fn note(&self, provider: &ProviderId, word: &'static str, text: Option<&str>, since: Option<Timestamp>) {
        self.shared.engine.notes.set(provider, word, text, since);
    }

    fn state(&self) -> Arc<dyn State> {
        Arc::new(Records::new(self.shared.engine.resolver.mappings().clone(), self.namespace.clone()))
    }

    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()>>>) {
        tokio::task::spawn_local(work);
    }

    fn outbound(&self) -> Arc<dyn Outbound> {
        self.shared.engine.outbound.clone()
    }

    async fn stopped(&self) {
        self.shared.drain.begun().await;
    }

    async fn reloaded(&self) {
        self.shared.heard.reloaded().await;
    }

    async fn refreshed(&self) -> ProviderId {
        self.shared.heard.refreshed().await
    }

    /// Brokers verify RS256 and nothing else (decision 43).
    async fn sign(&self, claims: &serde_json::Value) -> Result<SecretString> {
        self.shared.engine.issuer.sign(claims, SigningAlgorithm::Rs256).await
    }

    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value> {
        self.verifier().verify(token).await
    }

    fn verifier(&self) -> Arc<dyn Verifier> {
        Arc::new(Verifying(self.shared.engine.clone()))
    }

    fn handle(&self) -> Rc<dyn Background> {
        Rc::new(self.clone())
    }
}
