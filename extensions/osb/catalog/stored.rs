//! Catalogs and names in the extension's records: what is known while a broker is down.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use standpipe_api::{Change, NewEvent, ProviderId, Record, Result, Revision, State};

use super::names::Names;
use super::snapshot::Snapshot;

/// The last good catalog of a provider.
#[derive(Serialize, Deserialize)]
struct Row {
    etag: Option<String>,
    body: String,
    withdrawn: HashSet<String>,
    #[serde(default)]
    prefix: Option<String>,
}

/// What is known of a provider from earlier.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its last good catalog.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The validator that came with it.
    pub etag: Option<String>,
    /// Ids it once had.
    pub withdrawn: Arc<HashSet<String>>,
    /// What stood before its ids then; `None`: that was not kept.
    pub prefix: Option<String>,
}

const NAMES: &str = "names";

fn key(provider: &ProviderId) -> String {
    format!("catalog/{provider}")
}

/// Reads what is known of a provider; what cannot be read any more is as if it were not known.
///
/// # Errors
/// The store does not answer.
pub(super) async fn read(state: &dyn State, provider: &ProviderId) -> Result<Known> {
    let Some(record) = state.get(&key(provider)).await? else { return Ok(Known::default()) };
    let row = serde_json::from_slice::<Row>(&record.value).ok();
    let known = row.map(|row| Known {
        snapshot: Snapshot::read(Bytes::from(row.body)).ok().map(Arc::new),
        etag: row.etag,
        withdrawn: Arc::new(row.withdrawn),
        prefix: row.prefix,
    });
    Ok(known.unwrap_or_default())
}

/// Keeps a catalog, and tells the feed that it changed. What it offers is not for the feed: not everybody sees every plan.
///
/// # Errors
/// The store does not answer.
pub(super) async fn write(state: &dyn State, provider: &ProviderId, known: &Known) -> Result<()> {
    let services = known.snapshot.as_ref().map_or(0, |snapshot| snapshot.services.len());
    let event = NewEvent::new("catalog.changed", &serde_json::json!({ "services": services }));
    let event = Change::Event(event.at(provider.clone()));
    put(state, key(provider), row(known), Some(event)).await
}

/// Keeps a catalog that stands behind another prefix now.
///
/// # Errors
/// The store does not answer.
pub(super) async fn rewrite(state: &dyn State, provider: &ProviderId, known: &Known) -> Result<()> {
    put(state, key(provider), row(known), None).await
}

fn row(known: &Known) -> Vec<u8> {
    let body = known.snapshot.as_ref().map(|snapshot| String::from_utf8_lossy(&snapshot.body).into_owned());
    let row = Row {
        etag: known.etag.clone(),
        body: body.unwrap_or_default(),
        withdrawn: (*known.withdrawn).clone(),
        prefix: known.prefix.clone(),
    };
    serde_json::to_vec(&row).unwrap_or_default()
}

/// Reads the names that were given.
///
/// # Errors
/// The store does not answer, or what it has is no list of names.
pub(super) async fn names(state: &dyn State) -> Result<Names> {
    let Some(record) = state.get(NAMES).await? else { return Ok(Names::default()) };
    serde_json::from_slice(&record.value).map_err(standpipe_api::Error::store)
}

/// Keeps the names that were given.
///
/// # Errors
/// The store does not answer.
pub(super) async fn write_names(state: &dyn State, names: &Names) -> Result<()> {
    put(state, NAMES.to_owned(), serde_json::to_vec(names).unwrap_or_default(), None).await
}

/// Writes a record that nobody else writes, with an event.
async fn put(state: &dyn State, key: String, value: Vec<u8>, event: Option<Change>) -> Result<()> {
    let revision = |record: Record| -> Revision { record.revision };
    let expected = state.get(&key).await?.map(revision);
    let put = Change::Put { key, value: value.into(), expected };
    let written = state.commit([put].into_iter().chain(event).collect()).await?;
    written.map_err(|conflict| standpipe_api::Error::internal(format!("{} has two writers", conflict.key)))
}
