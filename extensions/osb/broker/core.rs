//! The broker of one provider: its settings and its records.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use standpipe_api::{Change, Error, Outbound, ProviderId, Record, Revision, State};
use tokio::sync::{Notify, watch};

use super::answer::Refusal;
use super::records::{Entry, Operation, OperationId, Side, Subject};
use super::settings::BrokerSettings;
use super::work::Errand;

/// Records read at a time.
pub(super) const PAGE: usize = 100;
/// How often a compare-and-set that lost is tried again.
pub(super) const TRIES: usize = 16;

/// A broker.
pub(super) struct Broker {
    pub(super) name: ProviderId,
    settings: RwLock<Arc<BrokerSettings>>,
    engine: OnceLock<Engine>,
    /// Counts the operations that were settled: who waits for one looks again.
    pub(super) settled: watch::Sender<u64>,
    /// The settings changed: there may be another time to clean up.
    pub(super) changed: Notify,
}

/// What the engine lends.
pub(super) struct Engine {
    pub(super) state: Arc<dyn State>,
    pub(super) outbound: Arc<dyn Outbound>,
}

/// Something with the revision it was read at.
#[derive(Clone, Debug)]
pub(super) struct Stored<T> {
    pub(super) content: T,
    pub(super) revision: Revision,
}

impl Broker {
    pub(super) fn new(name: ProviderId, settings: BrokerSettings) -> Self {
        Self {
            name,
            settings: RwLock::new(Arc::new(settings)),
            engine: OnceLock::new(),
            settled: watch::Sender::new(0),
            changed: Notify::new(),
        }
    }

    /// Takes the engine's handles, and takes up every operation that is in progress and that nobody works on.
    pub(super) async fn open(&self, engine: Engine) -> Result<(), Error> {
        for side in Side::BOTH {
            let mut after: Option<String> = None;
            loop {
                let page = engine.state.list(&side.operations(), after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                for record in &page {
                    let operation: Operation = decode(record)?;
                    let errand = Errand::of(&self.name, &operation);
                    if operation.progress.ended().is_none() && !engine.state.waits(&errand.id()).await? {
                        tracing::warn!(broker = %self.name, operation = %operation.id, "an operation is taken up again");
                        // Jobs alone are never compared, so there is no conflict to look at.
                        let _scheduled = engine.state.commit(vec![Change::Schedule(errand.job()?)]).await?;
                    }
                }
            }
        }
        // A second start would be the engine's mistake; the first one's handles stay.
        self.engine.get_or_init(|| engine);
        Ok(())
    }

    pub(super) fn replace_settings(&self, settings: BrokerSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.changed.notify_one();
    }

    /// The settings as they are now; a request keeps to them.
    pub(super) fn settings(&self) -> Arc<BrokerSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn engine(&self) -> Result<&Engine, Refusal> {
        self.engine.get().ok_or_else(|| Refusal::busy("the broker has not started yet"))
    }

    pub(super) fn state(&self) -> Result<&Arc<dyn State>, Refusal> {
        self.engine().map(|engine| &engine.state)
    }

    async fn find<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Stored<T>>, Refusal> {
        let record = self.state()?.get(key).await?;
        Ok(record.map(|record| stored(&record)).transpose()?)
    }

    /// What there is of an instance or binding.
    pub(super) async fn entry(&self, subject: &Subject) -> Result<Option<Stored<Entry>>, Refusal> {
        self.find(&subject.key()).await
    }

    /// An operation's row.
    pub(super) async fn operation(
        &self,
        side: Side,
        id: &OperationId,
    ) -> Result<Option<Stored<Operation>>, Refusal> {
        self.find(&Operation::key(side, id)).await
    }

    /// The next page of an instance's bindings.
    pub(super) async fn bindings(
        &self,
        subject: &Subject,
        after: Option<&str>,
    ) -> Result<Vec<Record>, Refusal> {
        Ok(self.state()?.list(&subject.bindings(), after, PAGE).await?)
    }
}

/// A record's content as it was written.
pub(super) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T, Error> {
    serde_json::from_slice(&record.value)
        .map_err(|error| Error::internal("a record of the broker cannot be read").because(error))
}

pub(super) fn stored<T: DeserializeOwned>(record: &Record) -> Result<Stored<T>, Error> {
    Ok(Stored { content: decode(record)?, revision: record.revision })
}

/// The change that writes something; `None`: it must not exist yet.
pub(super) fn put<T: Serialize>(
    key: String,
    content: &T,
    expected: Option<Revision>,
) -> Result<Change, Error> {
    let value = serde_json::to_vec(content)
        .map_err(|error| Error::internal("a record of the broker cannot be written").because(error))?;
    Ok(Change::Put { key, value: Bytes::from(value), expected })
}
