//! The embedded backend: one SQLite file in WAL mode, one writer thread, a few reading threads.
//!
//! Questions come in as closures over a connection and leave as answers; every connection belongs to one thread.
//! Nothing here blocks a core: queues refuse when they are full, and answers are awaited for a bounded time.

mod audit;
mod event;
mod file;
mod job;
mod mapping;
mod observers;
mod options;
mod provider;
mod readers;
mod record;
mod rotate;
mod rows;
mod token;
mod writer;

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use standpipe_api::{
    Availability, Change, Conflict, EventPage, JobId, JobOutcome, Kind, Mapping, NewEvent, Outdated, PeerId,
    ProviderId, Record, Resource, ResourceId, Timestamp,
};
use tokio::sync::{oneshot, watch};

use self::observers::Observers;
pub use self::options::Options;
use self::readers::Readers;
use self::rows::Rows as _;
use self::writer::Writer;
use super::seal::{Place, Seal};
use super::{
    Amount, AuditEvent, AuditFilter, AuditRow, Claim, DueJob, Filter, Given, GivenToken, Held, Imported,
    Injected, KeptProvider, MasterKey, Namespace, Observer, Purge, QueuedJob, Removal, SecretBytes, Store,
    StoreError, StoredToken, TokenFilter, TokenKey, TokenRow, Write,
};

/// The embedded store. Dropping it finishes what is queued and closes the file.
pub struct Sqlite {
    // Readers close first: the last connection to close, the writer's, tidies the file up.
    readers: Readers,
    writer: Writer,
    seal: Arc<Seal>,
    observers: Arc<Observers>,
    tombstone: Duration,
}

impl Sqlite {
    /// Opens the database in a data directory whose lock is held, or creates it. Claims that a crash left unsettled
    /// become `maybe`. Blocks; for start and command line only.
    ///
    /// # Errors
    /// The file is not ours, newer, damaged, or sealed under another key: in all four cases it was left as it was. Or
    /// the operating system refuses.
    pub fn open(data_dir: &Path, key: &MasterKey, options: &Options) -> Result<Self, StoreError> {
        let seal = Arc::new(Seal::new(key)?);
        let database = file::prepare(data_dir, &seal)?;
        let observers = Arc::new(Observers::default());
        let db = database.writer()?;
        observers.last_event.send_replace(event::last(&db)?);
        let writer = Writer::start(db, options, observers.clone())?;
        let readers = Readers::start(&database, options)?;
        Ok(Self { readers, writer, seal, observers, tombstone: options.tombstone })
    }
}

/// Whether a database, or what is left of one, lies in a data directory.
pub(super) fn exists(data_dir: &Path) -> bool {
    file::exists(data_dir)
}

/// Waits for a thread's answer. A thread that is gone has dropped its end.
async fn answer<T>(
    reply: oneshot::Receiver<Result<T, StoreError>>,
    patience: Duration,
) -> Result<T, StoreError> {
    match tokio::time::timeout(patience, reply).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(StoreError::Closed),
        Err(_) => Err(StoreError::Stalled { seconds: patience.as_secs() }),
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn mapping(&self, resource: &Resource) -> Result<Option<Mapping>, StoreError> {
        let resource = resource.clone();
        self.readers.read(move |db| mapping::find(db, &resource, Timestamp::now())).await
    }

    async fn mappings_named(
        &self,
        kind: &Kind,
        id: &ResourceId,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError> {
        let (kind, id) = (kind.clone(), id.clone());
        self.readers.read(move |db| mapping::named(db, &kind, &id, limit)).await
    }

    async fn scan(
        &self,
        filter: Filter,
        after: Option<Resource>,
        limit: usize,
    ) -> Result<Vec<Mapping>, StoreError> {
        self.readers.read(move |db| mapping::scan(db, &filter, after.as_ref(), limit)).await
    }

    async fn count(&self) -> Result<u64, StoreError> {
        self.readers.read(|db| mapping::count(db, Timestamp::now())).await
    }

    async fn claim(&self, mapping: Mapping, quota: Option<u32>) -> Result<Claim, StoreError> {
        let claim = move |db: &_, changed: &mut _| mapping::claim(db, mapping, quota, changed);
        self.writer.write(claim).await
    }

    async fn apply(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let apply = move |db: &_, changed: &mut _| mapping::apply(db, writes, changed);
        self.writer.write(apply).await
    }

    async fn import(&self, rows: Vec<Mapping>) -> Result<Vec<Imported>, StoreError> {
        let import = move |db: &_, changed: &mut _| mapping::import(db, rows, changed);
        self.writer.write(import).await
    }

    async fn inject(&self, rows: Vec<Mapping>, tokens: Vec<GivenToken>) -> Result<Injected, StoreError> {
        let seal = self.seal.clone();
        let inject = move |db: &_, changed: &mut _| {
            let mappings = mapping::given::inject(db, rows, changed)?;
            let tokens = token::given::inject(db, &seal, &tokens)?;
            Ok(Injected { mappings, tokens })
        };
        self.writer.write(inject).await
    }

    async fn revoke(&self, which: Given, limit: usize) -> Result<Amount, StoreError> {
        let revoke = move |db: &_, changed: &mut _| {
            let mappings = mapping::given::revoke(db, &which, limit, changed)?;
            Ok(Amount { mappings, tokens: token::given::revoke(db, &which, limit)? })
        };
        self.writer.write(revoke).await
    }

    async fn count_given(&self, peer: &PeerId) -> Result<Amount, StoreError> {
        let (peer, now) = (peer.clone(), Timestamp::now());
        let count = move |db: &_| {
            let mappings = mapping::given::count(db, &peer, now)?;
            Ok(Amount { mappings, tokens: token::given::count(db, &peer, now)? })
        };
        self.readers.read(count).await
    }

    async fn purge(&self, which: Purge, limit: usize) -> Result<usize, StoreError> {
        let purge = move |db: &_, changed: &mut _| mapping::purge::purge(db, &which, limit, changed);
        self.writer.write(purge).await
    }

    async fn record(&self, namespace: &Namespace, key: &str) -> Result<Option<Record>, StoreError> {
        let (seal, namespace, key) = (self.seal.clone(), namespace.clone(), key.to_owned());
        self.readers.read(move |db| record::find(db, &seal, &namespace, &key)).await
    }

    async fn records(
        &self,
        namespace: &Namespace,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (seal, namespace, prefix) = (self.seal.clone(), namespace.clone(), prefix.to_owned());
        let after = after.map(str::to_owned);
        self.readers
            .read(move |db| record::list(db, &seal, &namespace, &prefix, after.as_deref(), limit))
            .await
    }

    async fn commit(
        &self,
        namespace: &Namespace,
        changes: Vec<Change>,
    ) -> Result<Result<(), Conflict>, StoreError> {
        let transaction = record::Transaction {
            namespace: namespace.clone(),
            changes,
            seal: self.seal.clone(),
            tombstone: self.tombstone,
        };
        let commit = move |db: &_, changed: &mut _| transaction.commit(db, changed);
        self.writer.write(commit).await
    }

    async fn due_jobs(&self, now: Timestamp, limit: usize) -> Result<Vec<DueJob>, StoreError> {
        let seal = self.seal.clone();
        let mut jobs = Vec::new();
        for (due, opened) in self.readers.read(move |db| job::due(db, &seal, now, limit)).await? {
            match opened {
                Ok(()) => jobs.push(due),
                // Left in the queue it would be due for ever.
                Err(error) => self.finish_job(&due, JobOutcome::Failed(error.to_string())).await?,
            }
        }
        Ok(jobs)
    }

    async fn finish_job(&self, due: &DueJob, outcome: JobOutcome) -> Result<(), StoreError> {
        let (seal, due) = (self.seal.clone(), due.clone());
        let finish = move |db: &_, _: &mut _| job::finish(db, &seal, &due, outcome);
        self.writer.write(finish).await
    }

    async fn count_jobs(&self, namespace: &Namespace) -> Result<u64, StoreError> {
        let namespace = namespace.clone();
        self.readers.read(move |db| job::count(db, &namespace)).await
    }

    async fn next_job(&self) -> Result<Option<Timestamp>, StoreError> {
        self.readers.read(job::next_due).await
    }

    async fn jobs(
        &self,
        after: Option<&(Namespace, JobId)>,
        limit: usize,
    ) -> Result<Vec<QueuedJob>, StoreError> {
        let after = after.cloned();
        self.readers.read(move |db| job::list(db, after.as_ref(), limit)).await
    }

    async fn append_audit(&self, events: Vec<AuditEvent>) -> Result<(), StoreError> {
        self.writer.write(move |db, _| audit::append(db, events)).await
    }

    async fn audit(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let filter = filter.clone();
        self.readers.read(move |db| audit::list(db, &filter, after, limit)).await
    }

    async fn purge_audit(&self, before: Timestamp, most: u64, limit: usize) -> Result<usize, StoreError> {
        self.writer.write(move |db, _| audit::purge(db, before, most, limit)).await
    }

    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>, StoreError> {
        self.readers.read(move |db| event::page(db, after, limit)).await
    }

    fn last_event(&self) -> watch::Receiver<u64> {
        self.observers.last_event.subscribe()
    }

    async fn purge_events(&self, before: Timestamp, most: u64, limit: usize) -> Result<usize, StoreError> {
        self.writer.write(move |db, _| event::purge(db, before, most, limit)).await
    }

    async fn job_waits(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError> {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.readers.read(move |db| job::waits(db, &namespace, &id)).await
    }

    async fn retry_job(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError> {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.writer.write(move |db: &_, _: &mut _| job::retry(db, &namespace, &id, Timestamp::now())).await
    }

    async fn drop_job(&self, namespace: &Namespace, id: &JobId) -> Result<bool, StoreError> {
        let (namespace, id) = (namespace.clone(), id.clone());
        self.writer.write(move |db: &_, _: &mut _| job::cancel(db, &namespace, &id)).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        let now = Timestamp::now().as_millis();
        self.writer
            .write(move |db, _| {
                db.change("probing the database", "UPDATE standpipe SET probed_at = ?1", [now]).map(drop)
            })
            .await?;
        self.readers
            .read(|db| db.first("probing the database", "SELECT probed_at FROM standpipe", [], |_| Ok(())))
            .await
            .map(drop)
    }

    async fn kept_providers(&self) -> Result<Vec<KeptProvider>, StoreError> {
        let seal = self.seal.clone();
        self.readers.read(move |db| provider::all(db, &seal)).await
    }

    async fn register_provider(
        &self,
        name: ProviderId,
        registration: SecretBytes,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        let seal = self.seal.clone();
        let register = move |db: &_, changed: &mut _| {
            provider::register(db, &seal, &name, &registration)?;
            event::append(db, &event, Timestamp::now(), changed)
        };
        self.writer.write(register).await
    }

    async fn set_availability(
        &self,
        name: ProviderId,
        availability: Availability,
        event: NewEvent,
    ) -> Result<(), StoreError> {
        let set = move |db: &_, changed: &mut _| {
            provider::set_availability(db, &name, availability)?;
            event::append(db, &event, Timestamp::now(), changed)
        };
        self.writer.write(set).await
    }

    async fn remove_provider(
        &self,
        name: ProviderId,
        removal: Removal,
        event: NewEvent,
    ) -> Result<Held, StoreError> {
        let remove = move |db: &_, changed: &mut _| provider::remove(db, &name, removal, &event, changed);
        self.writer.write(remove).await
    }

    async fn held(&self, name: &ProviderId) -> Result<Held, StoreError> {
        let name = name.clone();
        self.readers.read(move |db| provider::held(db, &name, Timestamp::now())).await
    }

    async fn secret(&self, name: &str) -> Result<Option<SecretBytes>, StoreError> {
        let (seal, name) = (self.seal.clone(), name.to_owned());
        self.readers.read(move |db| record::secret(db, &seal, &name)).await
    }

    async fn put_secret_once(&self, name: &str, value: SecretBytes) -> Result<SecretBytes, StoreError> {
        let (seal, name) = (self.seal.clone(), name.to_owned());
        let put = move |db: &_, _: &mut _| record::put_secret_once(db, &seal, &name, value);
        self.writer.write(put).await
    }

    async fn token(&self, key: &TokenKey) -> Result<Option<StoredToken>, StoreError> {
        let (seal, key) = (self.seal.clone(), key.clone());
        self.readers.read(move |db| token::find(db, &seal, &key, Timestamp::now())).await
    }

    async fn put_token(&self, key: TokenKey, token: StoredToken) -> Result<(), StoreError> {
        let seal = self.seal.clone();
        self.writer.write(move |db, _| token::put(db, &seal, &key, &token)).await
    }

    async fn remove_token(&self, key: TokenKey) -> Result<(), StoreError> {
        self.writer.write(move |db, _| token::remove(db, &key)).await
    }

    async fn tokens(
        &self,
        filter: TokenFilter,
        after: Option<TokenKey>,
        limit: usize,
    ) -> Result<Vec<TokenRow>, StoreError> {
        let now = Timestamp::now();
        self.readers.read(move |db| token::list(db, &filter, after.as_ref(), now, limit)).await
    }

    async fn purge_tokens(&self, filter: TokenFilter, limit: usize) -> Result<usize, StoreError> {
        self.writer.write(move |db, _| token::purge(db, &filter, limit)).await
    }

    async fn rotate(&self, key: MasterKey) -> Result<u64, StoreError> {
        let (seal, back) = (self.seal.clone(), self.seal.clone());
        let rotate = move |db: &_, _: &mut _| rotate::reseal_all(db, &seal, &key);
        let lost = move || back.go_back();
        self.writer.write_or_undo(rotate, lost).await
    }

    fn observe(&self, observer: Weak<dyn Observer>) {
        self.observers.add(observer);
    }
}

/// The place of the value that tells whether a master key is the right one.
const KEY_CHECK: Place<'_> = Place { table: "standpipe", namespace: "", key: "key_check" };

#[cfg(test)]
mod crash;
#[cfg(test)]
mod tests;
