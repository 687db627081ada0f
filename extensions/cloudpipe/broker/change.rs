//! A pipe changed: the one place where that is decided and written down.
//!
//! Whatever follows from a change (the sink's job, news for the other end) is put in the same transaction as the
//! change itself, so that a crash can lose neither without the other.

use std::time::Duration;

use standpipe_api::{Change, Conflict, ResourceId};

use super::answer::Refusal;
use super::core::{Broker, CATCH_UP, Stored, encode};
use super::jobs::Task;
use super::lock::Ticket;
use super::pipe::{Pipe, pipe_key};
use super::wire::Setup;

/// From what to what.
pub(super) struct Transition<'a> {
    pub(super) resource: &'a ResourceId,
    /// `None`: the pipe is new.
    pub(super) old: Option<&'a Stored>,
    /// `None`: it goes.
    pub(super) new: Option<&'a Pipe>,
}

/// How a commit ended.
pub(super) enum Committed {
    Done,
    /// Somebody else was faster; nothing was changed.
    Lost(Conflict),
}

impl Broker {
    /// Commits a transition together with `others`, and gives its sink a short while to catch up.
    pub(super) async fn commit(
        &self,
        setup: &Setup,
        transition: &Transition<'_>,
        others: Vec<Change>,
    ) -> Result<Committed, Refusal> {
        let mut changes = Vec::with_capacity(others.len() + 2);
        changes.extend(record(transition)?);
        let has_sink = setup.resource(transition.resource).is_ok_and(|resource| resource.sink.is_some());
        if let (true, Some(pipe)) = (has_sink, transition.new) {
            self.check_names(setup, transition.resource, pipe).await?;
        }
        if has_sink {
            let task = Task::Sink { provider: self.name.clone(), resource: transition.resource.clone() };
            changes.push(Change::Schedule(task.job(Duration::ZERO)?));
        }
        changes.extend(self.news(setup, transition)?);
        changes.extend(others);
        let turnstile = self.sink_turnstile(transition.resource);
        let (committed, ticket): (_, Ticket) = turnstile.pass(self.state()?.commit(changes)).await;
        match committed? {
            Err(conflict) => return Ok(Committed::Lost(conflict)),
            Ok(()) if has_sink => turnstile.wait(&ticket, CATCH_UP).await,
            Ok(()) => {}
        }
        Ok(Committed::Done)
    }
}

fn record(transition: &Transition<'_>) -> Result<Option<Change>, Refusal> {
    let expected = transition.old.map(|stored| stored.revision);
    Ok(match (transition.old, transition.new) {
        (_, Some(pipe)) => {
            let key = pipe_key(transition.resource, &pipe.id);
            Some(Change::Put { key, value: encode(pipe)?, expected })
        }
        (Some(stored), None) => {
            let key = pipe_key(transition.resource, &stored.pipe.id);
            Some(Change::Remove { key, expected: stored.revision })
        }
        (None, None) => None,
    })
}
