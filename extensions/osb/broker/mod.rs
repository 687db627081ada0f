//! The built-in broker: services and plans declared in the configuration, and hooks that do the work.
//!
//! In: `[provider.osb_broker]` and requests with paths relative to the provider. Out: the answers of a broker (OSB 2.17);
//! instances, bindings and operations kept sealed in the extension's records; hooks told what to do.
//!
//! Read `serve` for the paths, `decide` for what a request means to what there is, `begin` for the start of an
//! operation and `work` for the rest of its life.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};
use standpipe_api::{
    Background, Body, Extension, Job, JobOutcome, Problems, Provider, ProviderId, Result, Upstream,
};

mod answer;
mod ask;
mod begin;
mod catalog;
mod core;
mod decide;
mod files;
mod hook;
mod read;
mod records;
mod serve;
mod settings;
mod sweep;
mod template;
#[cfg(test)]
mod tests;
mod work;

use self::core::{Broker, Engine};
use self::settings::BrokerSettings;
use self::work::Errand;

/// The extension that serves providers declared with `[provider.osb_broker]`.
#[derive(Default)]
pub struct OsbBroker {
    running: Running,
}

/// The brokers that have started, by provider: jobs come to the extension and belong to one of them.
type Running = Arc<Mutex<BTreeMap<ProviderId, Arc<Broker>>>>;

#[async_trait(?Send)]
impl Extension for OsbBroker {
    fn name(&self) -> &'static str {
        "osb-broker"
    }

    fn upstream_kind(&self) -> Option<&'static str> {
        Some("osb_broker")
    }

    fn upstream(&self, provider: &Provider, table: &toml::Table) -> Result<Arc<dyn Upstream>, Problems> {
        let settings = BrokerSettings::read(table, &provider.folder)?;
        let broker = Arc::new(Broker::new(provider.id.clone(), settings));
        Ok(Arc::new(Served { broker, running: Arc::clone(&self.running) }))
    }

    async fn run_job(&self, job: Job, _background: Rc<dyn Background>) -> JobOutcome {
        // Between the start of the queue and that of the brokers, and for a provider that left the configuration.
        const NOT_THERE: Duration = Duration::from_secs(60);
        let errand = match Errand::read(&job) {
            Ok(errand) => errand,
            Err(reason) => return JobOutcome::Failed(reason),
        };
        let running =
            self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&errand.provider).cloned();
        match running {
            Some(broker) => broker.run(&errand, job).await,
            None => JobOutcome::Again {
                delay: if job.attempts == 0 { Duration::from_secs(1) } else { NOT_THERE },
                reason: format!("no broker named {} is running", errand.provider),
                payload: job.payload,
            },
        }
    }
}

/// A broker as the engine sees it.
struct Served {
    broker: Arc<Broker>,
    running: Running,
}

#[async_trait(?Send)]
impl Upstream for Served {
    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        let engine = Engine { state: background.state(), outbound: background.outbound() };
        self.broker.open(engine).await?;
        let name = self.broker.name.clone();
        let broker = Arc::clone(&self.broker);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&broker));
        let handle = background.handle();
        background.spawn(Box::pin(async move {
            tokio::select! {
                () = handle.stopped() => {}
                () = broker.keep_clean() => {}
            }
        }));
        Ok(())
    }

    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        self.broker.answer(request).await
    }

    fn reload(&self, provider: &Provider, table: &toml::Table) -> Result<(), Problems> {
        self.broker.replace_settings(BrokerSettings::read(table, &provider.folder)?);
        Ok(())
    }
}
