//! OSB services as pipes: each bindable plan is an offer, and binding it makes a service instance, a service binding, and a
//! pipe whose `this.data` is the credentials.
//!
//! Under the name of an OSB provider, `/{provider}/offers/{service}-{plan}` makes a new instance for each pipe and deletes it
//! with the pipe; under the id of an instance of the caller's, `/{instance}/offers/..` binds that one. The pipe stands under
//! the same name: `/{provider}/pipes/{id}`. It says how far it is: `state` is `pending`, `ready`, `rotating`, `deleting` or
//! `failed`, and `description` what the matter is.
//!
//! A hook writes down what is to be, and a durable job of the pipe does it (`work`), so that a pipe goes on after a crash;
//! the answer waits a while for it. Credentials are read at the broker when they are asked for; where the broker does not tell
//! them again, they are kept sealed, for a while (`hand_over`) or for good (`keep_credentials`). Who is told the `other` end's
//! uri and issuer gets them sent (`news`), and its broker may say what has become of it, signed (`peer`).
//!
//! A cloudpipe broker may have a resource of such a name too, as far as its list or the mappings tell: then the caller is to
//! choose with `Standpipe-Provider`, unless only one of both has the pipe that is named.
//!
//! Callers of one tenant share their pipes; a caller without a tenant has its own. A pipe's id is unique under its resource for
//! all of them, because its uri is what other brokers know it by.

mod create;
mod heard;
mod list;
mod names;
mod news;
mod offer;
mod peer;
mod record;
mod serve;
mod services;
mod settings;
mod show;
mod work;

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use http::Request;
use standpipe_api::{
    Background, Body, Call, Error, Extension, Federation, Flow, Job, JobOutcome, Problems, Result, Route,
};

pub use self::services::Services;

use self::record::{Errand, Farewell, decode};
use self::settings::PipeSettings;
use crate::cloudpipe::broker::answer::Refusal;

/// The extension's name.
const NAME: &str = "osb-pipes";

/// The extension.
pub struct OsbPipes {
    services: Arc<Services>,
}

/// Why a request is not done.
enum Stop {
    /// As the caller is told.
    Refused(Refusal),
    /// As the engine says it.
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl OsbPipes {
    /// Shows these services.
    pub fn new(services: Arc<Services>) -> Self {
        Self { services }
    }
}

#[async_trait(?Send)]
impl Extension for OsbPipes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn configure(&mut self, table: &toml::Table) -> Result<(), Problems> {
        self.services.configure(PipeSettings::read(table)?);
        Ok(())
    }

    fn routes(&self) -> Vec<Route> {
        let under = ["offers", "needs", "pipes"]
            .into_iter()
            .flat_map(|side| [format!("/{{resource}}/{side}"), format!("/{{resource}}/{side}/{{*rest}}")]);
        let more = ["/{resource}/rotate", "/pipes/{*name}", "/offers/{*name}"].map(str::to_owned);
        under.chain(more).map(|pattern| Route::any(&pattern)).collect()
    }

    /// Brokers sign what they tell.
    fn knows_tokens(&self) -> bool {
        true
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        self.services.open(&*background);
        Ok(())
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        match self.services.serve(call, request, fed).await {
            Ok(Some(response)) => Ok(Flow::Respond(response)),
            Ok(None) => Ok(Flow::Continue),
            Err(Stop::Refused(refusal)) => Ok(Flow::Respond(refusal.into_response())),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn run_job(&self, job: Job, background: Rc<dyn Background>) -> JobOutcome {
        // Jobs of the last run may come before the start.
        self.services.open(&*background);
        if let Ok(farewell) = decode::<Farewell>(&job.payload) {
            return news::farewell(&self.services, &farewell, &job, &*background).await;
        }
        match decode::<Errand>(&job.payload) {
            Ok(errand) if job.id.0 == errand.secret_key() => self.services.forget(&errand, &job).await,
            Ok(errand) => self.services.advance(&errand, &job, &*background).await,
            Err(error) => JobOutcome::Failed(error.log_text()),
        }
    }
}
