//! Step 7: claim before, confirm after, forget on delete.
//!
//! A claim is durable before the creating call leaves, so that whatever happens to this process the resource
//! stays routable. What an outcome means is the dialect's verdict; this step writes it down. Reads teach
//! nothing new: a pinned read of an id that two providers have must not decide for everybody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use standpipe_api::{
    Caller, CredentialAlias, Error, Hint, Mapping, MappingState, Origin, ProviderId, Resource, Result,
    Timestamp, Verdict,
};

use crate::fail_point::{FailPoint, reach};
use crate::resolve::Place;
use crate::store::{Claim, Mappings, Write};

/// Writes down what calls do to resources.
#[derive(Clone)]
pub struct Learner(Arc<Inner>);

struct Inner {
    mappings: Arc<Mappings>,
    tombstone: Duration,
    /// Calls that create or delete, by resource, while any is under way.
    under_way: Mutex<HashMap<Resource, UnderWay>>,
}

#[derive(Default)]
struct UnderWay {
    /// Creating ones, so that one that is refused does not take back what another was promised.
    creating: usize,
    deleting: usize,
    /// Creating ones that have begun since the first of all these.
    begun: u64,
}

/// A creating call's hold on a resource. Dropped unsettled, it leaves the mapping as `maybe`.
pub struct Held {
    learner: Learner,
    resource: Resource,
    own: Own,
    settled: Settled,
}

/// A deleting call that is about to leave, so that one that overlaps with a creating call buries nothing.
pub struct Leaving {
    learner: Learner,
    resource: Resource,
    /// How many creating calls had begun; `None`: one was under way.
    begun: Option<u64>,
}

/// What a call holds of the resource it names first.
pub enum Hold {
    /// What it is about to create.
    Creating(Held),
    /// What it is about to delete.
    Deleting(Leaving),
    /// Nothing.
    Nothing,
}

/// Where something is, other than its mapping says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth<'a> {
    /// At this provider.
    At(&'a ProviderId),
    /// At none.
    Nowhere,
}

/// Whose the mapping is that a creating call found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    /// This call's, claimed at that moment.
    Claimed(Timestamp),
    /// An earlier one's, at the same provider.
    Earlier,
    /// An earlier one's, at another provider.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

/// The mapping of what a caller is about to create at a place.
pub fn intent(
    resource: Resource,
    place: &Place,
    caller: Option<&Caller>,
    hints: Vec<Hint>,
    alias: Option<&CredentialAlias>,
) -> Mapping {
    Mapping {
        endpoint: place.endpoint.clone(),
        remote_scope: place.remote_scope.clone(),
        credential: alias.cloned(),
        owner: caller.map(|caller| caller.id.clone()),
        tenant: caller.and_then(|caller| caller.tenant.clone()),
        hints,
        state: MappingState::Intent,
        origin: Origin::Created,
        ..Mapping::learned(resource, place.provider.id().clone(), Timestamp::now())
    }
}

impl Learner {
    /// Writes to a mapping table; tombstones stay for `tombstone`.
    pub fn new(mappings: Arc<Mappings>, tombstone: Duration) -> Self {
        Self(Arc::new(Inner { mappings, tombstone, under_way: Mutex::default() }))
    }

    /// Claims a resource for a creating call. Durable on return.
    ///
    /// # Errors
    /// The caller's tenant has as many as its quota says, or the store does not answer; nothing may be sent then.
    pub async fn claim(&self, mapping: Mapping, quota: Option<u32>) -> Result<Held> {
        let (resource, provider, now) =
            (mapping.resource.clone(), mapping.provider.clone(), mapping.created_at);
        self.enter(&resource);
        let mut held = Held { learner: self.clone(), resource, own: Own::Earlier, settled: Settled::Yes };
        let claim = self.0.mappings.claim(mapping, quota).await.map_err(Error::from)?;
        held.settled = Settled::No;
        held.own = match claim {
            Claim::Taken => Own::Claimed(now),
            Claim::Existing(earlier) if earlier.provider == provider => Own::Earlier,
            Claim::Existing(_) => Own::Elsewhere,
        };
        Ok(held)
    }

    /// Follows a deleting call; before it is sent.
    pub fn leaving(&self, resource: Resource) -> Leaving {
        let begun = self.under_way(&resource, |now| {
            now.deleting += 1;
            (now.creating == 0).then_some(now.begun)
        });
        Leaving { learner: self.clone(), resource, begun }
    }

    /// Writes down what a call without a claim did to the resource it named first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn settle(&self, resource: &Resource, place: &Place, verdict: Verdict) -> Result<()> {
        let state = match verdict {
            Verdict::Keep | Verdict::Drop | Verdict::Maybe => return Ok(()),
            Verdict::Live => MappingState::Live,
            Verdict::Deleting => MappingState::Deleting,
            Verdict::Gone => MappingState::Gone,
        };
        self.settle_as(resource, place, state).await
    }

    async fn settle_as(&self, resource: &Resource, place: &Place, state: MappingState) -> Result<()> {
        let Some(known) = self.0.mappings.get(resource).await.map_err(Error::from)? else { return Ok(()) };
        let revives = state == MappingState::Live && known.state == MappingState::Gone;
        let teaches = state != MappingState::Maybe || known.state == MappingState::Live;
        if known.provider != *place.provider.id() || known.state == state || revives || !teaches {
            return Ok(());
        }
        self.write(resource, state).await
    }

    /// Corrects a mapping that a read has shown to be out of date, unless it has changed since or is being created anew: what
    /// the read was told may be from before that.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn correct(&self, stale: &Mapping, truth: Truth<'_>) -> Result<()> {
        let resource = &stale.resource;
        let known = self.0.mappings.get(resource).await.map_err(Error::from)?;
        if known.as_deref() != Some(stale) || self.under_way(resource, |now| now.creating > 0) {
            return Ok(());
        }
        match truth {
            Truth::At(provider) => {
                let found = Mapping {
                    hints: stale.hints.clone(),
                    ..Mapping::learned(resource.clone(), provider.clone(), Timestamp::now())
                };
                self.0.mappings.apply(vec![Write::Put(found)]).await.map_err(Error::from)
            }
            Truth::Nowhere => self.write(resource, MappingState::Gone).await,
        }
    }

    /// What puts a tombstone in a mapping's place.
    pub fn tombstone(&self, resource: &Resource) -> Write {
        self.change(resource, MappingState::Gone)
    }

    fn change(&self, resource: &Resource, state: MappingState) -> Write {
        let expires_at = (state == MappingState::Gone).then(|| Timestamp::now().plus(self.0.tombstone));
        Write::State { resource: resource.clone(), state, expires_at }
    }

    async fn write(&self, resource: &Resource, state: MappingState) -> Result<()> {
        let write = self.change(resource, state);
        reach(FailPoint::SettleBeforeWrite);
        self.0.mappings.apply(vec![write]).await.map_err(Error::from)?;
        reach(FailPoint::SettleAfterWrite);
        Ok(())
    }

    fn enter(&self, resource: &Resource) {
        self.under_way(resource, |now| {
            now.creating += 1;
            now.begun += 1;
        });
    }

    fn leave(&self, resource: &Resource) {
        self.under_way(resource, |now| now.creating -= 1);
    }

    fn is_alone(&self, resource: &Resource) -> bool {
        self.under_way(resource, |now| now.creating <= 1)
    }

    fn under_way<T>(&self, resource: &Resource, change: impl FnOnce(&mut UnderWay) -> T) -> T {
        let mut under_way = self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let now = under_way.entry(resource.clone()).or_default();
        let told = change(now);
        if now.creating == 0 && now.deleting == 0 {
            under_way.remove(resource);
        }
        told
    }
}

impl Leaving {
    /// Writes down how the deleting call ended. Beside a creating call nobody knows which of the two its provider saw first: what
    /// is known to live may do so no more.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn settle(self, place: &Place, verdict: Verdict) -> Result<()> {
        let (learner, resource) = (&self.learner, &self.resource);
        let alone = learner.under_way(resource, |now| now.creating == 0 && self.begun == Some(now.begun));
        match verdict {
            Verdict::Gone if !alone => learner.settle_as(resource, place, MappingState::Maybe).await,
            verdict => learner.settle(resource, place, verdict).await,
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.learner.under_way(&self.resource, |now| now.deleting -= 1);
    }
}

impl Held {
    /// Writes down how the creating call ended.
    ///
    /// # Errors
    /// The store does not answer; the claim then stays as it is, and is `maybe` after a restart.
    pub async fn settle(mut self, verdict: Verdict) -> Result<()> {
        let outcome = self.write(verdict).await;
        if outcome.is_ok() {
            self.settled = Settled::Yes;
        }
        outcome
    }

    async fn write(&self, verdict: Verdict) -> Result<()> {
        let learner = &self.learner;
        match (verdict, self.own) {
            (Verdict::Drop, Own::Claimed(created_at)) if learner.is_alone(&self.resource) => {
                let write = Write::DropClaim { resource: self.resource.clone(), created_at };
                learner.0.mappings.apply(vec![write]).await.map_err(Error::from)
            }
            (Verdict::Drop, Own::Claimed(_)) => learner.write(&self.resource, MappingState::Maybe).await,
            // Both providers have it now: no mapping may decide between them any more.
            // Two providers have the id now. The one that was known first stays known; the other is reached by its name.
            (Verdict::Live, Own::Elsewhere) => {
                tracing::warn!(resource = %self.resource, "created at a second provider, which is reached only when it is named");
                Ok(())
            }
            (_, Own::Elsewhere) | (Verdict::Drop | Verdict::Keep, _) => Ok(()),
            (Verdict::Maybe, Own::Earlier) => Ok(()),
            (Verdict::Maybe, Own::Claimed(_)) => learner.write(&self.resource, MappingState::Maybe).await,
            (Verdict::Live, _) => learner.write(&self.resource, MappingState::Live).await,
            (Verdict::Deleting, _) => learner.write(&self.resource, MappingState::Deleting).await,
            (Verdict::Gone, _) => learner.write(&self.resource, MappingState::Gone).await,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.learner.leave(&self.resource);
        let (Settled::No, Own::Claimed(_)) = (self.settled, self.own) else { return };
        let (learner, resource) = (self.learner.clone(), self.resource.clone());
        // A task that was dropped in the middle, by a panic or the end of its core: nobody knows what happened.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = learner.write(&resource, MappingState::Maybe).await {
                    tracing::error!(%resource, error = error.log_text(), "a claim stays open until the next start");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
