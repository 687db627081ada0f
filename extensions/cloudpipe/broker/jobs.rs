//! Work that outlives the request which caused it, and a crash: sinks, and releasing what sources keep.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use standpipe_api::{
    Background, Change, Error, Job, JobId, JobOutcome, NewJob, ProviderId, ResourceId, Timestamp, backoff,
};

use super::answer::Refusal;
use super::core::{Broker, PAGE, decode, stored};
use super::pipe::{Pipe, PipeId, pipe_key, pipe_prefix, segment, sink_key, unbind_key};
use super::wire::Setup;

/// Between attempts: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// A job of the broker, as its payload says it. It names its provider, since all brokers of a standpipe share
/// one queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "task")]
pub(super) enum Task {
    /// Configure the app of a resource from all its pipes.
    Sink { provider: ProviderId, resource: ResourceId },
    /// Release what sources keep for a pipe that is gone, or never came to be.
    Unbind { provider: ProviderId, resource: ResourceId, id: PipeId },
    /// Tell the other end's broker this end's data, as it is when the job runs.
    Push { provider: ProviderId, resource: ResourceId, id: PipeId, since: Timestamp },
    /// Tell the other end's broker that the pipe is gone.
    Farewell { provider: ProviderId, resource: ResourceId, id: PipeId, uri: String, since: Timestamp },
}

impl Task {
    pub(super) const fn provider(&self) -> &ProviderId {
        match self {
            Self::Sink { provider, .. }
            | Self::Unbind { provider, .. }
            | Self::Push { provider, .. }
            | Self::Farewell { provider, .. } => provider,
        }
    }

    /// The same work has the same id, so that scheduling it again replaces it.
    pub(super) fn id(&self) -> JobId {
        JobId(match self {
            Self::Sink { provider, resource } => format!("sink/{provider}/{}", segment(resource.as_str())),
            Self::Unbind { provider, resource, id } => {
                format!("unbind/{provider}/{}/{}", segment(resource.as_str()), segment(id.as_str()))
            }
            // One id for both: of what the other end is told, only the newest counts.
            Self::Push { provider, resource, id, .. } | Self::Farewell { provider, resource, id, .. } => {
                format!("push/{provider}/{}/{}", segment(resource.as_str()), segment(id.as_str()))
            }
        })
    }

    pub(super) fn job(&self, delay: Duration) -> Result<NewJob, Error> {
        let payload = serde_json::to_vec(self)
            .map_err(|error| Error::internal("a job cannot be written").because(error))?;
        Ok(NewJob { id: self.id(), payload: Bytes::from(payload), delay })
    }

    pub(super) fn read(job: &Job) -> Result<Self, String> {
        serde_json::from_slice(&job.payload)
            .map_err(|error| format!("{} has no readable payload: {error}", job.id))
    }
}

impl Broker {
    /// Carries out a job.
    pub(super) async fn run(&self, task: &Task, job: Job, background: &dyn Background) -> JobOutcome {
        let done = match task {
            Task::Push { resource, id, since, .. } => {
                let pushed = self.push(resource, id, background).await;
                return self.delivered(pushed, job, *since);
            }
            Task::Farewell { resource, id, uri, since, .. } => {
                let told = self.farewell(resource, id, uri, background).await;
                return self.delivered(told, job, *since);
            }
            Task::Sink { resource, .. } => self.sink(resource).await,
            Task::Unbind { resource, id, .. } => self.settle(resource, id).await,
        };
        match done {
            Ok(()) => JobOutcome::Done,
            Err(reason) => {
                tracing::warn!(broker = %self.name, job = %job.id, reason, "a job failed and will be tried again");
                JobOutcome::Again { delay: backoff(job.attempts, WAITS), payload: job.payload, reason }
            }
        }
    }

    async fn sink(&self, resource: &ResourceId) -> Result<(), String> {
        let turnstile = self.sink_turnstile(resource);
        let seen = turnstile.begin().await;
        let applied = self.apply(resource).await;
        turnstile.tried(&seen);
        applied
    }

    /// Without the resource, or without a sink, there is nothing left to configure.
    async fn apply(&self, resource: &ResourceId) -> Result<(), String> {
        let setup = self.setup().map_err(text)?;
        let Some(sink) = setup.settings.resources.get(resource).and_then(|resource| resource.sink.as_ref())
        else {
            return Ok(());
        };
        let state = self.state().map_err(text)?;
        let pipes = self.all(&setup, resource, None).await.map_err(text)?;
        let key = sink_key(resource);
        let log = |error: Error| error.log_text();
        let kept = state.get(&key).await.map_err(log)?;
        let earlier: Vec<String> = kept.as_ref().map(decode).transpose().map_err(log)?.unwrap_or_default();
        let names = sink.0.names(&pipes).map_err(log)?;
        let gone: Vec<String> = earlier.iter().filter(|name| !names.contains(name)).cloned().collect();
        sink.0.apply(resource.as_str(), &pipes, &gone).await.map_err(log)?;
        if names == earlier {
            return Ok(());
        }
        let value = Bytes::from(serde_json::json!(names).to_string());
        let put = Change::Put { key, value, expected: kept.map(|record| record.revision) };
        // Only one application of a sink runs at a time, so that there is no conflict.
        state.commit(vec![put]).await.map(drop).map_err(log)
    }

    /// All pipes of a resource as a sink sees them, in the order of their ids, with one of them as it is to be.
    async fn all(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        changed: Option<&Pipe>,
    ) -> Result<Vec<serde_json::Value>, Refusal> {
        let prefix = pipe_prefix(resource);
        let mut pipes: BTreeMap<PipeId, serde_json::Value> = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.state()?.list(&prefix, after.as_deref(), PAGE).await?;
            for record in &page {
                let pipe = stored(record)?.pipe;
                pipes.insert(pipe.id.clone(), setup.pipe(resource, &pipe));
            }
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => break,
            }
        }
        pipes.extend(changed.map(|pipe| (pipe.id.clone(), setup.pipe(resource, pipe))));
        Ok(pipes.into_values().collect())
    }

    /// Refuses a pipe with which the app could no longer be configured, because two of its data want one name: the
    /// other pipes would wait for it, and those that go would stay.
    pub(super) async fn check_names(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &Pipe,
    ) -> Result<(), Refusal> {
        let Some(sink) = &setup.resource(resource)?.sink else { return Ok(()) };
        match sink.0.check(&self.all(setup, resource, Some(pipe)).await?) {
            Ok(()) => Ok(()),
            // Whoever changes something else is not to blame.
            Err(_) if sink.0.check(&self.all(setup, resource, None).await?).is_err() => Ok(()),
            Err(error) => Err(Refusal::conflict(error.public().to_owned())),
        }
    }

    /// After a start or a reload the addresses of the pipes or the sinks themselves may be other ones: each sink is
    /// applied once.
    pub(super) async fn settle_sinks(&self, setup: &Setup) -> Result<(), Refusal> {
        if !self.unsettled.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut changes = Vec::new();
        let with_sink = setup.settings.resources.iter().filter(|(_, resource)| resource.sink.is_some());
        for (resource, _) in with_sink {
            let task = Task::Sink { provider: self.name.clone(), resource: resource.clone() };
            changes.push(Change::Schedule(task.job(Duration::ZERO)?));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let committed = self.state()?.commit(changes).await;
        self.unsettled.fetch_or(committed.is_err(), Ordering::AcqRel);
        // Jobs alone are never compared, so there is no conflict to look at.
        committed?.map_or_else(|_conflict| Ok(()), Ok)
    }

    async fn settle(&self, resource: &ResourceId, id: &PipeId) -> Result<(), String> {
        let setup = self.setup().map_err(text)?;
        let _turn = self.locks.take(&pipe_key(resource, id)).await.map_err(text)?;
        let state = self.state().map_err(text)?;
        let log = |error: Error| error.log_text();
        let Some(record) = state.get(&unbind_key(resource, id)).await.map_err(log)? else {
            return Ok(());
        };
        let pipe: Pipe = decode(&record).map_err(log)?;
        if !setup.settings.resources.contains_key(resource) {
            return Err(format!("{resource} is no longer configured, so nobody can release {id}"));
        }
        self.release(&setup, resource, &pipe).await.map_err(text)?;
        let remove = Change::Remove { key: record.key, expected: record.revision };
        // A conflict means that somebody else settled it.
        state.commit(vec![remove]).await.map(drop).map_err(log)
    }
}

fn text(refusal: Refusal) -> String {
    refusal.detail().to_owned()
}
