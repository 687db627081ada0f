//! The page where peers give mappings, see and revoke what they gave. Peers are recognised here and nowhere else.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use standpipe_api::{Body, Caller, Error, ErrorKind, Fault, Result};

use super::Proxy;
use crate::call::Trail;
use crate::engine::{Door, Running};
use crate::forward::headers::Trust;
use crate::peer::{self, CHALLENGE, Ledger, Line, MAPPINGS, Peer};
use crate::respond::{self, Manner};
use crate::route::no_route;

/// The methods of the page.
const METHODS: [Method; 4] = [Method::GET, Method::HEAD, Method::POST, Method::DELETE];

/// Whether a path is of the peers' face.
pub(super) fn is_own(path: &str) -> bool {
    path.strip_prefix("/peer").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Proxy {
    /// Answers a peer. Where no peer is configured, there is nothing.
    pub(super) async fn peer(
        &self,
        trail: &mut Trail,
        running: &Arc<Running>,
        door: Option<&Door>,
        head: Parts,
        body: Body,
    ) -> Result<Response<Body>> {
        let path = head.uri.path();
        let open = door.is_some_and(|door| door.takes_peers) && !running.peers.is_empty();
        if !open || path != MAPPINGS {
            return Err(no_route(path));
        }
        let peer = match peer::identify(running, &self.engine.issuers, &head, &trail.connection).await {
            Ok(peer) => peer,
            // Not the listener's challenges: nothing that lets callers in lets a peer in.
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                self.log(&error, trail);
                trail.fault = Some(error.fault().clone());
                return Ok(respond::error(
                    &error,
                    trail.id,
                    Manner { challenges: &[CHALLENGE], ..Manner::default() },
                ));
            }
            Err(error) => return Err(error),
        };
        trail.caller = Some(Arc::new(Caller {
            id: format!("peer:{}", peer.id()).into(),
            tenant: None,
            groups: Vec::new(),
            authenticator: "peer",
        }));
        trail.admit(running)?;
        self.mappings_of(trail, running, &peer, &head, body).await
    }

    async fn mappings_of(
        &self,
        trail: &mut Trail,
        running: &Running,
        peer: &Peer,
        head: &Parts,
        mut body: Body,
    ) -> Result<Response<Body>> {
        let query = head.uri.query();
        match head.method {
            Method::POST => {
                let deadline = trail.deadline;
                let read = self.forward.deadlines().within(|| deadline, body.bytes(peer::MOST_BYTES)).await;
                let body = read.map_err(|_| Error::bad_request("the body did not arrive in time"))??;
                let from = (peer, line(trail));
                Ok(answer(&peer::take(&self.engine, running, from, &body).await?))
            }
            Method::DELETE => Ok(answer(&Ledger::of(&self.engine).revoke(peer.id(), query).await?)),
            Method::GET | Method::HEAD => {
                let mut response = answer(&Ledger::of(&self.engine).gave(peer.id(), query).await?);
                if head.method == Method::HEAD {
                    *response.body_mut() = Body::empty();
                }
                Ok(response)
            }
            _ => {
                trail.allowed = METHODS.to_vec();
                let public = format!("{} is not a method of {MAPPINGS}", head.method);
                Err(Error::new(ErrorKind::MethodNotAllowed, Fault::Caller, public))
            }
        }
    }
}

/// A proxy that is trusted says of itself that it keeps what it passes on to itself.
fn line(trail: &Trail) -> Line {
    let near = trail.connection.peer.is_none_or(|peer| peer.ip().is_loopback());
    if near || trail.connection.scheme == "https" || trail.trust == Trust::Trusted {
        Line::Private
    } else {
        Line::Open
    }
}

fn answer(value: &impl Serialize) -> Response<Body> {
    // Our own types have text keys only, so writing them into memory cannot fail.
    let text = serde_json::to_string(value).unwrap_or_else(|_| json!({}).to_string());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
