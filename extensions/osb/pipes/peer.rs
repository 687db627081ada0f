//! The broker of the other end says what has become of it, with a token that it has signed (decision 44).

use http::{Method, Request, Response, StatusCode};
use secrecy::SecretString;
use standpipe_api::{Body, Call, Federation, bearer};

use super::record::{Bound, Errand};
use super::serve::{Done, LONGEST, told};
use super::services::Services;
use crate::cloudpipe::broker::answer::empty;
use crate::cloudpipe::broker::peer::{allowed, recognise};
use crate::cloudpipe::broker::serve::Place;
use crate::cloudpipe::broker::wire;
use crate::incoming;

impl Services {
    /// Answers a call that changes a pipe with a token that is no caller's; `None`: it is another call.
    pub(super) async fn hear(
        &self,
        call: &Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Done<Option<Response<Body>>> {
        let is_change = matches!(call.method, Method::PATCH | Method::POST) && call.caller.is_anybody();
        let token = bearer(request.headers()).filter(|_| is_change).map(SecretString::from);
        let (Some(token), Some(Place::Pipe(resource, id))) = (token, Place::read(call.uri.path())) else {
            return Ok(None);
        };
        let errand = Errand { resource, id };
        let Some(stored) = self.load(&errand).await? else { return Ok(None) };
        let at = &stored.bound.plan.provider;
        let may = stored.bound.binding_place(&stored.bound.binding).admit(&Method::PATCH, fed);
        if may.is_err() || fed.pinned().is_some_and(|pinned| pinned != *at) {
            return Ok(None);
        }
        let address = wire::uri(fed.public_url(), &errand.resource, &errand.id);
        let other = match recognise(&token, (&stored.bound.pipe, &address), self.verifier()?).await {
            Ok(other) => other,
            // A stranger does not learn whether there is such a pipe.
            Err(refusal) if refusal.is_unauthenticated() && call.caller.is_nobody() => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        };
        let body = incoming::body(call, request, LONGEST).await?;
        allowed(&body)?;
        let heard = |bound: Bound| {
            // The ends may have been connected anew since the token was read.
            other.check(&bound.pipe)?;
            told(bound, &body)
        };
        self.change(&errand, stored, fed, heard).await?;
        Ok(Some(empty(StatusCode::ACCEPTED)))
    }
}
