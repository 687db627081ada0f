//! News on its way to the other broker: a durable job per pair of ends, delivered at the provider's configured address under
//! standpipe's own token, until it is accepted (decisions 40 and 42).

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use standpipe_api::{
    Background, Change, Error, Job, JobId, JobOutcome, NewJob, OwnAuthorization, Provider, Result, Target,
    Timestamp, backoff,
};

use super::address::EndAddress;
use super::ends;
use super::hear::{Waiting, read_own};
use crate::cloudpipe::settings::ProviderSettings;

/// Between attempts: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a token counts: it is made for one attempt, and clocks differ.
const TOKEN: Duration = Duration::from_secs(300);

/// What a job needs to know.
#[derive(Serialize, Deserialize)]
struct Errand {
    /// The record of what waits.
    key: String,
    to: EndAddress,
    since: Timestamp,
}

/// The name of the job that delivers what waits under a key.
pub(super) fn job_id(key: &str) -> JobId {
    JobId(key.replacen("news/", "relay/", 1))
}

/// The job that delivers what waits under a key.
pub(super) fn job(key: &str, to: &EndAddress, since: Timestamp) -> Result<NewJob> {
    let errand = Errand { key: key.to_owned(), to: to.clone(), since };
    Ok(NewJob { id: job_id(key), payload: ends::encode(&errand)?, delay: Duration::ZERO })
}

/// How an attempt ended.
enum Delivery {
    Done,
    Later(String),
    Never(String),
}

/// Carries out a job.
pub(super) async fn run(job: Job, background: &dyn Background) -> JobOutcome {
    let errand: Errand = match serde_json::from_slice(&job.payload) {
        Ok(errand) => errand,
        Err(error) => return JobOutcome::Failed(format!("{} has no readable payload: {error}", job.id)),
    };
    let provider = background.providers().into_iter().find(|one| one.id == errand.to.provider);
    let Some(provider) = provider else {
        return JobOutcome::Failed(format!("there is no provider {} any more", errand.to.provider));
    };
    let delivery = deliver(&errand, &provider, background).await;
    let give_up_after =
        ProviderSettings::of(&provider).map(|settings| settings.give_up_after).unwrap_or_default();
    match delivery.unwrap_or_else(|error| Delivery::Later(error.log_text())) {
        Delivery::Done => JobOutcome::Done,
        Delivery::Never(reason) => JobOutcome::Failed(reason),
        Delivery::Later(reason) if errand.since.plus(give_up_after) <= Timestamp::now() => {
            JobOutcome::Failed(format!(
                "given up after {}: {reason}",
                humantime::format_duration(give_up_after)
            ))
        }
        Delivery::Later(reason) => {
            tracing::warn!(job = %job.id, reason, "news could not be delivered yet");
            JobOutcome::Again { delay: backoff(job.attempts, WAITS), payload: job.payload, reason }
        }
    }
}

async fn deliver(errand: &Errand, provider: &Provider, background: &dyn Background) -> Result<Delivery> {
    let state = background.state();
    loop {
        let Some(record) = state.get(&errand.key).await? else { return Ok(Delivery::Done) };
        let waiting: Waiting = serde_json::from_slice(&record.value)
            .map_err(|error| Error::internal("news that wait cannot be read").because(error))?;
        let own = match ends::own(&state, &errand.to).await? {
            Some(own) => own,
            None => match read_own(provider, &errand.to, background).await? {
                Some(own) => {
                    ends::remember(
                        &state,
                        &background.providers(),
                        &errand.to,
                        &own,
                        &background.public_url(),
                    )
                    .await?;
                    own
                }
                None => return Ok(Delivery::Later(format!("{} has no such pipe yet", provider.id))),
            },
        };
        let mut bodies = Vec::new();
        if waiting.reset {
            bodies.push(Value::Null);
        }
        if !waiting.data.is_empty() {
            bodies.push(Value::Object(waiting.data));
        }
        for data in bodies {
            let status = patch(errand, provider, &own.uri, &waiting.from, data, background).await?;
            let text = || format!("{} answered {status}", provider.id);
            match status {
                status if status.is_success() => {}
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                    return Ok(Delivery::Never(text()));
                }
                _ => return Ok(Delivery::Later(text())),
            }
        }
        // What came meanwhile is merged into the record and follows.
        let remove = Change::Remove { key: record.key, expected: record.revision };
        if state.commit(vec![remove]).await?.is_ok() {
            return Ok(Delivery::Done);
        }
    }
}

async fn patch(
    errand: &Errand,
    provider: &Provider,
    audience: &str,
    from: &str,
    data: Value,
    background: &dyn Background,
) -> Result<StatusCode> {
    let end = Timestamp::now().plus(TOKEN).as_millis() / 1000;
    let claims = json!({"iss": background.public_url(), "sub": from, "aud": audience, "exp": end});
    let token = background.sign(&claims).await?;
    let mut field = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| Error::internal("a token does not fit a field"))?;
    field.set_sensitive(true);
    let query = Request::patch(errand.to.own_path())
        .header(AUTHORIZATION, field)
        .header(CONTENT_TYPE, "application/json")
        .extension(OwnAuthorization)
        .body(Bytes::from(json!({"other": {"data": data}}).to_string()));
    let query = query.map_err(|error| Error::internal("no request for a pipe").because(error))?;
    Ok(background.query(&Target::from(provider), query).await?.status())
}
