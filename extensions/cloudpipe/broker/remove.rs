//! A pipe goes: its slot is free at once, what its sources keep outside is released by a durable job.

use std::time::Duration;

use standpipe_api::{Change, ResourceId};

use super::answer::Refusal;
use super::change::{Committed, Transition};
use super::core::{Broker, Stored, TRIES, encode};
use super::pipe::{PipeId, pipe_key, unbind_key};
use super::source::Reach;
use super::wire::Setup;

impl Broker {
    /// Deletes a pipe.
    pub(super) async fn remove(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
    ) -> Result<(), Refusal> {
        setup.resource(resource)?;
        let _turn = self.locks.take(&pipe_key(resource, id)).await?;
        for _ in 0..TRIES {
            let old = self.get(resource, id).await?;
            let mut others = self.leave_slot(&old).await?;
            others.extend(self.release_later(setup, resource, &old).await?);
            others.extend(self.forget_told(resource, id).await?);
            let transition = Transition { resource, old: Some(&old), new: None };
            if let Committed::Done = self.commit(setup, &transition, others).await? {
                self.removed(resource);
                return Ok(());
            }
        }
        Err(Refusal::busy("this pipe is changed by too many at once; try again"))
    }

    async fn leave_slot(&self, old: &Stored) -> Result<Vec<Change>, Refusal> {
        let Some(binding) = &old.pipe.binding else { return Ok(Vec::new()) };
        let slot = self.state()?.get(&binding.slot).await?;
        let leave = |slot: standpipe_api::Record| Change::Remove { key: slot.key, expected: slot.revision };
        Ok(slot.map(leave).into_iter().collect())
    }

    async fn release_later(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        old: &Stored,
    ) -> Result<Vec<Change>, Refusal> {
        let parts = setup.parts(resource, old.pipe.binding.as_ref());
        if !parts.iter().any(|part| part.source.reach == Reach::Outside) {
            return Ok(Vec::new());
        }
        let key = unbind_key(resource, &old.pipe.id);
        let expected = self.state()?.get(&key).await?.map(|record| record.revision);
        let job = self.unbind(resource, &old.pipe.id).job(Duration::ZERO)?;
        Ok(vec![Change::Put { key, value: encode(&old.pipe)?, expected }, Change::Schedule(job)])
    }
}
