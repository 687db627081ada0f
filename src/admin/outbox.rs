//! `/outbox`: the durable jobs of extensions, such as news for other brokers: what waits, what failed and why.

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use standpipe_api::{Body, Error, ErrorKind, Fault, JobId, Result, Timestamp};

use super::answer;
use super::query::Parameters;
use crate::store::{Mappings, Namespace};

/// Jobs of a page.
const PAGE: usize = 500;

/// A job as an operator sees it; what it carries stays sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The extension, and after a slash the provider it serves.
    pub extension: String,
    /// The job's name there.
    pub id: String,
    /// `waiting`, `needs credentials` or `failed`.
    pub state: String,
    /// When it is or was due.
    pub due_at: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// Why the last attempt did not finish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an operator does with jobs.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Jobs behind `after`, in one fixed order; fewer than a page's worth means that there are no more.
    ///
    /// # Errors
    /// The store does not answer.
    async fn page(&self, after: Option<&Entry>) -> Result<Vec<Entry>>;

    /// Makes a job due now. `false`: there is none.
    ///
    /// # Errors
    /// The store does not answer.
    async fn retry(&self, extension: &str, id: &str) -> Result<bool>;

    /// Removes a job. `false`: there was none.
    ///
    /// # Errors
    /// The store does not answer.
    async fn remove(&self, extension: &str, id: &str) -> Result<bool>;
}

#[async_trait]
impl Outbox for Mappings {
    async fn page(&self, after: Option<&Entry>) -> Result<Vec<Entry>> {
        let after = after.map(|entry| (Namespace::extension(&entry.extension), JobId(entry.id.clone())));
        let jobs = self.store().jobs(after.as_ref(), PAGE).await?;
        let entry = |job: crate::store::QueuedJob| Entry {
            extension: job.namespace.to_string(),
            id: job.id.0,
            state: job.state.as_str().to_owned(),
            due_at: job.due_at,
            attempts: job.attempts,
            reason: job.reason,
        };
        Ok(jobs.into_iter().map(entry).collect())
    }

    async fn retry(&self, extension: &str, id: &str) -> Result<bool> {
        let woken = self.store().retry_job(&Namespace::extension(extension), &JobId(id.to_owned())).await?;
        self.scheduled().notify_one();
        Ok(woken)
    }

    async fn remove(&self, extension: &str, id: &str) -> Result<bool> {
        Ok(self.store().drop_job(&Namespace::extension(extension), &JobId(id.to_owned())).await?)
    }
}

/// A page of jobs, and where the next begins.
pub(super) async fn list(outbox: &dyn Outbox, request: &Request<Body>) -> Result<Response<Body>> {
    let parameters = Parameters::read(request.uri().query(), &["after"])?;
    let after = parameters.get("after").map(read_cursor).transpose()?;
    let items = outbox.page(after.as_ref()).await?;
    let next = items.last().filter(|_| items.len() == PAGE).map(cursor);
    Ok(answer::json(StatusCode::OK, &json!({"items": items, "next": next})))
}

/// The answer to a change.
pub(super) fn done(found: bool) -> Result<Response<Body>> {
    let none = || {
        Error::new(ErrorKind::UnknownResource, Fault::Caller, "there is no such job")
            .advise("GET /outbox lists all")
    };
    found.then(answer::done).ok_or_else(none)
}

/// The text behind which the page after an entry begins.
pub(crate) fn cursor(entry: &Entry) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(entry).unwrap_or_default())
}

fn read_cursor(text: &str) -> Result<Entry> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
        Error::bad_request("the parameter after is no cursor").advise("take it from next of the page before")
    })
}
