//! The broker's own part of a pipe's data: what the sources make of it.
//!
//! Each source is remembered with what it made, so that a key it no longer makes disappears, a caller's own
//! value stands until the source has news, and a changed declaration is noticed.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value};
use standpipe_api::{ResourceId, Timestamp};

use super::answer::Refusal;
use super::core::Broker;
use super::pipe::{Made, Pipe};
use super::source::{Event, Reach};
use super::wire::{Part, Setup};

/// How long one source may take; sources have shorter limits of their own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which of its keys a source may write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overwrite {
    /// All.
    Everything,
    /// Those whose value differs from what it made before.
    News,
}

impl Broker {
    /// Lets the sources of a new pipe make their data.
    pub(super) async fn bind(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &mut Pipe,
    ) -> Result<(), Refusal> {
        for part in setup.parts(resource, pipe.binding.clone().as_ref()) {
            self.make(setup, resource, pipe, &part, Event::Bind).await?;
        }
        Ok(())
    }

    /// Tells the sources that care that a caller changed the pipe; what they answer is merged into what they made.
    /// Those inside have no use for the news, and a generator would make a new secret of it.
    pub(super) async fn notice_update(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &mut Pipe,
    ) -> Result<(), Refusal> {
        for part in setup.parts(resource, pipe.binding.clone().as_ref()) {
            if part.source.reach != Reach::Inside {
                let event = if pipe.made.contains_key(&part.name) { Event::Update } else { Event::Bind };
                self.make(setup, resource, pipe, &part, event).await?;
            }
        }
        Ok(())
    }

    /// Tells the sources that keep something outside that the pipe is gone, or never came to be.
    pub(super) async fn release(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &Pipe,
    ) -> Result<(), Refusal> {
        let wire = setup.pipe(resource, pipe);
        for part in setup.parts(resource, pipe.binding.as_ref()) {
            if part.source.reach == Reach::Outside {
                self.ask(resource, &part, Event::Unbind, &wire).await?;
            }
        }
        Ok(())
    }

    /// Lets one source make its data, and puts that into the pipe.
    pub(super) async fn make(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &mut Pipe,
        part: &Part<'_>,
        event: Event,
    ) -> Result<(), Refusal> {
        let is_update = matches!(event, Event::Update);
        let wire = setup.pipe(resource, pipe);
        let mut made = self.ask(resource, part, event, &wire).await?;
        let before = together(setup, resource, pipe);
        let mut at = Timestamp::now();
        if is_update && let Some(old) = pipe.made.get(&part.name) {
            at = old.at;
            // What follows from the rest of the pipe goes with what it followed from.
            if part.source.reach == Reach::Outside {
                let kept = old.data.iter().map(|(key, value)| (key.clone(), value.clone()));
                made = kept.chain(made).collect();
            }
        }
        let overwrite = if is_update { Overwrite::News } else { Overwrite::Everything };
        let fingerprint = part.source.fingerprint.clone();
        let keys: Vec<String> = made.keys().cloned().collect();
        pipe.made.insert(part.name.clone(), Made { fingerprint, at, data: made });
        let after = together(setup, resource, pipe);
        put(&mut pipe.this.data, &before, &after, &keys, overwrite);
        Ok(())
    }

    async fn ask(
        &self,
        resource: &ResourceId,
        part: &Part<'_>,
        event: Event,
        wire: &Value,
    ) -> Result<Map<String, Value>, Refusal> {
        let source = part.source.get(&self.engine()?.outbound);
        let who = format!("the source {} of {resource}", part.name);
        match tokio::time::timeout(PATIENCE, source.produce(event, wire)).await {
            Ok(Ok(made)) => Ok(made),
            Ok(Err(error)) => {
                tracing::warn!(broker = %self.name, error = error.log_text(), "{who} failed");
                Err(Refusal::new(StatusCode::BAD_GATEWAY, format!("{who} failed: {}", error.public())))
            }
            Err(_elapsed) => {
                let seconds = PATIENCE.as_secs();
                Err(Refusal::new(
                    StatusCode::BAD_GATEWAY,
                    format!("{who} gave no answer within {seconds} seconds"),
                ))
            }
        }
    }
}

/// What all sources made, later ones over earlier ones; what a source made that is no longer declared comes first.
fn together(setup: &Setup, resource: &ResourceId, pipe: &Pipe) -> Map<String, Value> {
    let parts = setup.parts(resource, pipe.binding.as_ref());
    let is_declared = |name: &String| parts.iter().any(|part| part.name == *name);
    let gone = pipe.made.iter().filter(|(name, _)| !is_declared(name)).map(|(_, made)| made);
    let declared = parts.iter().filter_map(|part| pipe.made.get(&part.name));
    let data = gone.chain(declared).flat_map(|made| &made.data);
    data.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn put(
    data: &mut Option<Map<String, Value>>,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    keys: &[String],
    overwrite: Overwrite,
) {
    if before.is_empty() && after.is_empty() {
        return;
    }
    let data = data.get_or_insert_default();
    for (key, value) in before {
        if !after.contains_key(key) && data.get(key) == Some(value) {
            data.shift_remove(key);
        }
    }
    for (key, value) in keys.iter().filter_map(|key| after.get_key_value(key)) {
        if overwrite == Overwrite::Everything || before.get(key) != Some(value) {
            data.insert(key.clone(), value.clone());
        }
    }
}
