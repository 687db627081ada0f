//! News from the broker of the other end: who may bring it, and what it may say.
//!
//! A token counts when it was signed by the pipe's `other.issuer`, for `this.uri`, in the name of `other.uri`, compared as
//! they are: what looks alike is somebody else. With it comes the right to change `other.data`, and no other.

use http::StatusCode;
use secrecy::SecretString;
use standpipe_api::{ErrorKind, ResourceId, Verifier};

use super::answer::Refusal;
use super::core::Broker;
use super::pipe::{Pipe, PipeId};
use super::update::By;
use super::wire::Setup;
use crate::cloudpipe::token::{Claimed, only_data};

/// The other end, as a token names it.
pub(crate) struct OtherEnd {
    issuer: String,
    uri: String,
}

impl OtherEnd {
    /// Whether a pipe is connected to this end.
    pub(crate) fn check(&self, pipe: &Pipe) -> Result<(), Refusal> {
        let is = |told: &Option<String>, known: &String| told.as_ref() == Some(known);
        if is(&pipe.other.issuer, &self.issuer) && is(&pipe.other.uri, &self.uri) {
            Ok(())
        } else {
            Err(Refusal::unauthenticated())
        }
    }
}

/// Recognises the broker of a pipe's other end by its token, which is to be for the pipe's own address.
///
/// # Errors
/// 401: it is somebody else, and the log has why; 503: that could not be found out.
pub(crate) async fn recognise(
    token: &SecretString,
    (pipe, address): (&Pipe, &str),
    verifier: &dyn Verifier,
) -> Result<OtherEnd, Refusal> {
    let refused = |why: &str| refused(address, why);
    // Nobody's keys are fetched for a token that could not count anyway.
    let claimed = Claimed::read(token).ok_or_else(|| refused("it is no JWT, or has no iss or sub"))?;
    if !claimed.is_for(address) {
        return Err(refused("its aud is not the address of this pipe"));
    }
    let other = OtherEnd { issuer: claimed.issuer.clone(), uri: claimed.subject.clone() };
    other.check(pipe).map_err(|_| refused("its iss and sub are not those of the other end"))?;
    let claims = verifier.verify(token).await.map_err(|error| match error.kind() {
        ErrorKind::Unauthenticated => refused(&error.log_text()),
        _ => {
            tracing::warn!(pipe = address, error = error.log_text(), "a broker's token could not be checked");
            Refusal::busy("the token could not be checked now")
        }
    })?;
    if !claimed.fits(&claims) {
        return Err(refused("what was verified differs from what was read"));
    }
    Ok(other)
}

/// Refuses what a broker may not say.
///
/// # Errors
/// 403: it says more than `other.data`.
pub(crate) fn allowed(body: &[u8]) -> Result<(), Refusal> {
    let text = "the other end's broker may change other.data and nothing else";
    only_data(body).map(drop).ok_or_else(|| Refusal::new(StatusCode::FORBIDDEN, text))
}

fn refused(address: &str, why: &str) -> Refusal {
    tracing::warn!(pipe = address, why, "a broker's token was refused");
    Refusal::unauthenticated()
}

impl Broker {
    /// Merges what the other end's broker says into `other.data`.
    pub(super) async fn hear_news(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        id: &PipeId,
        token: &SecretString,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let address = setup.uri(resource, id);
        // Whether there is such a pipe is nobody's business but its other end's.
        let Some(stored) = self.find(resource, id).await? else {
            return Err(refused(&address, "there is no such pipe"));
        };
        let other = recognise(token, (&stored.pipe, &address), &*self.engine()?.verifier).await?;
        allowed(body)?;
        self.update(setup, resource, id, By::OtherEnd(&other), body).await
    }
}
