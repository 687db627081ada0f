//! What a peer gives: held against its grant, then written all together or not at all.

use serde::{Deserialize, Serialize};
use standpipe_api::{Error, ErrorKind, Fault, Origin, Result, Timestamp};

use super::Peer;
use super::batch::{Batch, GivenResource};
use super::identify::LEEWAY;
use crate::engine::{Engine, Running};
use crate::store::Imported;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Resource mappings that count from now on.
    pub written: usize,
    /// Resource mappings that do not: something else is known here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// A mapping that was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its place in the batch's `resources`, from 0.
    pub at: usize,
    /// Where the one that stays is from; `injected` when another peer gave it, or this one later.
    pub origin: Origin,
}

/// Takes a batch from a peer.
///
/// # Errors
/// The first mapping that is no good or outside the grant, by its place; nothing is written then.
pub async fn take(engine: &Engine, running: &Running, peer: &Peer, body: &[u8]) -> Result<Taken> {
    let batch = Batch::read(body)?;
    let now = Timestamp::now();
    for (at, given) in batch.resources.iter().enumerate() {
        check(peer, running, given, now).map_err(|why| refused(peer, &format!("resources[{at}]"), &why))?;
    }
    let (given_at, latest) = (batch.given_at.min(now), now.plus(peer.config.may_inject.max_lifetime));
    let rows = batch.resources.into_iter().map(|given| given.row(peer.id(), given_at, latest)).collect();
    let done = engine.store.inject(rows).await.map_err(Error::from)?;
    let mut taken = Taken::default();
    for (at, outcome) in done.into_iter().enumerate() {
        match outcome {
            Imported::Written => taken.written += 1,
            Imported::Kept(origin) => taken.kept.push(Kept { at, origin }),
        }
    }
    let (written, kept) = (taken.written, taken.kept.len());
    tracing::info!(peer = %peer.id(), written, kept, "a peer gave mappings");
    Ok(taken)
}

/// Whether a mapping is within the grant, and leads where credentials may go (decision 20).
fn check(peer: &Peer, running: &Running, given: &GivenResource, now: Timestamp) -> Result<(), String> {
    let grant = &peer.config.may_inject;
    if !grant.kinds.contains(&given.kind) {
        return Err(format!("mappings of kind {}", given.kind));
    }
    if !grant.providers.contains(&given.provider) {
        return Err(format!("mappings that lead to {}", given.provider));
    }
    if given.expires_at > now.plus(grant.max_lifetime).plus(LEEWAY) {
        return Err(format!(
            "mappings that last longer than {}",
            humantime::format_duration(grant.max_lifetime)
        ));
    }
    let known = running.known_endpoint(&given.provider, given.endpoint.as_deref());
    known.map_err(|why| format!("such an endpoint: {why}"))
}

fn refused(peer: &Peer, place: &str, what: &str) -> Error {
    let public = format!("{place}: the peer {} may not give {what}", peer.id());
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise("an operator widens may_inject of this [[peer]]; nothing of the batch was taken")
}
