//! What survives a crash: mappings, records and jobs of extensions, small process secrets.
//!
//! In come typed questions and writes from every core and from the background thread; out come rows, and
//! acknowledgements that hold through SIGKILL. `Store` is the contract of a backend, `Mappings` the cache in front
//! of it. It never decides what a mapping means, and nothing above this folder sees SQL or a key.

mod audit;
mod cache;
#[cfg(test)]
mod conformance;
mod error;
mod given;
mod jobs;
mod keys;
mod lock;
mod providers;
mod records;
mod seal;
mod sqlite;
mod tokens;

use std::fmt;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use standpipe_api::{
    Availability, Change, Conflict, EventPage, JobId, JobOutcome, Kind, Mapping, MappingState, NewEvent,
    Origin, Outdated, PeerId, ProviderId, Record, Resource, ResourceId, Timestamp,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use audit::{AuditEvent, AuditFilter, AuditRow};
pub use cache::Mappings;
pub use error::StoreError;
pub use given::{Amount, Given, GivenToken, Injected};
pub use jobs::{DueJob, JobState, QueuedJob};
pub use keys::{Keys, ReadSecret, Rotated};
pub use lock::DataDirLock;
pub use providers::{Held, KeptProvider, Removal};
pub use records::Records;
pub use seal::MasterKey;
pub use sqlite::{Options, Sqlite};
pub use tokens::{StoredToken, Subject, TokenFilter, TokenKey, TokenRow};

/// A backend. Every write is durable when its future resolves; a future that is dropped does not take its write
/// back. Futures are `Send` and work on any runtime. Expired rows are absent from every answer.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The mapping of a resource, tombstones included.
    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>, StoreError>;

    /// The mappings of a kind and id, whatever their parent and scope, in key order, at most `limit`.
    async fn mappings_named(
        &self,
        kind: &Kind,
        id: &ResourceId,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError>;

    /// Mappings in key order (kind, parent, id, scope) behind `after`, at most `limit`. Paging by the last key seen
    /// shows every row that exists throughout exactly once, whatever is written meanwhile.
    async fn scan(
        &self,
        filter: Filter,
        after: Option<Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError>;

    /// How many mappings there are, tombstones included. Reads an index from end to end.
    async fn count(&self) -> Result<u64, StoreError>;

    /// Inserts `mapping` with state `intent`, unless a row stands there that is neither expired nor a tombstone. When its
    /// tenant already has as many of its kind as `quota` says, that is an error. Many claims at once do not get past it.
    async fn claim(&self, mapping: Mapping, quota: Option<u32>) -> Result<Claim, StoreError>;

    /// Carries out all writes in order, in one transaction.
    async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Writes rows as they are, in one transaction, except those whose place is held by a row of another origin that
    /// is no tombstone (decision 20); one answer per row, in order. An `intent` becomes `maybe`: nobody is going to
    /// settle it.
    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError>;

    /// Writes what a peer gave, in one transaction: rows of origin `injected` that name it, except those whose place is
    /// held by a row of another origin or peer, or by a newer word of the same (`updated_at`, `obtained_at`); one answer
    /// per row, in order. A tombstone or an expired row holds no place.
    async fn inject(&self, rows: Vec<Mapping>, tokens: Vec<GivenToken>) -> Result<Injected, StoreError>;

    /// Removes at most `limit` mappings of each kind that a peer gave; how many.
    async fn revoke(&self, which: Given, limit: usize) -> Result<Amount, StoreError>;

    /// How much a peer gave that still counts.
    async fn count_given(&self, peer: &PeerId) -> Result<Amount, StoreError>;

    /// Removes at most `limit` mappings that nothing needs any more; the number removed.
    async fn purge(&self, which: Purge, limit: usize) -> Result<usize, StoreError>;

    /// A record, opened.
    async fn record(&self, namespace: &Namespace, key: &str) -> Result<Option<Record>, StoreError>;

    /// Records whose key begins with `prefix` and is greater than `after`, in key order, at most `limit`.
    async fn records(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Carries out all changes in one transaction, or none of them: the compare-and-sets are judged first, against
    /// the state before the commit. A claim over its quota is an error.
    async fn commit(
        &self,
        namespace: &Namespace,
        changes: Vec<Change>,
    ) -> Result<Result<(), Conflict>, StoreError>;

    /// Jobs that are due, the longest due first, at most `limit`. They stay in the queue until they are finished, so
    /// the caller must remember which ones it is running.
    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<DueJob>, StoreError>;

    /// Settles an attempt. Does nothing if the job was scheduled anew or cancelled while it ran.
    async fn finish_job(&self, due: &DueJob, outcome: JobOutcome) -> Result<(), StoreError>;

    /// How many jobs a namespace has, whatever they wait for.
    async fn count_jobs(&self, namespace: &Namespace) -> Result<u64, StoreError>;

    /// When the next job is due.
    async fn next_job(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Jobs in the order of namespace and id behind `after`, at most `limit`, without payloads.
    async fn jobs(
        &self,
        after: Option<&(Namespace, JobId)>,
        limit: usize,
    ) -> Result<Vec<QueuedJob>, StoreError>;

    /// Writes events behind those that are there, in one transaction; an event that is there already stays as it is.
    async fn append_audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError>;

    /// Events with an id above `after`, in the order in which they were written, at most `limit`.
    async fn audit(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// Removes events that ended before `before`, and the oldest of more than `most`, at most `limit` of each; the number
    /// removed.
    async fn purge_audit(&self, before: Timestamp, most: u64, limit: usize) -> Result<usize, StoreError>;

    /// Events behind a revision, in order, at most `limit`.
    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>, StoreError>;

    /// The revision of the last event that is durable, 0 before the first. It changes before the event's writer hears that
    /// it is written.
    fn last_event(&self) -> watch::Receiver<u64>;

    /// Removes events from the front that are from before `before`, or more than `most`, at most `limit`; the number
    /// removed. No revision is given again.
    async fn purge_events(&self, before: Timestamp, most: u64, limit: usize) -> Result<usize, StoreError>;

    /// Whether a job waits for its time or is being carried out.
    async fn job_waits(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError>;

    /// Makes a job due now, whether it waits or has failed, with its attempts forgotten. `false`: there is none.
    async fn retry_job(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError>;

    /// Removes a job; an attempt under way still ends. `false`: there was none.
    async fn drop_job(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError>;

    /// A real read and a real durable write.
    async fn health(&self) -> Result<(), StoreError>;

    /// What was said of providers at run time, in the order in which it was first said.
    async fn kept_providers(&self) -> Result<Vec<KeptProvider>, StoreError>;

    /// Writes what a provider is registered with, sealed, in one transaction with its event. A new one is active and comes
    /// behind the others; one that is there keeps its place and its availability.
    async fn register_provider(
        &self,
        name: ProviderId,
        registration: SecretBytes,
        event: NewEvent,
    ) -> Result<(), StoreError>;

    /// Writes whether a provider takes anything new, registered or not, in one transaction with its event.
    async fn set_availability(
        &self,
        name: ProviderId,
        availability: Availability,
        event: NewEvent,
    ) -> Result<(), StoreError>;

    /// Removes what is kept of a provider, in one transaction with its event and the look at its mappings, which are given
    /// back: unless it is forced, one that has any stays, and nothing has happened.
    async fn remove_provider(
        &self,
        name: ProviderId,
        removal: Removal,
        event: NewEvent,
    ) -> Result<Held, StoreError>;

    /// What mappings lead to a provider.
    async fn held(&self, name: &ProviderId) -> Result<Held, StoreError>;

    /// A process secret by name, such as the key of keyed hashes.
    async fn secret(&self, name: &str) -> Result<Option<SecretBytes>, StoreError>;

    /// Stores a process secret unless one of that name exists; gives the one that counts from now on.
    async fn put_secret_once(&self, name: &str, value: SecretBytes) -> Result<SecretBytes, StoreError>;

    /// The provider's token of a key, opened, unless it has ended.
    async fn token(&self, key: &TokenKey) -> Result<Option<StoredToken>, StoreError>;

    /// Writes a provider's token, sealed, in place of an earlier one.
    async fn put_token(&self, key: TokenKey, token: StoredToken) -> Result<(), StoreError>;

    /// Removes a token.
    async fn remove_token(&self, key: TokenKey) -> Result<(), StoreError>;

    /// Tokens in key order behind `after`, at most `limit`, without their values; those that ended are absent.
    async fn tokens(
        &self,
        filter: TokenFilter,
        after: Option<TokenKey>,
        limit: usize,
    ) -> Result<Vec<TokenRow>, StoreError>;

    /// Removes at most `limit` tokens that match; the number removed.
    async fn purge_tokens(&self, filter: TokenFilter, limit: usize) -> Result<usize, StoreError>;

    /// Seals everything that is sealed anew under another master key, in one transaction; the number of values. From
    /// the moment it is durable, only the new key opens the database.
    async fn rotate(&self, key: MasterKey) -> Result<u64, StoreError>;

    /// Tells the observer of every mapping that changes, whoever changes it: after the change is readable and before
    /// its writer hears of it.
    fn observe(&self, observer: Weak<dyn Observer>);
}

/// Bytes that are wiped when they are dropped.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Whoever holds copies of mappings.
pub trait Observer: Send + Sync {
    /// These mappings have been written or removed. Called on a thread of the store; must not block.
    fn changed(&self, resources: &[Resource]);
}

/// Which mappings a scan shows; an absent field shows all. A filter by parent alone reads the whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those at one provider.
    pub provider: Option<ProviderId>,
    /// Those of one kind.
    pub kind: Option<Kind>,
    /// Those within one parent.
    pub parent: Option<ResourceId>,
    /// Those that one peer gave.
    pub peer: Option<PeerId>,
}

impl Filter {
    /// Whether it shows a mapping.
    pub fn matches(&self, mapping: &Mapping) -> bool {
        self.provider.as_ref().is_none_or(|provider| *provider == mapping.provider)
            && self.kind.as_ref().is_none_or(|kind| *kind == mapping.resource.kind)
            && (self.parent.is_none() || self.parent == mapping.resource.parent)
            && (self.peer.is_none() || self.peer == mapping.peer)
    }
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The row is the caller's, with state `intent`.
    Taken,
    /// This row stands there.
    Existing(Box<Mapping>),
}

/// One write of a transaction.
#[derive(Clone, Debug)]
pub enum Write {
    /// Writes a row. If one stands there that is neither expired nor a tombstone, its `created_at`, origin and owner
    /// are kept.
    Put(Mapping),
    /// Moves a row to another state; nothing if there is none.
    State {
        /// The row.
        resource: Resource,
        /// Its new state.
        state: MappingState,
        /// When it ends from now on.
        expires_at: Option<Timestamp>,
    },
    /// Takes a claim back: only while the row is still `intent` and still that very claim.
    DropClaim {
        /// The claimed resource.
        resource: Resource,
        /// `created_at` of the claim.
        created_at: Timestamp,
    },
    /// Removes a row without a trace.
    Remove {
        /// The row.
        resource: Resource,
    },
    /// Tells those who follow the feed.
    Event(NewEvent),
}

/// Which mappings are removed without a trace.
#[derive(Clone, Debug)]
pub enum Purge {
    /// Those that expired before this moment.
    Expired(Timestamp),
    /// Tombstones of a kind that were put up before a moment.
    Tombstones {
        /// The kind.
        kind: Kind,
        /// The moment.
        before: Timestamp,
    },
}

/// What became of one imported row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is in the table.
    Written,
    /// A row of this other origin stands there and was kept.
    Kept(Origin),
}

/// Whose records and jobs: an extension's name, or `extension/provider` for a provider served in process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// What the engine itself keeps; no extension has such a name.
    pub fn engine(name: &str) -> Self {
        Self(format!("standpipe-{name}").into())
    }

    /// The records of an extension.
    pub fn extension(name: &str) -> Self {
        Self(name.into())
    }

    /// The records of one provider that an extension serves in process.
    pub fn provider(extension: &str, provider: &ProviderId) -> Self {
        Self(format!("{extension}/{provider}").into())
    }

    /// The extension, and the provider if there is one.
    pub fn parts(&self) -> (&str, Option<ProviderId>) {
        match self.0.split_once('/') {
            Some((extension, provider)) => (extension, Some(provider.into())),
            None => (&self.0, None),
        }
    }

    /// The text as it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
