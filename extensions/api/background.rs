//! Work beside calls: on a thread of its own, never on a core that serves.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;

use crate::{Answer, Hint, Provider, ProviderId, Query, Result, State, Target, Timestamp, Verifier};

/// The engine as background work sees it: no caller, only service credentials.
#[async_trait(?Send)]
pub trait Background {
    /// All providers, in configured order; changes with a reload.
    fn providers(&self) -> Vec<Provider>;

    /// The same with the registered ones that cannot be put to work, each in its own place: nobody can ask them, and what
    /// they are known to have stays theirs.
    fn with_left_out(&self) -> Vec<Provider> {
        self.providers()
    }

    /// How many reloads and changes of the providers there were since the start. Asked for before the providers, those may be
    /// of a later one, and never of an earlier.
    fn epoch(&self) -> u64 {
        0
    }

    /// The base URL under which callers reach standpipe.
    fn public_url(&self) -> String;

    /// Asks a provider as standpipe itself.
    ///
    /// # Errors
    /// As [`crate::Federation::query`]; also when the provider's credential is its callers'.
    async fn query(&self, target: &Target, query: Query) -> Result<Answer>;

    /// Replaces what a provider's index knows: the hints that lead to it.
    fn publish_index(&self, provider: &ProviderId, hints: Vec<Hint>) {
        self.publish_indexes(vec![(provider.clone(), hints)]);
    }

    /// The same of many providers at once, which costs hardly more than of one.
    fn publish_indexes(&self, indexes: Vec<(ProviderId, Vec<Hint>)>);

    /// Sets or takes away a note on a provider that an operator sees with it and as a metric: `word` is the note's name, one of
    /// few; the text says what is the matter, and holds no secret; `since` says since when, where that is known from before this
    /// start, else it is since the note was first set.
    fn note(
        &self,
        _provider: &ProviderId,
        _word: &'static str,
        _text: Option<&str>,
        _since: Option<Timestamp>,
    ) {
    }

    /// The extension's records.
    fn state(&self) -> Arc<dyn State>;

    /// Spawns local work that ends with standpipe.
    fn spawn(&self, work: std::pin::Pin<Box<dyn Future<Output = ()>>>);

    /// Calls to addresses that are no provider's, usable on any thread.
    fn outbound(&self) -> Arc<dyn Outbound>;

    /// Resolves when standpipe drains: finish, do not begin.
    async fn stopped(&self);

    /// Resolves after each reload of the configuration, and after each change of the providers at run time: at once if
    /// there was one since this handle last said so. Work that waits beside other work takes a handle of its own.
    async fn reloaded(&self);

    /// Resolves with a provider that an operator wants asked now, such as for its catalog: at once if that was said since
    /// this handle last told it. Several wishes for one provider are one.
    async fn refreshed(&self) -> ProviderId;

    /// Signs claims as standpipe's own issuer.
    ///
    /// # Errors
    /// No issuer is configured.
    async fn sign(&self, claims: &serde_json::Value) -> Result<SecretString>;

    /// Verifies a token against a trusted issuer and gives its claims.
    ///
    /// # Errors
    /// The token is not good, or nobody could be asked for the keys.
    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value>;

    /// The same, usable on any thread.
    fn verifier(&self) -> Arc<dyn Verifier>;

    /// A handle with the same powers that outlives the hook.
    fn handle(&self) -> Rc<dyn Background>;
}

/// HTTP calls to addresses that are no provider's: a source, a hook. Works on any thread.
#[async_trait]
pub trait Outbound: Send + Sync {
    /// Sends a request to an absolute URL that an operator configured, never one a caller named. Redirects are
    /// not followed; the answer is buffered up to `limits.answer_buffer`.
    ///
    /// # Errors
    /// Unreachable, no answer within `limit`, or too large.
    async fn fetch(&self, request: http::Request<Bytes>, limit: Duration) -> Result<Answer>;

    /// Sends a request to an absolute URL that a user or broker named: only to addresses the operator allows
    /// (`[outbound]`), connecting to the very address that was checked. Redirects are not followed; the answer is
    /// small.
    ///
    /// # Errors
    /// As [`Outbound::fetch`]; `ErrorKind::Forbidden` when the address is not allowed.
    async fn fetch_named(&self, request: http::Request<Bytes>, limit: Duration) -> Result<Answer>;
}

/// Names a job within its extension. Scheduling a job whose id is already queued replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub String);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job to be put in the queue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name within the extension.
    pub id: JobId,
    /// What it needs to know; sealed at rest.
    pub payload: Bytes,
    /// How long to wait before the first attempt.
    pub delay: Duration,
}

/// A job that is due.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its name within the extension.
    pub id: JobId,
    /// What it was scheduled with, or what its last attempt left.
    pub payload: Bytes,
    /// Attempts before this one.
    pub attempts: u32,
}

/// How an attempt at a job ended.
#[derive(Clone, Debug)]
pub enum JobOutcome {
    /// It is done and leaves the queue.
    Done,
    /// Not yet: try again after the delay, with this payload.
    Again {
        /// How long to wait.
        delay: Duration,
        /// What the next attempt needs to know.
        payload: Bytes,
        /// Why, for the operator.
        reason: String,
    },
    /// It needs a caller's credentials that have expired; it waits until that caller returns.
    NeedsCredentials {
        /// What the next attempt needs to know.
        payload: Bytes,
    },
    /// It will never work; it stays visible with the reason.
    Failed(String),
}

/// How long a job waits after `attempts` that failed: from the first wait doubling to the longest, a quarter more or less,
/// so that those that failed together do not come back together.
pub fn backoff(attempts: u32, (first, longest): (Duration, Duration)) -> Duration {
    let wait = first.saturating_mul(2_u32.saturating_pow(attempts)).min(longest);
    wait.mul_f64(0.75 + fastrand::f64() / 2.0)
}
