//! The handle by which a hook asks providers: bound to the caller, the deadline and the trace of one call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};

use crate::{
    Caller, Change, Credential, EventPage, Hint, Mapping, NewJob, Outdated, PeerId, Provider, ProviderId,
    RemoteScope, Resource, Result, SigningAlgorithm, State, Target,
};

/// A question to a provider: the path is as the provider sees it, relative to its base URL.
pub type Query = Request<Bytes>;

/// Marks a background query that carries the extension's own `Authorization`: it takes the place of the provider's
/// credential.
#[derive(Clone, Copy, Debug)]
pub struct OwnAuthorization;

/// A provider's whole answer.
pub type Answer = Response<Bytes>;

/// The engine as an extension sees it during one call.
///
/// Every request made through it carries the caller's credential for the provider, `Via`, the hop count
/// and the trace, obeys the provider's limits and breaker, ends at the call's deadline, and runs no hooks.
#[async_trait(?Send)]
pub trait Federation {
    /// Who is calling.
    fn caller(&self) -> &Arc<Caller>;

    /// The base URL under which callers reach standpipe, without a trailing slash. Links point there.
    fn public_url(&self) -> &str;

    /// The providers this caller may reach, in configured order.
    fn providers(&self) -> Vec<Provider>;

    /// One of them.
    fn provider(&self, id: &ProviderId) -> Option<Provider> {
        self.providers().into_iter().find(|provider| provider.id == *id)
    }

    /// Registered providers of a dialect that cannot be put to work and that the caller would see. Nobody can ask them, and
    /// each may have what the others do not: while there is one, "not found" is "could not ask".
    fn left_out(&self, _dialect: &str) -> Vec<ProviderId> {
        Vec::new()
    }

    /// How many reloads and changes of the providers there were since the start, as this call knows them. What an extension
    /// learns of providers beside calls may be of an earlier one ([`crate::Background::epoch`]).
    fn epoch(&self) -> u64 {
        0
    }

    /// Whether no access rule keeps anything from this caller: what was put together for one such caller is every other's.
    fn sees_everything(&self) -> bool {
        false
    }

    /// The provider the caller pinned with `Standpipe-Provider`, when the caller may reach it.
    fn pinned(&self) -> Option<ProviderId>;

    /// Asks one provider. The answer is buffered up to `limits.answer_buffer`.
    ///
    /// # Errors
    /// Whatever kept the answer from coming: unreachable, timeout, refused by limit or breaker, too large.
    async fn query(&self, target: &Target, query: Query) -> Result<Answer>;

    /// Asks many concurrently; one entry per target, in the order given, errors included.
    async fn query_each(&self, queries: Vec<(Target, Query)>) -> Vec<(Target, Result<Answer>)>;

    /// Where a resource lives: mapped, in a provider's index, at the only provider of its dialect, or found by asking.
    ///
    /// # Errors
    /// Ambiguous, or somebody did not answer.
    async fn locate(&self, dialect: &str, resource: &Resource) -> Result<Located>;

    /// The current mappings of a kind and id that the caller may know of, whatever their parent: of what it sees, and of
    /// what it created. At most `limit`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn mappings(
        &self,
        kind: &crate::Kind,
        id: &crate::ResourceId,
        limit: usize,
    ) -> Result<Vec<Mapping>>;

    /// The current mappings of a kind at one provider that the caller may know of, tombstones left out. At most `limit`,
    /// in the order of their ids.
    ///
    /// # Errors
    /// The store does not answer.
    async fn mappings_at(
        &self,
        provider: &ProviderId,
        kind: &crate::Kind,
        limit: usize,
    ) -> Result<Vec<Mapping>>;

    /// Names the credential that a query to this provider carries: two calls with equal names may share a cached
    /// answer. Empty when it is standpipe's own, the same for every caller; by default each caller has its own.
    fn identity_at(&self, _provider: &ProviderId) -> Arc<str> {
        Arc::from(self.caller().id.as_str())
    }

    /// Whether this provider may be asked in turn with others. One that is let in by the caller's own credential may not,
    /// unless the operator has put all such providers into one group: it must not visit the others (decision 16).
    fn may_visit(&self, provider: &ProviderId) -> bool {
        self.identity_at(provider).is_empty()
    }

    /// Whether the caller may see a resource at a provider. What it may not see is to be left out, as if it were not
    /// there: no item of a list, no candidate, no question.
    fn may_see(&self, _provider: &ProviderId, _resource: &Resource) -> bool {
        true
    }

    /// Whether access rules let the caller do this, with a method of the resource's dialect. An extension that does under one
    /// path what callers otherwise do under another asks first.
    fn may_do(&self, _method: &Method, _provider: &ProviderId, _resource: &Resource) -> bool {
        true
    }

    /// Records a mapping durably.
    ///
    /// # Errors
    /// The store does not answer.
    async fn learn(&self, mapping: Mapping) -> Result<()>;

    /// Leaves a tombstone in place of a mapping.
    ///
    /// # Errors
    /// The store does not answer.
    async fn forget(&self, resource: &Resource) -> Result<()>;

    /// Creates a resource: claims the mapping, sends the query, confirms or takes back the claim.
    ///
    /// # Errors
    /// As [`Federation::query`]; the claim is then settled by the dialect's verdict.
    async fn create(&self, resource: &Resource, target: &Target, query: Query) -> Result<Answer>;

    /// A change that claims for the caller what is about to be created in background work: part of the transaction that
    /// schedules the work, it counts against the caller's quota as [`Federation::create`] does.
    ///
    /// # Errors
    /// No such provider, or the caller may not see the resource there.
    fn claim(&self, resource: Resource, target: &Target, hints: Vec<Hint>) -> Result<Change>;

    /// The caller's credential at a provider, for the rare extension that speaks to it by other means.
    ///
    /// # Errors
    /// The credential could not be obtained.
    async fn credential(&self, provider: &ProviderId, scope: Option<&RemoteScope>) -> Result<Credential>;

    /// The peers that sit next to a provider and are to be told of what is created there (`inject` in `[[peer]]`).
    fn peers_beside(&self, _provider: &ProviderId) -> Vec<PeerId> {
        Vec::new()
    }

    /// Gives a peer mappings, so that it routes the resources without asking. All of them are taken, or none; at most
    /// 1000 at once. They last as long as they say, but no longer than the peer's `lifetime`. Of a resource mapping
    /// travel its key, provider, endpoint, remote scope and end.
    ///
    /// # Errors
    /// No such peer, more than it takes, and with [`Delivery::Now`] refused or not delivered in time. With
    /// [`Delivery::Outbox`] they are durable on return and what becomes of them is seen in the outbox.
    async fn inject(&self, peer: &PeerId, injections: &[Injection], delivery: Delivery) -> Result<()>;

    /// What happened behind a revision, as far as the caller may see it: its own, and of what it sees at the providers it
    /// sees all that is nobody's, of its tenant, or, for a caller without a tenant, of anybody whose ids are not within a
    /// tenant: what it could not read is not told. At most `limit` events, and fewer where many that follow are not for the
    /// caller: ask on from `next` until that is the last revision.
    ///
    /// # Errors
    /// The store does not answer. That the feed cannot be read from there is not an error but [`Outdated`].
    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>>;

    /// The revision of the last event written, seen by the caller or not; 0 before the first.
    fn last_event(&self) -> u64;

    /// Resolves when there is an event behind a revision. It may be one that the caller does not see.
    async fn event_behind(&self, revision: u64);

    /// Signs claims as standpipe's own issuer: a compact JWS whose `typ` says what it is for.
    ///
    /// # Errors
    /// No key can sign.
    async fn sign(
        &self,
        _claims: &serde_json::Value,
        _algorithm: SigningAlgorithm,
        _typ: &'static str,
    ) -> Result<secrecy::SecretString> {
        Err(crate::Error::internal("nothing is signed here"))
    }

    /// Durable, sealed records of the extension, one transaction with mappings and jobs.
    fn state(&self) -> Arc<dyn State>;

    /// Puts a durable job in the queue.
    ///
    /// # Errors
    /// The store does not answer.
    async fn schedule(&self, job: NewJob) -> Result<()>;

    /// Runs a future later on this core, beyond the end of the call, for at most `limit`; used to refresh caches.
    fn detach(&self, limit: Duration, work: std::pin::Pin<Box<dyn Future<Output = ()>>>);

    /// The same handle without the caller's lifetime: keeps the caller's identity, gets a deadline of its own.
    fn detached(&self, limit: Duration) -> std::rc::Rc<dyn Federation>;
}

/// What is known of a resource's place.
#[derive(Clone, Debug, PartialEq)]
pub enum Located {
    /// It lives here.
    At(Target),
    /// Everybody who could know was asked, and says no.
    Nowhere,
}

/// What a peer can be given.
#[derive(Clone, Debug)]
pub enum Injection {
    /// Where a resource lives.
    Resource(Mapping),
    /// The provider token that a caller's token stands for.
    Token {
        /// The caller's token. Only its hash (SHA-256) leaves this process; the peer stores a keyed hash of that.
        caller_token: secrecy::SecretString,
        /// The provider the token is for.
        provider: ProviderId,
        /// The scope it is for.
        remote_scope: Option<RemoteScope>,
        /// The provider's token, which the peer stores sealed.
        provider_token: secrecy::SecretString,
        /// When it ends.
        expires_at: crate::Timestamp,
    },
}

/// How an injection travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The caller waits for it, at most this long.
    Now(Duration),
    /// Through the durable outbox, until it is delivered or given up.
    Outbox,
}
