//! Tells those who follow the feed which providers come and go.
//!
//! What was told of the configured ones is kept, so that a change of the configuration is told once, also one that was made
//! while nothing ran. Whoever changes providers at run time writes the event in the transaction of the change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use standpipe_api::{Change, Error, NewEvent, ProviderId, Record, Result, Revision, State};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config;
use crate::engine::Engine;
use crate::store::{Namespace, Records};

/// Records read at once.
const PAGE: usize = 500;
/// Until a store that did not answer is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What became of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderChange {
    /// It is there.
    Added,
    /// Its settings have changed.
    Updated,
    /// It takes nothing new.
    Draining,
    /// It takes new things again.
    Active,
    /// It is no longer there.
    Removed,
}

impl ProviderChange {
    /// The kind of its event.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Added => "provider.added",
            Self::Updated => "provider.updated",
            Self::Draining => "provider.draining",
            Self::Active => "provider.active",
            Self::Removed => "provider.removed",
        }
    }

    /// The event, for the transaction that changes the provider. Its payload is `{"dialect":...}`.
    pub fn event(self, provider: &ProviderId, dialect: &str) -> NewEvent {
        NewEvent::new(self.kind(), &serde_json::json!({ "dialect": dialect })).at(provider.clone())
    }
}

/// What was told of a configured provider.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    dialect: String,
    /// A hash of its settings, in which secrets are references.
    settings: String,
}

impl Told {
    fn of(provider: &config::Provider) -> Self {
        let settings = digest(&SHA256, format!("{provider:?}").as_bytes());
        let settings = BASE64_STANDARD_NO_PAD.encode(settings.as_ref());
        Self { dialect: provider.dialect.clone(), settings }
    }
}

/// Tells what differs from what was told before.
///
/// # Errors
/// The store does not answer.
pub async fn configured(engine: &Engine) -> Result<()> {
    let mappings = engine.resolver.mappings().clone();
    let state = Records::new(mappings, Namespace::engine("providers"));
    let running = engine.running.load_full();
    tell(&state, &running.config.providers).await
}

async fn tell(state: &dyn State, providers: &[config::Provider]) -> Result<()> {
    let mut told: BTreeMap<String, (Revision, Option<Told>)> = BTreeMap::new();
    let mut last: Option<String> = None;
    loop {
        let page = state.list("", last.as_deref(), PAGE).await?;
        let Some(end) = page.last() else { break };
        last = Some(end.key.clone());
        // What cannot be read is told anew.
        let read =
            |record: Record| (record.key, (record.revision, serde_json::from_slice(&record.value).ok()));
        told.extend(page.into_iter().map(read));
    }
    let mut changes = Vec::new();
    for provider in providers {
        let (now, before) = (Told::of(provider), told.remove(provider.id.as_str()));
        let change = match &before {
            Some((_, Some(before))) if *before == now => continue,
            Some(_) => ProviderChange::Updated,
            None => ProviderChange::Added,
        };
        let value = serde_json::to_vec(&now)
            .map_err(|error| Error::internal("a provider is no JSON").because(error))?;
        let expected = before.map(|(revision, _)| revision);
        changes.push(Change::Put { key: provider.id.to_string(), value: value.into(), expected });
        changes.push(Change::Event(change.event(&provider.id, &now.dialect)));
    }
    for (key, (expected, before)) in told {
        let dialect = before.map(|before| before.dialect).unwrap_or_default();
        changes.push(Change::Event(ProviderChange::Removed.event(&key.as_str().into(), &dialect)));
        changes.push(Change::Remove { key, expected });
    }
    if changes.is_empty() {
        return Ok(());
    }
    let committed = state.commit(changes).await?;
    committed.map_err(|conflict| Error::internal(format!("somebody else told of {}", conflict.key)))
}

/// Tells after each reload, and again while the store does not answer.
pub async fn after_reloads(engine: Arc<Engine>, mut reloads: watch::Receiver<u64>) {
    // The sender is gone at the end of the process.
    while reloads.changed().await.is_ok() {
        while let Err(error) = configured(&engine).await {
            tracing::warn!(error = error.log_text(), "the feed does not hear of providers yet");
            sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use standpipe_api::testing::MemoryState;

    use super::*;

    fn providers(text: &str) -> Vec<config::Provider> {
        let known = config::Known {
            dialects: vec!["cloudpipe"],
            credentials: vec!["none"],
            ..config::Known::default()
        };
        let tables: String = text
            .split_whitespace()
            .filter_map(|one| one.split_once('='))
            .map(|(name, port)| format!("[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://127.0.0.1:{port}\"\n"))
            .collect();
        config::read(&tables, std::path::Path::new("/"), &known).unwrap().providers
    }

    #[tokio::test]
    async fn each_change_of_the_configuration_is_told_once() {
        let state = MemoryState::default();
        for configuration in ["alpha=1 beta=2", "alpha=1 beta=2", "beta=3 gamma=4", "beta=3 gamma=4"] {
            tell(&state, &providers(configuration)).await.unwrap();
        }
        let told: Vec<String> = state
            .events()
            .iter()
            .map(|event| {
                format!("{} {} {}", event.kind, event.provider.as_ref().unwrap(), event.payload["dialect"])
            })
            .collect();
        assert_eq!(
            told,
            [
                "provider.added alpha \"cloudpipe\"",
                "provider.added beta \"cloudpipe\"",
                "provider.updated beta \"cloudpipe\"",
                "provider.added gamma \"cloudpipe\"",
                "provider.removed alpha \"cloudpipe\"",
            ]
        );
    }
}
