//! A caller or the other end's broker changes a pipe: validated first, then written, all or nothing.

use standpipe_api::ResourceId;

use super::answer::Refusal;
use super::change::{Committed, Transition};
use super::core::{Broker, TRIES};
use super::peer::OtherEnd;
use super::pipe::{PipeId, pipe_key};
use super::wire::Setup;
use super::wish::Wish;

/// Who changes a pipe.
#[derive(Clone, Copy)]
pub(super) enum By<'a> {
    /// A caller that the engine let in.
    Caller,
    /// The broker of the other end, as its token says.
    OtherEnd(&'a OtherEnd),
}

impl Broker {
    /// Merges a body into a pipe.
    pub(super) async fn update(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
        by: By<'_>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        setup.resource(resource)?;
        let _turn = self.locks.take(&pipe_key(resource, id)).await?;
        for _ in 0..TRIES {
            let old = self.get(resource, id).await?;
            if let By::OtherEnd(other) = by {
                // The ends may have been connected anew since the token was read.
                other.check(&old.pipe)?;
            }
            let mut pipe = old.pipe.clone();
            Wish::read(body)?.update(&mut pipe);
            // Before a source is told of a change that will not be made.
            setup.check(&pipe)?;
            self.notice_update(setup, resource, &mut pipe).await?;
            setup.check(&pipe)?;
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
