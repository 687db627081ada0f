//! Durable jobs as the engine and operators see them.

use bytes::Bytes;
use standpipe_api::{Job, JobId, Timestamp};

use super::Namespace;

/// A job that is due, and whose.
#[derive(Clone, Debug)]
pub struct DueJob {
    /// Whose.
    pub namespace: Namespace,
    /// What the extension is given.
    pub job: Job,
    /// Which scheduling of it: a job scheduled anew has another one.
    pub generation: i64,
}

impl DueJob {
    /// Its name within its namespace.
    pub fn id(&self) -> &JobId {
        &self.job.id
    }

    /// What it was scheduled with, or what its last attempt left.
    pub fn payload(&self) -> &Bytes {
        &self.job.payload
    }
}

/// A job as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// Whose job.
    pub namespace: Namespace,
    /// Its name there.
    pub id: JobId,
    /// What it waits for.
    pub state: JobState,
    /// When it is or was due.
    pub due_at: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt did not finish it.
    pub reason: Option<String>,
}

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Its time.
    Waiting,
    /// A caller whose credentials it needs; scheduling it anew wakes it.
    NeedsCredentials,
    /// Nothing: it failed for good.
    Failed,
}

impl JobState {
    /// The word stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::NeedsCredentials => "needs credentials",
            Self::Failed => "failed",
        }
    }
}
