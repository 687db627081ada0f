//! A pipe comes to be: all of it, or nothing.
//!
//! Sources that keep something outside are asked before the pipe is stored. That they may have to release it
//! again is stored before they are asked, and taken back in the transaction that stores the pipe.

use std::time::Duration;

use bytes::Bytes;
use standpipe_api::{Change, Record, ResourceId};

use super::answer::Refusal;
use super::blueprint::Blueprint;
use super::change::{Committed, Transition};
use super::core::{Broker, PAGE, TRIES, decode, encode};
use super::jobs::Task;
use super::pipe::{Binding, BlueprintName, Pipe, PipeId, Side, pipe_key, segment, slot_prefix, unbind_key};
use super::source::Reach;
use super::wire::Setup;
use super::wish::Wish;

/// After this, a creation that never ended is cleaned up: longer than all sources of a pipe may take.
const ABANDONED: Duration = Duration::from_secs(600);

/// What the caller binds to.
pub(super) type Ask<'a> = (Side, &'a BlueprintName);

impl Broker {
    /// Creates a pipe, bound to a blueprint or to none.
    pub(super) async fn create(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        wish: Wish,
        ask: Option<Ask<'_>>,
    ) -> Result<Pipe, Refusal> {
        setup.resource(resource)?;
        let blueprint = ask.map(|(side, name)| setup.blueprint(resource, side, name)).transpose()?;
        let mut pipe = new_pipe(wish, blueprint)?;
        let key = pipe_key(resource, &pipe.id);
        let _turn = self.locks.take(&key).await?;
        let room = self.room(resource)?;
        if self.state()?.get(&key).await?.is_some() {
            return Err(taken(resource, &pipe.id));
        }
        if let Some(blueprint) = blueprint {
            self.free_slot(resource, blueprint, &pipe.id).await?;
        }
        let promise = self.promise(setup, resource, &pipe).await?;
        let created = match self.fill(setup, resource, &mut pipe).await {
            Ok(()) => self.store(setup, resource, blueprint, &mut pipe, promise.as_ref()).await,
            Err(refusal) => Err(refusal),
        };
        match created {
            Ok(()) => room.used(),
            Err(refusal) => {
                if promise.is_some() {
                    self.clean_up(resource, &pipe).await;
                }
                return Err(refusal);
            }
        }
        Ok(pipe)
    }

    /// The sources' data, then the schemas.
    async fn fill(&self, setup: &Setup, resource: &ResourceId, pipe: &mut Pipe) -> Result<(), Refusal> {
        self.bind(setup, resource, pipe).await?;
        setup.check(pipe)
    }

    /// One transaction: the pipe, its slot, the promise fulfilled. A slot that somebody else took is looked for anew.
    async fn store(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        blueprint: Option<&Blueprint>,
        pipe: &mut Pipe,
        promise: Option<&Record>,
    ) -> Result<(), Refusal> {
        for _ in 0..TRIES {
            let mut others = Vec::new();
            if let (Some(blueprint), Some(binding)) = (blueprint, &mut pipe.binding) {
                binding.slot = self.free_slot(resource, blueprint, &pipe.id).await?;
                let value = Bytes::copy_from_slice(pipe.id.as_str().as_bytes());
                others.push(Change::Put { key: binding.slot.clone(), value, expected: None });
            }
            if let Some(record) = promise {
                others.push(Change::Remove { key: record.key.clone(), expected: record.revision });
                others.push(Change::Cancel(self.unbind(resource, &pipe.id).id()));
            }
            let transition = Transition { resource, old: None, new: Some(pipe) };
            match self.commit(setup, &transition, others).await? {
                Committed::Done => return Ok(()),
                Committed::Lost(conflict) if conflict.key == pipe_key(resource, &pipe.id) => {
                    return Err(taken(resource, &pipe.id));
                }
                Committed::Lost(_) => {}
            }
        }
        Err(Refusal::busy("too many bindings at once; try again"))
    }

    /// The key of a slot that is free.
    async fn free_slot(
        &self,
        resource: &ResourceId,
        blueprint: &Blueprint,
        id: &PipeId,
    ) -> Result<String, Refusal> {
        let prefix = slot_prefix(resource, blueprint.side, &blueprint.name);
        if blueprint.max_pipes == 0 {
            // Nothing to run out of: each pipe has a slot of its own.
            return Ok(format!("{prefix}id/{}", segment(id.as_str())));
        }
        let max = usize::try_from(blueprint.max_pipes).unwrap_or(usize::MAX);
        let mut taken = std::collections::BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.state()?.list(&prefix, after.as_deref(), PAGE).await?;
            taken.extend(page.iter().map(|record| record.key.clone()));
            match page.last() {
                Some(last) if taken.len() < max => after = Some(last.key.clone()),
                _ => break,
            }
        }
        let free = (0..max).map(|n| format!("{prefix}n/{n}")).find(|slot| !taken.contains(slot));
        free.filter(|_| taken.len() < max).ok_or_else(|| {
            let name = &blueprint.name;
            let word = blueprint.side.word().trim_end_matches('s');
            let text =
                format!("the {word} {name} of {resource} allows {max} pipes and has them; remove one first");
            Refusal::conflict(text)
        })
    }

    /// Stores that sources may have to release what they are about to keep for this pipe. Whatever is still
    /// to be released for an earlier pipe of the name is released first, so that it cannot hit the new one.
    async fn promise(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        pipe: &Pipe,
    ) -> Result<Option<Record>, Refusal> {
        let state = self.state()?;
        let key = unbind_key(resource, &pipe.id);
        let earlier = state.get(&key).await?;
        if let Some(record) = &earlier {
            self.release(setup, resource, &decode(record)?).await?;
        }
        let parts = setup.parts(resource, pipe.binding.as_ref());
        if earlier.is_none() && !parts.iter().any(|part| part.source.reach == Reach::Outside) {
            return Ok(None);
        }
        let expected = earlier.map(|record| record.revision);
        let job = self.unbind(resource, &pipe.id).job(ABANDONED)?;
        let put = Change::Put { key: key.clone(), value: encode(pipe)?, expected };
        if state.commit(vec![put, Change::Schedule(job)]).await?.is_err() {
            return Err(Refusal::busy("an earlier pipe of this name is just being released; try again"));
        }
        Ok(state.get(&key).await?)
    }

    /// The creation failed: what the sources keep is released by the job, now. If even that cannot be
    /// written down, the job that is queued already does it later.
    async fn clean_up(&self, resource: &ResourceId, pipe: &Pipe) {
        let job = self.unbind(resource, &pipe.id).job(Duration::ZERO);
        let scheduled = match (self.state(), job) {
            (Ok(state), Ok(job)) => state.commit(vec![Change::Schedule(job)]).await.is_ok(),
            _ => false,
        };
        if !scheduled {
            tracing::warn!(broker = %self.name, %resource, pipe = %pipe.id, "releasing is left to the queue");
        }
    }

    pub(super) fn unbind(&self, resource: &ResourceId, id: &PipeId) -> Task {
        Task::Unbind { provider: self.name.clone(), resource: resource.clone(), id: id.clone() }
    }
}

fn taken(resource: &ResourceId, id: &PipeId) -> Refusal {
    Refusal::conflict(format!("{resource} has a pipe {id} already"))
}

fn new_pipe(mut wish: Wish, blueprint: Option<&Blueprint>) -> Result<Pipe, Refusal> {
    let id = match (wish.id.take(), blueprint) {
        (Some(id), _) => id,
        // Blueprint configuration lets the broker name the pipe; a pipe made by hand is named by its maker.
        (None, Some(_)) => PipeId::random(),
        (None, None) => return Err(Refusal::bad("id", "is missing: name the pipe")),
    };
    let (proto, adapters) = (wish.proto.take(), std::mem::take(&mut wish.adapters));
    let mut pipe = wish.into_pipe(id);
    if let Some(blueprint) = blueprint {
        let choice = blueprint.choose(proto, adapters)?;
        pipe.binding = Some(Binding {
            side: blueprint.side,
            blueprint: blueprint.name.clone(),
            proto: choice.proto,
            adapters: choice.adapters,
            slot: String::new(),
        });
    }
    Ok(pipe)
}
