//! standpipe's own pages as a party of OpenID Connect: its keys, its discovery document, and the exchange of tokens.

mod exchange;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use standpipe_api::{Body, Error, ErrorKind, Fault, Result};

use super::Proxy;
use crate::call::Trail;
use crate::engine::{Door, Running};
use crate::identify::{Shown, Who};
use crate::issuer::exchange::{Refused, read};
use crate::route::no_route;

/// Where tokens are exchanged.
const TOKEN: &str = "/oauth2/token";
/// Bytes of a form: two tokens and what goes with them.
const FORM: usize = 64 << 10;

/// Whether a path is one of standpipe's own as an issuer.
pub(super) fn is_own(path: &str) -> bool {
    path.starts_with("/.well-known/") || path == TOKEN
}

impl Proxy {
    /// Answers on one of these paths. The keys are for everybody.
    pub(super) async fn own(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        door: Option<&Door>,
        head: Parts,
        mut body: Body,
    ) -> Result<Response<Body>> {
        let path = head.uri.path();
        let door = door.filter(|door| door.issues).ok_or_else(|| no_route(path))?;
        if path != TOKEN {
            let found = self.engine.issuer.document(&head.method, path)?;
            return found.ok_or_else(|| no_route(path));
        }
        if head.method != Method::POST {
            let public = format!("{TOKEN} takes POST only");
            return Err(Error::new(ErrorKind::MethodNotAllowed, Fault::Caller, public));
        }
        let answered = match self.client(trail, door, &head).await? {
            Err(refused) => Err(refused),
            Ok(()) => {
                trail.admit(running)?;
                let form: Bytes = body.bytes(FORM).await?;
                self.exchanged(trail, running, &head, &form).await
            }
        };
        Ok(answered
            .unwrap_or_else(|refused| refused.response(door.authenticators.challenges(Shown::Nothing))))
    }

    /// Who asks for the exchange, by the listener's own authenticators (RFC 6749, section 2.3).
    async fn client(&self, trail: &mut Trail, door: &Door, head: &Parts) -> Result<Result<(), Refused>> {
        let caller = match door.authenticators.recall(head, &trail.connection) {
            Some(caller) => caller,
            None => match door.authenticators.identify(head, &trail.connection).await? {
                Who::Caller(caller) => caller,
                Who::Refused(error) | Who::Stranger(error) => {
                    tracing::debug!(call = %trail.id, error = error.log_text(), "token client refused");
                    return Ok(Err(Refused::client("the client is unknown, or its credential is not good")));
                }
            },
        };
        trail.caller = Some(caller);
        Ok(Ok(()))
    }

    async fn exchanged(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        head: &Parts,
        form: &Bytes,
    ) -> Result<Response<Body>, Refused> {
        let wanted = read(&head.headers, form)?;
        exchange::grant(trail, running, &wanted).await
    }
}
