//! What peers are given: at once, or by a durable job that is tried until the mappings have ended.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use standpipe_api::{
    Change, Delivery, Error, ErrorKind, Fault, Injection, Job, JobId, JobOutcome, NewJob, PeerId, Result,
    State as _, Timestamp, backoff,
};

use super::batch::Batch;
use super::send::{Sender, reason};
use super::{Peer, namespace};
use crate::engine::{Engine, Running};
use crate::store::Records;

/// How long a peer may take to answer a delivery.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// How long a delivery waits for others to the same peer.
const TURN: Duration = Duration::from_millis(300);
/// Batches that may wait for all peers together.
const MOST_WAITING: u64 = 10_000;

/// A batch that waits.
#[derive(Serialize, Deserialize)]
struct Waiting {
    peer: PeerId,
    batch: Batch,
}

/// How an attempt ended that did not work.
enum Failed {
    /// It may work later.
    Later(String),
    /// The peer does not take it as long as nobody changes anything there.
    Refused(String),
}

impl Failed {
    fn error(self, peer: &Peer) -> Error {
        match self {
            Self::Later(why) => {
                let public = format!("the peer {} could not be told", peer.id());
                Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).because(why)
            }
            // Not the caller's doing: an operator of either side has to change something.
            Self::Refused(why) => Error::internal(format!("the peer {} does not take it: {why}", peer.id())),
        }
    }
}

/// Gives a peer mappings.
///
/// # Errors
/// As [`standpipe_api::Federation::inject`].
pub async fn give(
    engine: &Engine,
    running: &Running,
    peer: &PeerId,
    injections: &[Injection],
    delivery: Delivery,
) -> Result<()> {
    let unknown = |_| Error::internal(format!("no peer is named {peer}"));
    let peer = running.peers.named(peer).map_err(unknown)?;
    let batch = Batch::of(injections, Timestamp::now(), peer.config.lifetime)?;
    if !batch.tokens.is_empty() && !peer.is_private() {
        let public = format!("tokens cannot be given to the peer {}: its url is plain http", peer.id());
        return Err(Error::internal(public));
    }
    match delivery {
        Delivery::Now(limit) => {
            let sent = send(&Sender::of(engine), peer, &batch, limit).await;
            sent.map_err(|failed| failed.error(peer))
        }
        Delivery::Outbox => {
            if engine.store.count_jobs(&namespace()).await.map_err(Error::from)? >= MOST_WAITING {
                let public = format!("{MOST_WAITING} batches wait to be given to peers already");
                return Err(Error::new(ErrorKind::Overloaded, Fault::Proxy, public));
            }
            let records = Records::new(engine.resolver.mappings().clone(), namespace());
            let job = job(peer, batch)?;
            // A job alone has no compare-and-set that could lose.
            let _cannot_conflict = records.commit(vec![Change::Schedule(job)]).await?;
            Ok(())
        }
    }
}

/// The job's name says what it is about: later news of the same takes its place.
fn job(peer: &Peer, batch: Batch) -> Result<NewJob> {
    let subjects: Vec<String> = batch.subjects().collect();
    let hash = digest(&SHA256, subjects.join("\n").as_bytes());
    let hash: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let waiting = Waiting { peer: peer.id().clone(), batch };
    let payload = serde_json::to_vec(&waiting)
        .map_err(|error| Error::internal("a batch cannot be written").because(error))?;
    Ok(NewJob { id: JobId(format!("{}/{hash}", peer.id())), payload: payload.into(), delay: Duration::ZERO })
}

/// One attempt at a batch that waits.
pub async fn deliver(engine: &Engine, job: Job) -> JobOutcome {
    let Ok(Waiting { peer, mut batch }) = serde_json::from_slice::<Waiting>(&job.payload) else {
        return JobOutcome::Failed("it cannot be read".into());
    };
    let running = engine.running.load_full();
    let Ok(peer) = running.peers.named(&peer) else {
        return JobOutcome::Failed(format!("no peer is named {peer} any more"));
    };
    let again = |delay, reason| JobOutcome::Again { delay, payload: job.payload.clone(), reason };
    if !batch.drop_ended(Timestamp::now()) {
        tracing::warn!(peer = %peer.id(), job = %job.id, "mappings ended before a peer took them");
        return JobOutcome::Done;
    }
    let Ok(_turn) = peer.turns.try_acquire() else {
        return again(backoff(0, (TURN, TURN)), "others are being delivered".into());
    };
    match send(&Sender::of(engine), peer, &batch, PATIENCE).await {
        Ok(()) => JobOutcome::Done,
        Err(Failed::Later(reason)) => {
            tracing::warn!(peer = %peer.id(), job = %job.id, reason, "mappings could not be given to a peer yet");
            again(backoff(job.attempts, WAITS), reason)
        }
        // It stays to be seen, and to be tried again by hand, for as long as it would count.
        Err(Failed::Refused(reason)) => {
            tracing::error!(peer = %peer.id(), job = %job.id, reason, "a peer refuses mappings");
            let left = batch.end().as_millis() - Timestamp::now().as_millis();
            again(Duration::from_millis(u64::try_from(left).unwrap_or(0)), reason)
        }
    }
}

async fn send(sender: &Sender, peer: &Peer, batch: &Batch, limit: Duration) -> Result<(), Failed> {
    let body = serde_json::to_vec(batch).map_err(|error| Failed::Refused(error.to_string()))?;
    let answer = sender.call(peer, (Method::POST, ""), Bytes::from(body), limit).await;
    let answer = answer.map_err(|error| Failed::Later(error.log_text()))?;
    let status = answer.status();
    if status.is_success() {
        tracing::info!(peer = %peer.id(), mappings = batch.len(), "a peer was given mappings");
        return Ok(());
    }
    let reason = reason(&answer);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT => {
            Err(Failed::Later(reason))
        }
        StatusCode::TOO_MANY_REQUESTS => Err(Failed::Later(reason)),
        status if status.is_client_error() => Err(Failed::Refused(reason)),
        _ => Err(Failed::Later(reason)),
    }
}
