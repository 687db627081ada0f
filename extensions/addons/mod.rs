//! `/addons`: service instances as add-ons of apps, kept on the server, so that any machine can change or remove them.
//!
//! - `GET /addons/catalog`, `GET /addons/catalog/{name}?plan=`: what the caller can add.
//! - `GET /addons?app=&channel=`, `POST /addons` with `name`, `plan`, `app`, `channel` and `parameters`.
//! - `GET`, `PATCH` and `DELETE /addons/{app}/{channel}/{name}`; `GET .../credentials`.
//!
//! Adding provisions and binds, removing unbinds and deprovisions. `record` is an add-on as it is kept, `stage` what an answer
//! means for it, `carry` asks the broker, `commands` are the requests of users, `choice` their names for plans. A command's
//! request to the broker goes out during the call; what takes longer a durable job carries on, also after a restart.
//!
//! Credentials of bindings that the broker gives again are fetched when asked for. Those of others are the add-on's product and
//! are kept: sealed, as every record is.

mod carry;
mod choice;
mod commands;
mod record;
mod stage;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;
use standpipe_api::{
    Background, Body, Call, Error, Extension, Face, Federation, Flow, Job, JobOutcome, NewJob, Rest, Result,
    Route, Timestamp, backoff, without_empty_segments,
};

use self::carry::{Busy, Carrier};
use self::record::Addon;
use self::stage::Stage;
use crate::osb::Brokers;
use crate::osb::client::Through;

/// Between attempts of a job whose broker could not be asked: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A command has this long to come to an end by itself before a job looks after it.
const HANDED_OVER: Duration = Duration::from_secs(2);

/// The extension.
pub struct Addons {
    brokers: Arc<Brokers>,
    busy: Busy,
}

impl Addons {
    /// Adds what these brokers offer.
    pub fn new(brokers: Arc<Brokers>) -> Self {
        Self { brokers, busy: Busy::default() }
    }

    async fn answer(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let path = without_empty_segments(call.uri.path());
        let segments = path.split('/').skip(2).count();
        let name = call.params.get("name");
        match (&call.method, segments) {
            (&Method::POST, 0) => self.add(call, request, fed).await,
            (_, 0) => self.list(call, fed).await,
            (_, 1) => self.catalog(fed).await,
            (_, 2) => self.service(name, call, fed).await,
            (&Method::PATCH, 3) => self.update(call, request, fed).await,
            (&Method::DELETE, 3) => self.remove(call, fed).await,
            (_, 3) => self.show(call, fed).await,
            _ => self.credentials(call, fed).await,
        }
    }
}

/// The job that carries on what a command began.
fn job(key: &str) -> NewJob {
    let id = standpipe_api::JobId(key.to_owned());
    NewJob { id, payload: Bytes::from(key.to_owned()), delay: HANDED_OVER }
}

fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = crate::answer::json(status, body);
    response.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-store"));
    response
}

#[async_trait(?Send)]
impl Extension for Addons {
    fn name(&self) -> &'static str {
        "addons"
    }

    fn faces(&self) -> Vec<Face> {
        vec![Face { name: "addons", roots: &["addons"], owns_the_rest: Rest::NotOwned }]
    }

    fn routes(&self) -> Vec<Route> {
        let one = "/addons/{app}/{channel}/{name}";
        vec![
            Route::of([Method::GET, Method::POST], "/addons"),
            Route::get("/addons/catalog"),
            Route::get("/addons/catalog/{name}"),
            Route::of([Method::GET, Method::PATCH, Method::DELETE], one),
            Route::get(&format!("{one}/credentials")),
        ]
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        self.answer(call, request, fed).await.map(Flow::Respond)
    }

    async fn run_job(&self, job: Job, background: Rc<dyn Background>) -> JobOutcome {
        let state = background.state();
        let through = Through::Job(&*background);
        let carrier = Carrier { brokers: &self.brokers, busy: &self.busy, state: &*state, through };
        let again = |delay, reason: String| JobOutcome::Again { delay, payload: job.payload.clone(), reason };
        match carrier.carry_on(&job.id.0).await {
            Ok(Some(Addon { stage: Stage::Working(work), at, .. })) => {
                let millis = work.ask_after.as_millis().saturating_sub(Timestamp::now().as_millis());
                let wait = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
                again(wait.max(WAITS.0), format!("the broker of {} is still at it", at.name))
            }
            Ok(_) => JobOutcome::Done,
            Err(error) => {
                tracing::warn!(job = %job.id, error = error.log_text(), "an add-on could not be carried on");
                again(backoff(job.attempts, WAITS), error.public().to_owned())
            }
        }
    }
}

/// An error of a broker, in its own words.
fn broker_said(addon: &Addon, text: &str) -> Error {
    let fault = standpipe_api::Fault::Provider(addon.plan.provider.clone());
    Error::new(standpipe_api::ErrorKind::Invalid, fault, text.to_owned())
}
