//! The engine's side of the handle that hooks get: bound to one extension, one caller, one deadline.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use secrecy::SecretString;
use standpipe_api::{
    Answer, Caller, Change, Credential, Delivery, Error, ErrorKind, EventPage, Federation, Hint, Injection,
    Kind, Located, Mapping, MappingState, NewJob, Outcome, Outdated, PeerId, Provider, ProviderId, Query,
    RemoteScope, Resource, ResourceId, Result, SigningAlgorithm, State, Target,
};

use crate::access::{Judgement, Sight};
use crate::engine::{Engine, unknown_provider};
use crate::forward::deadline::now;
use crate::learn;
use crate::peer;
use crate::query::Querier;
use crate::resolve::{Place, Purpose, Wanted};
use crate::store::{Namespace, Records, Write};
use crate::token::Chosen;

/// Rows that are looked through for those a caller sees, where access rules are in force.
const MOST_FILTERED: usize = 10_000;

/// Events that are looked through for those a caller sees; with payloads of 16 KiB, 4 MiB at most.
const MOST_EVENTS: usize = 256;

/// What one extension can do during one call.
#[derive(Clone)]
pub struct Handle {
    querier: Querier,
    /// Hooks only run for identified callers.
    caller: Arc<Caller>,
    extension: &'static str,
    pinned: Option<ProviderId>,
}

impl Handle {
    /// A handle for a hook of an extension.
    pub fn new(
        querier: Querier,
        caller: Arc<Caller>,
        extension: &'static str,
        pinned: Option<ProviderId>,
    ) -> Self {
        Self { querier, caller, extension, pinned }
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.querier.engine
    }

    fn records(&self) -> Records {
        Records::new(self.engine().resolver.mappings().clone(), Namespace::extension(self.extension))
    }

    fn place(&self, target: &Target) -> Result<Place> {
        self.seen(&target.provider)?;
        self.querier.running.place(target)
    }

    fn sees(&self, provider: &ProviderId) -> bool {
        self.querier.running.access.sees_provider(Some(&self.caller), provider)
    }

    /// A provider that the caller does not see is as unknown as any other name.
    fn seen(&self, provider: &ProviderId) -> Result<()> {
        if self.sees(provider) { Ok(()) } else { Err(unknown_provider(provider)) }
    }

    /// What the caller is about to create, and how many of its kind it may have.
    fn intent(&self, resource: Resource, place: &Place, hints: Vec<Hint>) -> Result<(Mapping, Option<u32>)> {
        let provider = place.provider.id();
        if !self.may_see(provider, &resource) {
            return Err(Error::unknown_resource(&resource));
        }
        let caller = Some(&*self.caller);
        let alias = place.provider.credentials.alias(provider, caller, Chosen::default())?;
        let quota = self.querier.running.quotas.of(caller, &resource.kind);
        Ok((learn::intent(resource, place, caller, hints, alias), quota))
    }

    fn with_patience(&self, limit: Duration) -> Self {
        let querier = Querier { deadline: now() + limit, ..self.querier.clone() };
        Self { querier, ..self.clone() }
    }
}

#[async_trait(?Send)]
impl Federation for Handle {
    fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    fn public_url(&self) -> &str {
        &self.querier.running.config.public_url
    }

    fn providers(&self) -> Vec<Provider> {
        let providers = self.querier.running.providers.iter();
        let seen = providers.filter(|provider| self.sees(provider.id()));
        seen.map(|provider| provider.public.clone()).collect()
    }

    fn provider(&self, id: &ProviderId) -> Option<Provider> {
        let provider = self.querier.running.find(id).filter(|_| self.sees(id));
        provider.map(|provider| provider.public.clone())
    }

    fn left_out(&self, dialect: &str) -> Vec<ProviderId> {
        let Some(dialect) = self.querier.engine.router.dialect_named(dialect) else { return Vec::new() };
        self.querier.running.silent(dialect).filter(|id| self.sees(id)).cloned().collect()
    }

    fn epoch(&self) -> u64 {
        self.querier.running.epoch
    }

    fn sees_everything(&self) -> bool {
        self.querier.running.access.is_open()
    }

    fn pinned(&self) -> Option<ProviderId> {
        self.pinned.clone()
    }

    fn identity_at(&self, provider: &ProviderId) -> Arc<str> {
        let credentials = self.querier.running.find(provider).map(|provider| &provider.credentials);
        let chosen = credentials.and_then(|credentials| credentials.identity(Some(&self.caller)));
        if credentials.is_some_and(|credentials| credentials.is_unattended()) {
            return Arc::from(chosen.unwrap_or_default());
        }
        let caller = self.caller.id.as_str();
        let chosen = chosen.unwrap_or_default();
        Arc::from(format!("{caller} {chosen} {}", self.querier.on_behalf.identity()))
    }

    fn may_visit(&self, provider: &ProviderId) -> bool {
        let running = &self.querier.running;
        self.sees(provider) && running.find(provider).is_some_and(|provider| running.may_visit(provider))
    }

    fn may_see(&self, provider: &ProviderId, resource: &Resource) -> bool {
        let resources = std::slice::from_ref(resource);
        self.querier.running.access.sees(Some(&self.caller), provider, resources)
    }

    fn may_do(&self, method: &Method, provider: &ProviderId, resource: &Resource) -> bool {
        let (access, resources) = (&self.querier.running.access, std::slice::from_ref(resource));
        access.judge(Some(&self.caller), provider, resources, method) == Judgement::LetIn
    }

    async fn query(&self, target: &Target, query: Query) -> Result<Answer> {
        self.seen(&target.provider)?;
        self.querier.ask(target, None, query).await
    }

    async fn query_each(&self, queries: Vec<(Target, Query)>) -> Vec<(Target, Result<Answer>)> {
        if queries.iter().all(|(target, _)| self.sees(&target.provider)) {
            return self.querier.ask_each(queries).await;
        }
        // An extension asks only whom `providers` has shown it; one that does not is told so for each.
        let each = queries.into_iter().map(|(target, query)| async move {
            let answer = self.query(&target, query).await;
            (target, answer)
        });
        futures_util::future::join_all(each).await
    }

    async fn locate(&self, dialect: &str, resource: &Resource) -> Result<Located> {
        let unknown = || Error::internal(format!("no dialect is named {dialect}"));
        let id = self.engine().router.dialect_named(dialect).ok_or_else(unknown)?;
        let resources = std::slice::from_ref(resource);
        let hints = [standpipe_api::Hint::new(resource.kind.clone(), resource.id.clone())];
        let sight = &Sight::new(&self.querier.running.access, Some(&self.caller), resources);
        let pinned = self.pinned.as_ref();
        let speaks = &**self.engine().router.dialect(id);
        let wanted = Wanted {
            dialect: id,
            speaks,
            resources,
            creates: None,
            purpose: Purpose::Known,
            hints: &hints,
            pinned,
            sight,
        };
        let resolver = &self.engine().resolver;
        match resolver.resolve(&wanted, &self.querier).await {
            Ok(place) => {
                if !speaks.callers_choose_ids() {
                    resolver.learn(&wanted, &self.querier.running, &place).await?;
                }
                Ok(Located::At(place.target()))
            }
            Err(error) if error.kind() == ErrorKind::UnknownResource => Ok(Located::Nowhere),
            Err(error) => Err(error),
        }
    }

    async fn mappings(&self, kind: &Kind, id: &ResourceId, limit: usize) -> Result<Vec<Mapping>> {
        let open = self.querier.running.access.is_open();
        let most = if open { limit } else { limit.max(MOST_FILTERED) };
        let rows = self.engine().store.mappings_named(kind, id, most).await.map_err(Error::from)?;
        // What the caller created is never unknown to it, seen or not (decision 22).
        let own = |row: &Mapping| row.owner.as_ref() == Some(&self.caller.id);
        let known = rows.into_iter().filter(|row| own(row) || self.may_see(&row.provider, &row.resource));
        Ok(known.take(limit).collect())
    }

    async fn mappings_at(&self, provider: &ProviderId, kind: &Kind, limit: usize) -> Result<Vec<Mapping>> {
        let open = self.querier.running.access.is_open();
        let most = if open { limit } else { limit.max(MOST_FILTERED) };
        let rows = self.engine().resolver.mappings().at(provider, kind, most).await.map_err(Error::from)?;
        let kept = rows.iter().filter(|mapping| mapping.state != MappingState::Gone);
        let seen = kept.filter(|mapping| self.may_see(provider, &mapping.resource));
        Ok(seen.take(limit).cloned().collect())
    }

    async fn learn(&self, mapping: Mapping) -> Result<()> {
        self.engine().resolver.mappings().apply(vec![Write::Put(mapping)]).await.map_err(Error::from)
    }

    async fn forget(&self, resource: &Resource) -> Result<()> {
        let write = self.engine().learner.tombstone(resource);
        self.engine().resolver.mappings().apply(vec![write]).await.map_err(Error::from)
    }

    async fn create(&self, resource: &Resource, target: &Target, query: Query) -> Result<Answer> {
        let place = self.place(target)?;
        let (intent, quota) = self.intent(resource.clone(), &place, Vec::new())?;
        let held = self.engine().learner.claim(intent, quota).await?;
        let answered = self.querier.ask(target, None, query).await;
        let dialect = self.engine().router.dialect(place.provider.dialect);
        let operation = standpipe_api::Operation::new("create", standpipe_api::Effect::Create);
        let outcome = match &answered {
            Ok(answer) => Outcome::Answered {
                status: answer.status(),
                headers: answer.headers(),
                body: Some(answer.body()),
            },
            Err(error) if error.kind() == ErrorKind::Timeout || error.kind() == ErrorKind::Nonsense => {
                Outcome::Lost
            }
            Err(_) => Outcome::NotSent,
        };
        let verdict = dialect.judge(operation, &outcome);
        held.settle(verdict).await?;
        answered
    }

    fn claim(&self, resource: Resource, target: &Target, hints: Vec<Hint>) -> Result<Change> {
        let (intent, quota) = self.intent(resource, &self.place(target)?, hints)?;
        Ok(Change::Claim(intent, quota))
    }

    async fn credential(&self, provider: &ProviderId, scope: Option<&RemoteScope>) -> Result<Credential> {
        self.seen(provider)?;
        let mut target = Target::provider(provider.clone());
        target.remote_scope = scope.cloned();
        let provider = self.querier.running.provider(provider)?;
        self.querier.credential(provider, &target, None).await
    }

    fn peers_beside(&self, provider: &ProviderId) -> Vec<PeerId> {
        self.querier.running.peers.told_beside(provider)
    }

    async fn inject(&self, peer: &PeerId, injections: &[Injection], delivery: Delivery) -> Result<()> {
        let delivery = match delivery {
            Delivery::Now(limit) => {
                Delivery::Now(limit.min(self.querier.deadline.saturating_duration_since(now())))
            }
            Delivery::Outbox => Delivery::Outbox,
        };
        peer::give(self.engine(), &self.querier.running, peer, injections, delivery).await
    }

    /// Rules count as they are now, not as they were when the call began: a follower stays long.
    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>> {
        let read = self.engine().store.events(after, limit.max(MOST_EVENTS)).await.map_err(Error::from)?;
        let running = self.engine().running.load();
        Ok(read.map(|page| running.access.shown(&self.caller, page, limit)))
    }

    fn last_event(&self) -> u64 {
        *self.engine().store.last_event().borrow()
    }

    async fn event_behind(&self, revision: u64) {
        // The sender lives as long as the store.
        let mut last = self.engine().store.last_event();
        let _closed = last.wait_for(|last| *last > revision).await;
    }

    async fn sign(
        &self,
        claims: &serde_json::Value,
        algorithm: SigningAlgorithm,
        typ: &'static str,
    ) -> Result<SecretString> {
        self.engine().issuer.signed(claims, algorithm, typ)
    }

    fn state(&self) -> Arc<dyn State> {
        Arc::new(self.records())
    }

    async fn schedule(&self, job: NewJob) -> Result<()> {
        // A job alone has no compare-and-set that could lose.
        let _cannot_conflict = self.records().commit(vec![Change::Schedule(job)]).await?;
        Ok(())
    }

    fn detach(&self, limit: Duration, work: Pin<Box<dyn Future<Output = ()>>>) {
        let deadlines = self.querier.forward.deadlines().clone();
        let end = now() + limit;
        tokio::task::spawn_local(async move {
            // Work that takes too long is dropped; whoever detached it said how long it may take.
            let _late = deadlines.within(|| end, work).await;
        });
    }

    fn detached(&self, limit: Duration) -> Rc<dyn Federation> {
        Rc::new(self.with_patience(limit))
    }
}
