//! A table in memory, an engine that knows two providers, and a real socket in front of the service.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::Request;
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use standpipe_api::{
    Body, BoxError, Error, EventPage, Kind, Mapping, MappingState, NewEvent, Origin, Outdated, ProviderId,
    Resource, Result, Scope, Timestamp,
};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::{
    AdminService, BreakerState, Engine, Filter, Guard, Imported, KnownEndpoints, MappingTable, PoolStatus,
    ProviderStatus,
};
use crate::store::{AuditFilter, AuditRow};
use crate::telemetry::Metrics;

/// How the table's store is doing.
#[derive(Clone, Copy, Default)]
pub(crate) enum Health {
    #[default]
    Good,
    Failing,
    Hanging,
    /// Pages fail once so many rows were read.
    FailingAfter(usize),
}

#[derive(Default)]
pub(crate) struct FakeTable {
    rows: Mutex<BTreeMap<Resource, Mapping>>,
    health: Mutex<Health>,
    probes: AtomicUsize,
    read: AtomicUsize,
    largest_page: AtomicUsize,
    largest_batch: AtomicUsize,
}

impl FakeTable {
    pub(crate) fn with(rows: impl IntoIterator<Item = Mapping>) -> Arc<Self> {
        let table = Self::default();
        table.rows.lock().unwrap().extend(rows.into_iter().map(|row| (row.resource.clone(), row)));
        Arc::new(table)
    }

    pub(crate) fn rows(&self) -> Vec<Mapping> {
        self.rows.lock().unwrap().values().cloned().collect()
    }

    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap() = health;
    }

    /// The most rows that were held at once, read and written.
    pub(crate) fn most_at_once(&self) -> (usize, usize) {
        (self.largest_page.load(Ordering::Relaxed), self.largest_batch.load(Ordering::Relaxed))
    }

    async fn healthy(&self) -> Result<()> {
        let health = *self.health.lock().unwrap();
        match health {
            Health::Good => Ok(()),
            Health::FailingAfter(rows) if self.read.load(Ordering::Relaxed) < rows => Ok(()),
            Health::Failing | Health::FailingAfter(_) => Err(Error::store("the disk is full")),
            Health::Hanging => std::future::pending().await,
        }
    }
}

#[async_trait]
impl MappingTable for FakeTable {
    async fn page(&self, filter: &Filter, after: Option<&Resource>, limit: usize) -> Result<Vec<Mapping>> {
        self.healthy().await?;
        let rows = self.rows.lock().unwrap();
        let behind = rows.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
        let page: Vec<_> =
            behind.map(|(_, row)| row.clone()).filter(|row| filter.matches(row)).take(limit).collect();
        self.read.fetch_add(page.len(), Ordering::Relaxed);
        self.largest_page.fetch_max(page.len(), Ordering::Relaxed);
        Ok(page)
    }

    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>> {
        self.healthy().await?;
        Ok(self.rows.lock().unwrap().get(resource).cloned())
    }

    async fn import(&self, new: Vec<Mapping>) -> Result<Vec<Imported>> {
        self.healthy().await?;
        self.largest_batch.fetch_max(new.len(), Ordering::Relaxed);
        let mut rows = self.rows.lock().unwrap();
        let write = |row: Mapping| match rows.get(&row.resource) {
            Some(old) if old.origin != Origin::Imported && old.state != MappingState::Gone => {
                Imported::Kept(old.origin)
            }
            _ => {
                rows.insert(row.resource.clone(), row);
                Imported::Written
            }
        };
        Ok(new.into_iter().map(write).collect())
    }

    async fn remove(&self, resource: &Resource) -> Result<bool> {
        self.healthy().await?;
        Ok(self.rows.lock().unwrap().remove(resource).is_some())
    }

    async fn probe(&self) -> Result<()> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.healthy().await
    }
}

#[derive(Default)]
pub(crate) struct FakeEngine {
    pub(crate) draining: AtomicBool,
    pub(crate) failures: Mutex<Vec<String>>,
    pub(crate) audit: Mutex<Vec<AuditRow>>,
    /// The feed holds as many events.
    pub(crate) last_event: watch::Sender<u64>,
}

impl KnownEndpoints for FakeEngine {
    fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String> {
        match provider.as_str() {
            "alpha" | "beta" if endpoint.is_none_or(|at| at.starts_with("http://alpha.test/")) => Ok(()),
            "alpha" | "beta" => Err("that is not under a known base".into()),
            _ => Err(format!("no provider is named {provider}")),
        }
    }

    fn known_kind(&self, kind: &Kind) -> Result<(), String> {
        crate::config::known_kind(kind.as_str(), &[Kind::of("resource"), Kind::of("pipe")])
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn providers(&self) -> Vec<ProviderStatus> {
        vec![ProviderStatus {
            name: "alpha".into(),
            dialect: "cloudpipe".into(),
            origin: "config",
            availability: "active",
            kind: "remote".into(),
            url: Some("https://user:hunter2@alpha.test/apps/{resource}".into()),
            breaker: BreakerState::HalfOpen,
            in_flight: 1,
            concurrency: 64,
            pool: PoolStatus { idle: 2, active: 1 },
            indexed: 3,
            notes: Vec::new(),
            last_error: None,
        }]
    }

    fn background_failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    fn record(&self, event: crate::store::AuditEvent) {
        let mut rows = self.audit.lock().unwrap();
        let id = rows.len() as i64 + 1;
        rows.push(AuditRow { id, event });
    }

    async fn audit(&self, filter: &AuditFilter, after: i64, limit: usize) -> Result<Vec<AuditRow>> {
        let rows = self.audit.lock().unwrap();
        let taken = |row: &&AuditRow| {
            row.id > after
                && filter.caller.as_ref().is_none_or(|caller| row.event.caller.as_ref() == Some(caller))
        };
        Ok(rows.iter().filter(taken).take(limit).cloned().collect())
    }

    async fn events(&self, after: u64, limit: usize) -> Result<std::result::Result<EventPage, Outdated>> {
        let last = *self.last_event.borrow();
        let written = |revision| NewEvent::new("a.b", &revision).written(revision, Timestamp::from_millis(0));
        if after > last {
            return Ok(Err(Outdated { oldest: 1, last }));
        }
        let events: Vec<_> = (after + 1..=last).take(limit).map(written).collect();
        Ok(Ok(EventPage { next: after + events.len() as u64, events, oldest: 1 }))
    }

    fn last_event(&self) -> watch::Receiver<u64> {
        self.last_event.subscribe()
    }

    fn outbox(&self) -> Arc<dyn super::Outbox> {
        Arc::new(NoJobs)
    }

    fn upstream(&self, _provider: &str) -> Option<Arc<dyn standpipe_api::Upstream>> {
        None
    }
}

struct NoJobs;

#[async_trait]
impl super::Outbox for NoJobs {
    async fn page(&self, _after: Option<&super::Entry>) -> Result<Vec<super::Entry>> {
        Ok(Vec::new())
    }

    async fn retry(&self, _extension: &str, _id: &str) -> Result<bool> {
        Ok(false)
    }

    async fn remove(&self, _extension: &str, _id: &str) -> Result<bool> {
        Ok(false)
    }
}

/// Rows whose ids try to break out of paths, queries, lines and tables.
pub(crate) fn odd_rows() -> Vec<Mapping> {
    let ids = [
        "a/b",
        "\"quoted\"",
        "line\nfeed",
        "naïve ✓",
        "..",
        "%2F",
        "a?b#c&d=e+f",
        "tab\tnul\0",
        "{\"id\":1}",
    ];
    let row = |(index, id): (usize, &str)| {
        let mut resource = Resource::new(Kind::of("pipe"), id);
        if index % 2 == 0 {
            resource = resource.within(format!("arn:db/{id}"));
        }
        if index % 3 == 0 {
            resource.scope = Scope::tenant(format!("tenant {id}"));
        }
        Mapping::learned(resource, "alpha".into(), Timestamp::from_millis(1_700_000_000_000))
    };
    ids.into_iter().enumerate().map(row).collect()
}

/// `count` ordinary pipes at alpha.
pub(crate) fn pipes(count: usize) -> impl Iterator<Item = Mapping> {
    let now = Timestamp::from_millis(1_700_000_000_000);
    (0..count).map(move |number| {
        let pipe = Resource::new(Kind::of("pipe"), format!("p{number:07}")).within("db");
        Mapping::learned(pipe, "alpha".into(), now)
    })
}

/// A connection to a socket file.
pub(crate) fn here() -> standpipe_api::Connection {
    standpipe_api::Connection { peer: None, scheme: "http", client_certificate: None }
}

pub(crate) fn service(table: &Arc<FakeTable>) -> AdminService {
    AdminService::new(Guard::Socket, Arc::new(FakeEngine::default()), table.clone(), Metrics::new())
}

/// Serves on a socket file; must run within a `LocalSet`.
pub(crate) fn serve(service: AdminService, path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    let service = std::rc::Rc::new(service);
    tokio::task::spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let service = service.clone();
                let request = request.map(|body| Body::stream(body.map_err(BoxError::from)));
                async move { Ok::<_, std::convert::Infallible>(service.answer(request, &here()).await) }
            });
            tokio::task::spawn_local(async move {
                // A client that goes away mid-answer is part of the tests.
                let _broken =
                    pin!(http1::Builder::new().serve_connection(TokioIo::new(socket), answer)).await;
            });
        }
    });
}
