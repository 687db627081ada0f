//! News for the broker of the other end: a durable job per pipe that tells it this end's data.
//!
//! The job is written with the change it follows from, and reads the data when it runs: what is delivered is the
//! newest, however many changes there were, and never older than what was delivered before. What the other end was
//! told last is kept, so that a key that is gone can be taken back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use standpipe_api::{Background, Change, Error, Job, JobOutcome, ResourceId, Timestamp, backoff};

use super::answer::Refusal;
use super::change::Transition;
use super::core::{Broker, TRIES, decode};
use super::jobs::Task;
use super::pipe::{End, Pipe, PipeId, told_key};
use super::wire::Setup;

/// How long the other broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts: the first wait, and the longest, so that a broker that is back hears soon.
pub(crate) const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a token counts: it is made for one attempt, and clocks differ.
const TOKEN: Duration = Duration::from_secs(300);

/// How an attempt ended.
pub(crate) enum Delivery {
    /// The other broker has it, or there is nobody to tell.
    Done,
    /// It may work later.
    Later(String),
    /// The other broker refuses it for good.
    Never(String),
}

/// What the other end was told last.
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct Told {
    uri: String,
    keys: Vec<String>,
}

impl Broker {
    /// What follows from a transition for the other end.
    pub(super) fn news(&self, setup: &Setup, transition: &Transition<'_>) -> Result<Option<Change>, Refusal> {
        let (provider, resource) = (self.name.clone(), transition.resource.clone());
        let (old, since) = (transition.old.map(|stored| &stored.pipe), Timestamp::now());
        let task = match (old, transition.new) {
            (old, Some(pipe)) if is_news(old, pipe) => {
                Task::Push { provider, resource, id: pipe.id.clone(), since }
            }
            (Some(old), None) => match address(&old.other) {
                Some(uri) if setup.settings.tell_deletions => {
                    Task::Farewell { provider, resource, id: old.id.clone(), uri: uri.to_owned(), since }
                }
                _ => {
                    let pending = Task::Push { provider, resource, id: old.id.clone(), since };
                    return Ok(Some(Change::Cancel(pending.id())));
                }
            },
            _ => return Ok(None),
        };
        Ok(Some(Change::Schedule(task.job(Duration::ZERO)?)))
    }

    /// Tells the other end's broker this end's data.
    pub(super) async fn push(
        &self,
        resource: &ResourceId,
        id: &PipeId,
        background: &dyn Background,
    ) -> Delivery {
        match self.try_push(resource, id, background).await {
            Ok(delivery) => delivery,
            Err(refusal) => Delivery::Later(refusal.detail().to_owned()),
        }
    }

    async fn try_push(
        &self,
        resource: &ResourceId,
        id: &PipeId,
        background: &dyn Background,
    ) -> Result<Delivery, Refusal> {
        let setup = self.setup()?;
        let Some(stored) = self.find(resource, id).await? else { return Ok(Delivery::Done) };
        let Some(uri) = address(&stored.pipe.other) else { return Ok(Delivery::Done) };
        let data = stored.pipe.this.data.clone().unwrap_or_default();
        let told = self.told(resource, id).await?.filter(|told| told.uri == uri).unwrap_or_default();
        let gone = told.keys.into_iter().filter(|key| !data.contains_key(key)).map(|key| (key, Value::Null));
        let news: Map<String, Value> = data.clone().into_iter().chain(gone).collect();
        if news.is_empty() {
            return Ok(Delivery::Done);
        }
        let delivery = self.tell(&setup, (resource, id), uri, Value::Object(news), background).await?;
        if let Delivery::Done = delivery {
            let keys = data.keys().cloned().collect();
            self.remember(resource, id, &Told { uri: uri.to_owned(), keys }).await?;
        }
        Ok(delivery)
    }

    /// Tells the other end's broker that there is nothing here any more.
    pub(super) async fn farewell(
        &self,
        resource: &ResourceId,
        id: &PipeId,
        uri: &str,
        background: &dyn Background,
    ) -> Delivery {
        let told = match self.setup() {
            Ok(setup) => self.tell(&setup, (resource, id), uri, Value::Null, background).await,
            Err(refusal) => Err(refusal),
        };
        told.unwrap_or_else(|refusal| Delivery::Later(refusal.detail().to_owned()))
    }

    async fn tell(
        &self,
        setup: &Setup,
        (resource, id): (&ResourceId, &PipeId),
        uri: &str,
        data: Value,
        background: &dyn Background,
    ) -> Result<Delivery, Refusal> {
        let sender = Sender { issuer: &setup.issuer, uri: &setup.uri(resource, id) };
        Ok(tell(sender, uri, data, background).await?)
    }

    /// What becomes of the job.
    pub(super) fn delivered(&self, delivery: Delivery, job: Job, since: Timestamp) -> JobOutcome {
        let give_up_after = self.setup().map(|setup| setup.settings.give_up_after).unwrap_or_default();
        match delivery {
            Delivery::Done => JobOutcome::Done,
            Delivery::Never(reason) => JobOutcome::Failed(reason),
            Delivery::Later(reason) if since.plus(give_up_after) <= Timestamp::now() => JobOutcome::Failed(
                format!("given up after {}: {reason}", humantime::format_duration(give_up_after)),
            ),
            Delivery::Later(reason) => {
                tracing::warn!(broker = %self.name, job = %job.id, reason, "news could not be delivered yet");
                JobOutcome::Again { delay: backoff(job.attempts, WAITS), payload: job.payload, reason }
            }
        }
    }

    async fn told(&self, resource: &ResourceId, id: &PipeId) -> Result<Option<Told>, Refusal> {
        let record = self.state()?.get(&told_key(resource, id)).await?;
        Ok(record.map(|record| decode(&record)).transpose()?)
    }

    async fn remember(&self, resource: &ResourceId, id: &PipeId, told: &Told) -> Result<(), Refusal> {
        let key = told_key(resource, id);
        for _ in 0..TRIES {
            let record = self.state()?.get(&key).await?;
            if record.as_ref().map(decode::<Told>).transpose()?.as_ref() == Some(told) {
                return Ok(());
            }
            let value = serde_json::to_vec(told)
                .map_err(|error| Error::internal("what was told cannot be written").because(error))?;
            let expected = record.map(|record| record.revision);
            let put = Change::Put { key: key.clone(), value: value.into(), expected };
            if self.state()?.commit(vec![put]).await?.is_ok() {
                return Ok(());
            }
        }
        Err(Refusal::busy("what was told is changed by too many at once"))
    }

    /// Removes what the other end of a pipe that goes was told.
    pub(super) async fn forget_told(
        &self,
        resource: &ResourceId,
        id: &PipeId,
    ) -> Result<Option<Change>, Refusal> {
        let record = self.state()?.get(&told_key(resource, id)).await?;
        Ok(record.map(|record| Change::Remove { key: record.key, expected: record.revision }))
    }
}

/// This end of a pipe, as the broker of the other end knows it.
pub(crate) struct Sender<'a> {
    /// Who signs for it.
    pub(crate) issuer: &'a str,
    /// Its uri.
    pub(crate) uri: &'a str,
}

/// Tells the broker of the other end, at `uri`, this end's data: keys that are new, and `null` for those that are gone.
///
/// # Errors
/// No token can be signed.
pub(crate) async fn tell(
    sender: Sender<'_>,
    uri: &str,
    data: Value,
    background: &dyn Background,
) -> standpipe_api::Result<Delivery> {
    let end = Timestamp::now().plus(TOKEN).as_millis() / 1000;
    let claims = json!({"iss": sender.issuer, "sub": sender.uri, "aud": uri, "exp": end});
    let token = background.sign(&claims).await?;
    let mut field = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| Error::internal("a token does not fit a field"))?;
    field.set_sensitive(true);
    let body = Bytes::from(json!({"other": {"data": data}}).to_string());
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(uri)
        .header(AUTHORIZATION, field)
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    let Ok(request) = request else { return Ok(Delivery::Never(format!("{uri} is no address"))) };
    Ok(match background.outbound().fetch_named(request, PATIENCE).await {
        Ok(answer) => judge(answer.status(), uri),
        Err(error) => Delivery::Later(error.log_text()),
    })
}

/// Where the other end's broker can be told something: its uri and its issuer are both known.
pub(crate) fn address(other: &End) -> Option<&str> {
    other.issuer.as_ref().and(other.uri.as_deref())
}

/// Whether the other end has something to learn.
fn is_news(old: Option<&Pipe>, new: &Pipe) -> bool {
    let nothing = Map::new();
    let data = |pipe: &Pipe| pipe.this.data.clone().unwrap_or_default();
    let known = old.map_or(nothing, data);
    let is_connected_anew =
        old.is_none_or(|old| old.other.uri != new.other.uri || old.other.issuer != new.other.issuer);
    let now = data(new);
    address(&new.other).is_some() && (now != known || (is_connected_anew && !now.is_empty()))
}

fn judge(status: StatusCode, uri: &str) -> Delivery {
    match status {
        _ if status.is_success() => Delivery::Done,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::GONE => {
            Delivery::Never(format!("{uri} answered {status}"))
        }
        _ => Delivery::Later(format!("{uri} answered {status}")),
    }
}
