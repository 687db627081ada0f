//! What survives: resource mappings, records and jobs of extensions. The only place with SQL.
//!
//! Everything above speaks to [`Store`], so that a second backend can serve several replicas one day, and on
//! the path of a call to [`Mappings`], which keeps what is asked for often in memory. What a write method
//! returned from survives `kill -9`.

mod cache;
mod error;
mod lock;
mod records;
mod rows;
mod seal;
mod sqlite;
mod tables;
mod writer;

use async_trait::async_trait;
use bytes::Bytes;
use standpipe_api::{
    Change, Conflict, Job, JobId, JobOutcome, Kind, Mapping, MappingState, Origin, ProviderId, Record,
    Resource, ResourceId, Timestamp,
};

pub use self::cache::Mappings;
pub use self::error::StoreError;
pub use self::lock::DataDirLock;
pub use self::records::Records;
pub use self::seal::MasterKey;
pub use self::sqlite::Sqlite;

/// The tables. Every method may be called on any thread; a write is durable when it returns.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The current row of a resource; tombstones count, expired rows do not.
    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>, StoreError>;

    /// Current rows of a kind and id, whatever their parent; at most `limit`.
    async fn mappings_named(
        &self,
        kind: &Kind,
        id: &ResourceId,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError>;

    /// Current rows in key order, behind `after`; at most `limit`.
    async fn scan(
        &self,
        filter: Filter,
        after: Option<Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError>;

    /// How many rows there are.
    async fn count(&self) -> Result<u64, StoreError>;

    /// Takes a resource that nobody has: no row, an expired one, or a tombstone.
    async fn claim(&self, mapping: Mapping) -> Result<Claim, StoreError>;

    /// Carries out writes in one transaction.
    async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// Writes rows that somebody else vouches for, in one transaction; one answer per row, in order.
    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError>;

    /// Removes rows that expired before `now`; at most `limit`.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// A record, opened.
    async fn record(&self, namespace: &Namespace, key: &str) -> Result<Option<Record>, StoreError>;

    /// Records by prefix, in key order, behind `after`; at most `limit`.
    async fn records(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError>;

    /// Changes of an extension: all or none.
    async fn commit(
        &self,
        namespace: &Namespace,
        changes: Vec<Change>,
    ) -> Result<Result<(), Conflict>, StoreError>;

    /// Jobs that are due, the longest overdue first; at most `limit`.
    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<DueJob>, StoreError>;

    /// Writes down how an attempt at a job ended, unless the job was replaced meanwhile.
    async fn finish_job(&self, job: &DueJob, outcome: JobOutcome) -> Result<(), StoreError>;

    /// When the next job is due.
    async fn next_job(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Whether it reads and writes: a real read and a real durable write.
    async fn health(&self) -> Result<(), StoreError>;
}

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this provider.
    pub provider: Option<ProviderId>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Within this parent.
    pub parent: Option<ResourceId>,
}

impl Filter {
    /// Whether a mapping is one of them.
    pub fn matches(&self, mapping: &Mapping) -> bool {
        self.provider.as_ref().is_none_or(|provider| *provider == mapping.provider)
            && self.kind.as_ref().is_none_or(|kind| *kind == mapping.resource.kind)
            && (self.parent.is_none() || self.parent == mapping.resource.parent)
    }
}

/// One change of the mapping table.
#[derive(Clone, Debug)]
pub enum Write {
    /// Writes a row; creation time, origin and owner of a row that is alive stay.
    Put(Mapping),
    /// Moves a row on in its life; nothing happens to a row that is not there.
    State {
        /// Whose.
        resource: Resource,
        /// To here.
        state: MappingState,
        /// The end of a tombstone.
        expires_at: Option<Timestamp>,
    },
    /// Takes a claim back, if it is still that very claim.
    DropClaim {
        /// Whose.
        resource: Resource,
        /// When it was claimed.
        created_at: Timestamp,
    },
    /// Removes a row.
    Remove {
        /// Whose.
        resource: Resource,
    },
}

impl Write {
    /// The resource it is about.
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Put(mapping) => &mapping.resource,
            Self::State { resource, .. } | Self::DropClaim { resource, .. } | Self::Remove { resource } => {
                resource
            }
        }
    }
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The row is the caller's.
    Taken,
    /// Somebody has it.
    Existing(Box<Mapping>),
}

/// What became of one imported row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is in the table.
    Written,
    /// A row of this other origin is there and stays (decision 20).
    Kept(Origin),
}

/// Whose records: an extension's, or one in-process provider's of an extension.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// The records of an extension.
    pub fn extension(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The records of a provider that an extension serves in process.
    pub fn provider(extension: &str, provider: &ProviderId) -> Self {
        Self(format!("{extension}/{provider}"))
    }

    /// The text stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The extension, and the provider if there is one.
    pub fn parts(&self) -> (&str, Option<ProviderId>) {
        match self.0.split_once('/') {
            Some((extension, provider)) => (extension, Some(provider.into())),
            None => (&self.0, None),
        }
    }
}

/// A job that is due, and whose.
#[derive(Clone, Debug)]
pub struct DueJob {
    /// Whose.
    pub namespace: Namespace,
    /// What.
    pub job: Job,
    /// Which scheduling of it; one that was replaced meanwhile is not finished by the old attempt.
    pub generation: i64,
}

impl DueJob {
    /// Its name within its namespace.
    pub fn id(&self) -> &JobId {
        &self.job.id
    }

    /// What it was scheduled with.
    pub fn payload(&self) -> &Bytes {
        &self.job.payload
    }
}

#[cfg(test)]
mod tests;
