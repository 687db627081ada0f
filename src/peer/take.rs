//! What a peer gives: held against its grant, then written all together or not at all.

use serde::{Deserialize, Serialize};
use standpipe_api::{Error, ErrorKind, Fault, Origin, ProviderId, Result, Timestamp};

use super::batch::{Batch, GivenResource, GivenToken};
use super::identify::LEEWAY;
use super::{Line, Peer};
use crate::engine::{Engine, Running};
use crate::store::{self, Imported, Injected};
use crate::token::Foreign;

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Mappings that count from now on.
    pub written: usize,
    /// Mappings that do not: something else is known here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// A mapping that was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its place in the batch: `resources[0]`, `tokens[3]`.
    pub at: String,
    /// Where the one that stays is from; `injected` when another peer gave it, or this one later.
    pub origin: Origin,
}

/// Takes a batch from a peer.
///
/// # Errors
/// The first mapping that is no good or outside the grant, by its place; nothing is written then.
pub async fn take(
    engine: &Engine,
    running: &Running,
    (peer, line): (&Peer, Line),
    body: &[u8],
) -> Result<Taken> {
    let batch = Batch::read(body)?;
    let now = Timestamp::now();
    let taking = Taking { running, peer, line, now };
    for (at, given) in batch.resources.iter().enumerate() {
        taking.check_resource(given).map_err(|why| refused(peer, &format!("resources[{at}]"), &why))?;
    }
    let (given_at, latest) = (batch.given_at.min(now), now.plus(peer.config.may_inject.max_lifetime));
    let mut tokens = Vec::new();
    for (at, given) in batch.tokens.iter().enumerate() {
        let outside = |why: String| refused(peer, &format!("tokens[{at}]"), &why);
        taking.check_token(given).map_err(outside)?;
        let rows = taking.rows(given, given_at, latest).await?;
        if rows.is_empty() {
            let why = format!("tokens for {}, which takes none of its callers' own", given.provider);
            return Err(outside(why));
        }
        tokens.extend(rows.into_iter().map(|row| (at, row)));
    }
    let rows = batch.resources.into_iter().map(|given| given.row(peer.id(), given_at, latest)).collect();
    let (places, tokens): (Vec<usize>, Vec<store::GivenToken>) = tokens.into_iter().unzip();
    let done = engine.store.inject(rows, tokens).await.map_err(Error::from)?;
    let taken = Taken::of(done, &places);
    tracing::info!(peer = %peer.id(), written = taken.written, kept = taken.kept.len(), "a peer gave mappings");
    Ok(taken)
}

impl Taken {
    /// `places` says which token of the batch each row is of: one may be for several credentials.
    fn of(done: Injected, places: &[usize]) -> Self {
        let mut taken = Self::default();
        let resources =
            done.mappings.into_iter().enumerate().map(|(at, done)| (format!("resources[{at}]"), done));
        let tokens = places.iter().zip(done.tokens).map(|(at, done)| (format!("tokens[{at}]"), done));
        for (at, outcome) in resources.chain(tokens) {
            match outcome {
                Imported::Written => taken.written += 1,
                Imported::Kept(origin) => taken.kept.push(Kept { at, origin }),
            }
        }
        taken
    }
}

/// What a batch is held against.
struct Taking<'a> {
    running: &'a Running,
    peer: &'a Peer,
    line: Line,
    now: Timestamp,
}

impl Taking<'_> {
    /// Whether a mapping is within the grant, and leads where credentials may go (decision 20).
    fn check_resource(&self, given: &GivenResource) -> Result<(), String> {
        if !self.peer.config.may_inject.kinds.contains(&given.kind) {
            return Err(format!("mappings of kind {}", given.kind));
        }
        self.check(&given.provider, given.expires_at)?;
        let known = self.running.known_endpoint(&given.provider, given.endpoint.as_deref());
        known.map_err(|why| format!("such an endpoint: {why}"))
    }

    fn check_token(&self, given: &GivenToken) -> Result<(), String> {
        if !self.peer.config.may_inject.tokens {
            return Err("tokens".into());
        }
        if self.line == Line::Open {
            return Err("tokens where others can read them: they are taken over TLS only".into());
        }
        self.check(&given.provider, given.expires_at)
    }

    fn check(&self, provider: &ProviderId, end: Timestamp) -> Result<(), String> {
        let grant = &self.peer.config.may_inject;
        if !grant.providers.contains(provider) {
            return Err(format!("mappings that lead to {provider}"));
        }
        if end > self.now.plus(grant.max_lifetime).plus(LEEWAY) {
            let most = humantime::format_duration(grant.max_lifetime);
            return Err(format!("mappings that last longer than {most}"));
        }
        Ok(())
    }

    /// The rows by which calls find a token.
    async fn rows(
        &self,
        given: &GivenToken,
        given_at: Timestamp,
        latest: Timestamp,
    ) -> Result<Vec<store::GivenToken>> {
        let foreign = Foreign {
            caller: &given.caller.0,
            remote_scope: given.remote_scope.as_ref(),
            token: &given.token.0,
            given_at,
            expires_at: given.expires_at.min(latest),
        };
        let rows = self.running.provider(&given.provider)?.credentials.foreign(&foreign).await?;
        let peer = self.peer.id();
        Ok(rows
            .into_iter()
            .map(|(key, token)| store::GivenToken { peer: peer.clone(), key, token })
            .collect())
    }
}

fn refused(peer: &Peer, place: &str, what: &str) -> Error {
    let public = format!("{place}: the peer {} may not give {what}", peer.id());
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise("an operator widens may_inject of this [[peer]]; nothing of the batch was taken")
}
