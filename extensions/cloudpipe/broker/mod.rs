//! The built-in broker: a cloudpipe broker for resources that have none.
//!
//! In: `[provider.broker]` and requests with paths relative to the provider. Out: the answers of a broker, pipes
//! kept sealed in the extension's records, apps configured by sinks, news for the brokers of other ends. What a caller
//! names is asked only through the engine's guard.
//!
//! Read `serve` for the paths, `create` for the life of a pipe, `change` for what follows when one changes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use standpipe_api::{
    Background, Body, Extension, Job, JobOutcome, Problems, Provider, ProviderId, Result, Upstream,
};

mod anchor;
pub(crate) mod answer;
pub(crate) mod blueprint;
mod bounds;
mod change;
mod core;
mod create;
mod declared;
mod jobs;
mod list;
mod lock;
mod make;
pub(crate) mod peer;
pub(crate) mod pipe;
pub(crate) mod push;
mod remove;
mod rotate;
mod schema;
pub(crate) mod serve;
mod settings;
pub mod sink;
pub mod source;
pub(crate) mod template;
#[cfg(test)]
mod tests;
mod update;
pub(crate) mod wire;
pub(crate) mod wish;

use self::anchor::anchor;
use self::core::{Broker, Engine};
use jobs::Task;
use settings::BrokerSettings;

/// The extension that serves providers declared with `[provider.broker]`.
#[derive(Default)]
pub struct CloudpipeBroker {
    running: Running,
}

impl CloudpipeBroker {
    fn running(&self, provider: &ProviderId) -> Option<Arc<Broker>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(provider).cloned()
    }
}

/// The brokers that have started, by provider: jobs come to the extension and belong to one of them.
type Running = Arc<Mutex<BTreeMap<ProviderId, Arc<Broker>>>>;

#[async_trait(?Send)]
impl Extension for CloudpipeBroker {
    fn name(&self) -> &'static str {
        "cloudpipe-broker"
    }

    fn upstream_kind(&self) -> Option<&'static str> {
        Some("broker")
    }

    fn upstream(&self, provider: &Provider, table: &toml::Table) -> Result<Arc<dyn Upstream>, Problems> {
        let settings = BrokerSettings::read(&anchor(table, &provider.folder))?;
        let broker = Arc::new(Broker::new(provider.id.clone(), settings));
        Ok(Arc::new(Served { broker, running: Arc::clone(&self.running), url: provider.url.clone() }))
    }

    async fn run_job(&self, job: Job, background: Rc<dyn Background>) -> JobOutcome {
        // Between the start of the queue and that of the brokers, and for a provider that left the configuration.
        const NOT_THERE: Duration = Duration::from_secs(60);
        let task = match Task::read(&job) {
            Ok(task) => task,
            Err(reason) => return JobOutcome::Failed(reason),
        };
        match self.running(task.provider()) {
            Some(broker) => broker.run(&task, job, &*background).await,
            None => JobOutcome::Again {
                delay: if job.attempts == 0 { Duration::from_secs(1) } else { NOT_THERE },
                reason: format!("no broker named {} is running", task.provider()),
                payload: job.payload,
            },
        }
    }
}

/// A broker as the engine sees it.
struct Served {
    broker: Arc<Broker>,
    running: Running,
    url: String,
}

#[async_trait(?Send)]
impl Upstream for Served {
    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        let engine = Engine {
            state: background.state(),
            outbound: background.outbound(),
            url: self.url.clone(),
            issuer: background.public_url(),
            verifier: background.verifier(),
        };
        self.broker.open(engine).await?;
        let name = self.broker.name.clone();
        let broker = Arc::clone(&self.broker);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&broker));
        let handle = background.handle();
        background.spawn(Box::pin(async move {
            loop {
                let next = broker.sweep().await;
                tokio::select! {
                    () = handle.stopped() => return,
                    () = broker.stale.notified() => {}
                    () = tokio::time::sleep(next) => {}
                }
            }
        }));
        Ok(())
    }

    /// Other brokers sign what they tell.
    fn knows_tokens(&self) -> bool {
        true
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        self.broker.answer(request).await
    }

    fn reload(&self, provider: &Provider, table: &toml::Table) -> Result<(), Problems> {
        self.broker.replace_settings(BrokerSettings::read(&anchor(table, &provider.folder))?);
        Ok(())
    }
}
