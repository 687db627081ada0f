//! A provider's 401 in the middle of an exchange: what is held for it, and the request made again.

use http::Response;
use http::header::AUTHORIZATION;
use standpipe_api::{Body, Challenged, CredentialRequest, Error, Result};

use super::exchange::{Exchange, Left};
use crate::call::Trail;
use crate::query::no_credential_in_time;
use crate::renewal::renew;

/// Bytes of a body that is read before it is sent, where the credential may have to be renewed.
const HELD: usize = 64 * 1024;

impl Exchange<'_> {
    /// Puts another credential into the request when the provider refuses the first; `Final`: the refusal is the answer.
    pub(super) async fn renew(
        &mut self,
        trail: &Trail,
        left: &Left,
        refused: &Response<Body>,
    ) -> Result<Challenged> {
        if !left.is_whole {
            return Ok(Challenged::Final);
        }
        let mut head = self.asked.request.headers().clone();
        head.remove(AUTHORIZATION);
        head.extend(left.authorization.clone().map(|own| (AUTHORIZATION, own)));
        let provider = &self.place.provider;
        let wanted = CredentialRequest {
            caller: trail.caller.as_deref(),
            head: Some(&head),
            provider: provider.id(),
            remote_scope: self.place.remote_scope.as_ref(),
            alias: self.place.credential.as_ref(),
            actor: None,
        };
        let (credential, request) = (&mut self.credential, &mut self.asked.request);
        let renewed = renew(provider, &wanted, credential, request, refused.headers());
        let renewed = self.proxy.forward.deadlines().within(|| trail.deadline, renewed).await;
        renewed.unwrap_or_else(|_| Err(no_credential_in_time(provider)))
    }

    /// Reads a small body whole, so that the request can be sent once more should the provider refuse its credential.
    pub(super) async fn hold_body(&mut self, trail: &Trail) -> Result<()> {
        let body = self.asked.request.body_mut();
        let known = http_body::Body::size_hint(body).exact().is_some_and(|length| length <= HELD as u64);
        if !known {
            return Ok(());
        }
        let read = body.bytes(HELD);
        let read = self.proxy.forward.deadlines().within(|| trail.deadline, read).await;
        read.map_err(|_| Error::bad_request("the body did not arrive in time"))?.map(drop)
    }
}
