//! Durable, sealed records of an extension.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Hint, JobId, Kind, Mapping, MappingState, NewEvent, NewJob, ProviderId, Resource, ResourceId, Result,
    Timestamp,
};

/// The key of a record within its extension; `/` separates parts, so that a prefix lists a group.
pub type RecordKey = String;

/// Counts the writes of one record; a compare-and-set names the one it read.
pub type Revision = u64;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: RecordKey,
    /// Its content, opened.
    pub value: Bytes,
    /// Which write it is from.
    pub revision: Revision,
}

/// The records of one extension (and, for an in-process provider, of that provider alone). Contents are
/// sealed at rest; keys are not, so they hold no secrets. Works on any thread.
#[async_trait]
pub trait State: Send + Sync {
    /// Reads a record.
    ///
    /// # Errors
    /// The store does not answer, or the record was sealed under a key that is gone.
    async fn get(&self, key: &str) -> Result<Option<Record>>;

    /// Records whose key begins with `prefix` and is greater than `after`, in key order, at most `limit`.
    ///
    /// # Errors
    /// As [`State::get`].
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Record>>;

    /// The current mapping of a resource, a tombstone too.
    ///
    /// # Errors
    /// The store does not answer.
    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>>;

    /// Current mappings of a kind within a parent, tombstones included, of all providers and tenants, behind `after`, in the order
    /// of their resources, at most `limit`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn within(
        &self,
        kind: &Kind,
        parent: &ResourceId,
        after: Option<&Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>>;

    /// Removes tombstones of a kind that were put up before a moment, of all providers and tenants, at most `limit`, and
    /// says how many they were. What they stood for is searched for anew when it is asked for.
    ///
    /// # Errors
    /// The store does not answer.
    async fn purge(&self, kind: &Kind, before: Timestamp, limit: usize) -> Result<usize>;

    /// Whether a job of this extension waits to be carried out, or is being carried out; one that failed for good does not.
    ///
    /// # Errors
    /// The store does not answer.
    async fn waits(&self, id: &JobId) -> Result<bool>;

    /// Carries out all changes in one durable transaction, or none of them.
    ///
    /// # Errors
    /// The store does not answer, or a claim is over its quota. A compare-and-set that lost is not an error but a [`Conflict`].
    async fn commit(&self, changes: Vec<Change>) -> Result<Result<(), Conflict>>;
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes a record whose current revision must be the expected one; `None`: it must not exist yet.
    Put {
        /// The record's key.
        key: RecordKey,
        /// Its new content.
        value: Bytes,
        /// The revision that was read.
        expected: Option<Revision>,
    },
    /// Removes a record whose current revision must be the expected one.
    Remove {
        /// The record's key.
        key: RecordKey,
        /// The revision that was read.
        expected: Revision,
    },
    /// Records a mapping.
    Learn(Mapping),
    /// Claims what is about to be created, unless a mapping is there already; [`Federation::claim`] makes it. The number is how
    /// many of the kind its tenant may have, and the transaction fails when there are as many.
    ///
    /// [`Federation::claim`]: crate::Federation::claim
    Claim(Mapping, Option<u32>),
    /// Takes a claim back of what was not created after all; a mapping that is more than a claim stays.
    Unclaim(Resource),
    /// Leaves a tombstone in place of a mapping.
    Forget(Resource),
    /// Moves a mapping at a provider to another state, `Gone` for a tombstone. Nothing happens to a mapping at another provider, and
    /// no tombstone is revived.
    Move(Resource, ProviderId, MappingState),
    /// Says anew which ids a mapping at a provider has to do with: it is of another plan now. Nothing happens to a mapping at
    /// another provider, or to a tombstone.
    Hint(Resource, ProviderId, Vec<Hint>),
    /// Puts a job of this extension in the queue.
    Schedule(NewJob),
    /// Takes a job of this extension out of the queue.
    Cancel(JobId),
    /// Tells those who follow the feed, once the transaction is durable.
    Event(NewEvent),
}

/// A compare-and-set that lost: somebody else wrote the record since it was read. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The record that differs.
    pub key: RecordKey,
}
