//! Data made anew: on request, on a timer, and when a source's declaration changed.
//!
//! All three come down to one question, asked per pipe and source: is what it made out of date? The answer is in
//! the records, so a crash in the middle of a rotation loses nothing and repeats nothing that was stored.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::StatusCode;
use standpipe_api::{Change, Error, ResourceId, Timestamp};

use super::answer::Refusal;
use super::change::{Committed, Transition};
use super::core::{Broker, CATCH_UP, PAGE, TRIES, decode, stored};
use super::pipe::{Made, Pipe, PipeId, pipe_key, pipe_prefix, rotation_key};
use super::source::Event;
use super::wire::{Part, Setup};

/// Pipes rotated at the same time.
const AT_ONCE: usize = 8;
/// Between sweeps when nothing asks for one sooner.
const IDLE: Duration = Duration::from_secs(3600);
/// Between sweeps while a rotation fails, and the longest wait when there are timers.
const AGAIN: Duration = Duration::from_secs(60);

impl Broker {
    /// Makes all data of one pipe anew.
    pub(super) async fn rotate(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
    ) -> Result<(), Refusal> {
        setup.resource(resource)?;
        self.get(resource, id).await?;
        self.remake(setup, resource, id, &|_, _| true).await
    }

    /// Asks for all data of all pipes of a resource to be made anew, and waits a short while for it.
    pub(super) async fn rotate_all(&self, setup: &Setup, resource: &ResourceId) -> Result<(), Refusal> {
        setup.resource(resource)?;
        let key = rotation_key(resource);
        for _ in 0..TRIES {
            let expected = self.state()?.get(&key).await?.map(|record| record.revision);
            let value = serde_json::to_vec(&Timestamp::now())
                .map_err(|error| Error::internal("a time cannot be written").because(error))?;
            let put = Change::Put { key: key.clone(), value: Bytes::from(value), expected };
            let (committed, ticket) = self.rotations.pass(self.state()?.commit(vec![put])).await;
            if committed?.is_ok() {
                self.stale.notify_one();
                self.rotations.wait(&ticket, CATCH_UP).await;
                return Ok(());
            }
        }
        Err(Refusal::busy("too many rotations are asked for at once; try again"))
    }

    /// Makes anew whatever is out of date. Returns how long to wait before the next sweep.
    pub(super) async fn sweep(&self) -> Duration {
        let seen = self.rotations.begin().await;
        let swept = match self.setup() {
            Ok(setup) => self.sweep_all(&setup).await,
            Err(_not_started) => AGAIN,
        };
        self.rotations.tried(&seen);
        swept
    }

    async fn sweep_all(&self, setup: &Setup) -> Duration {
        let timer = shortest_timer(setup, self);
        let mut next = timer.map_or(IDLE, |every| every.clamp(Duration::from_secs(1), AGAIN));
        let mut failed = |what: &str, refusal: &Refusal| {
            tracing::warn!(broker = %self.name, reason = refusal.detail(), "{what} failed and will be tried again");
            next = next.min(AGAIN);
        };
        if let Err(refusal) = self.settle_sinks(setup).await {
            failed("configuring the apps anew", &refusal);
        }
        for resource in setup.settings.resources.keys() {
            if let Err(refusal) = self.sweep_resource(setup, resource).await {
                failed("a rotation", &refusal);
            }
        }
        next
    }

    /// The first failure, after all pipes were tried.
    async fn sweep_resource(&self, setup: &Setup, resource: &ResourceId) -> Result<(), Refusal> {
        let asked: Option<Timestamp> = match self.state()?.get(&rotation_key(resource)).await? {
            Some(record) => Some(decode(&record)?),
            None => None,
        };
        let due = |part: &Part<'_>, made: Option<&Made>| self.is_due(part, made, asked);
        let prefix = pipe_prefix(resource);
        let mut failed = Ok(());
        let mut after: Option<String> = None;
        loop {
            let page = self.state()?.list(&prefix, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return failed };
            after = Some(last.key.clone());
            let mut stale = Vec::new();
            for record in &page {
                let pipe = stored(record)?.pipe;
                if stale_parts(setup, resource, &pipe, &due).next().is_some() {
                    stale.push(pipe.id);
                }
            }
            let remade = futures_util::stream::iter(&stale)
                .map(|id| self.remake(setup, resource, id, &due))
                .buffer_unordered(AT_ONCE)
                .collect::<Vec<_>>()
                .await;
            failed = remade.into_iter().fold(failed, Result::and);
        }
    }

    fn is_due(&self, part: &Part<'_>, made: Option<&Made>, asked: Option<Timestamp>) -> bool {
        let Some(made) = made else { return true };
        let every = self.engine().ok().and_then(|engine| part.source.rotate_every(&engine.outbound));
        made.fingerprint != part.source.fingerprint
            || asked.is_some_and(|asked| made.at <= asked)
            || every.is_some_and(|every| made.at.plus(every) <= Timestamp::now())
    }

    /// Asks the sources of a pipe that are due and stores what they made. A pipe that would become invalid stays as
    /// it was.
    async fn remake(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
        due: &dyn Fn(&Part<'_>, Option<&Made>) -> bool,
    ) -> Result<(), Refusal> {
        let _turn = self.locks.take(&pipe_key(resource, id)).await?;
        for _ in 0..TRIES {
            let Some(old) = self.find(resource, id).await? else { return Ok(()) };
            let mut pipe = old.pipe.clone();
            for part in stale_parts(setup, resource, &old.pipe, &due) {
                let event = if pipe.made.contains_key(&part.name) { Event::Rotate } else { Event::Bind };
                self.make(setup, resource, &mut pipe, &part, event).await?;
            }
            setup.check(&pipe).map_err(|refusal| {
                let text = format!(
                    "what the sources of {resource} made for {id} breaks its schema: {}",
                    refusal.detail()
                );
                Refusal::new(StatusCode::BAD_GATEWAY, text)
            })?;
            if pipe == old.pipe {
                return Ok(());
            }
            let transition = Transition { resource, old: Some(&old), new: Some(&pipe) };
            if let Committed::Done = self.commit(setup, &transition, Vec::new()).await? {
                return Ok(());
            }
        }
        Err(Refusal::busy("this pipe is changed by too many at once; try again"))
    }
}

fn stale_parts<'a>(
    setup: &'a Setup,
    resource: &ResourceId,
    pipe: &Pipe,
    due: &impl Fn(&Part<'_>, Option<&Made>) -> bool,
) -> impl Iterator<Item = Part<'a>> {
    let parts = setup.parts(resource, pipe.binding.as_ref()).into_iter();
    parts.filter(|part| due(part, pipe.made.get(&part.name))).collect::<Vec<_>>().into_iter()
}

fn shortest_timer(setup: &Setup, broker: &Broker) -> Option<Duration> {
    let outbound = &broker.engine().ok()?.outbound;
    setup.sources().filter_map(|source| source.rotate_every(outbound)).min()
}
