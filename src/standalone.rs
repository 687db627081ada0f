//! A provider of this process served alone: `standpipe broker` and `standpipe osb-broker`. Listener and callers, no faces, no mapping.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{Request, Response};
use standpipe_api::{Body, CallId, Connection, Error, Upstream, bearer};

use crate::engine::{Engine, Running};
use crate::identify::{Shown, Who};
use crate::listener::{ListenerId, Service};
use crate::respond::{self, Manner};
use crate::serve::only_upstream;

/// The one provider, behind the listeners' authenticators.
#[derive(Clone)]
pub struct Standalone {
    engine: Arc<Engine>,
    upstream: Arc<dyn Upstream>,
}

impl Standalone {
    /// The provider, when the configuration has exactly one that is served in process.
    pub fn new(engine: &Arc<Engine>) -> Option<Self> {
        let upstream = only_upstream(&engine.running.load())?;
        Some(Self { engine: engine.clone(), upstream })
    }

    async fn answer(
        &self,
        request: Request<Body>,
        connection: &Connection,
        door: ListenerId,
    ) -> standpipe_api::Result<Response<Body>> {
        let running: Arc<Running> = self.engine.running.load_full();
        let (mut head, body) = request.into_parts();
        if let Some(document) = self.engine.issuer.document(&head.method, head.uri.path())? {
            return Ok(document);
        }
        let authenticators = running.doors.get(door.0).map(|door| &door.authenticators);
        let authenticators = authenticators.ok_or_else(|| crate::route::no_route(head.uri.path()))?;
        let who = match authenticators.recall(&head, connection) {
            Some(caller) => Who::Caller(caller),
            None => authenticators.identify(&head, connection).await?,
        };
        // A bearer token of nobody we know may be another broker's; the broker itself will tell.
        let is_broker = self.upstream.knows_tokens()
            && bearer(&head.headers).is_some()
            && match &who {
                Who::Caller(caller) => caller.is_anybody(),
                Who::Stranger(_) => true,
                Who::Refused(_) => false,
            };
        if !is_broker {
            head.headers.remove(AUTHORIZATION);
            if let Who::Refused(error) | Who::Stranger(error) = who {
                return Err(error);
            }
        }
        let request = Request::from_parts(head, body);
        if request.method().is_safe() {
            Ok(self.upstream.serve(request).await)
        } else {
            self.write(request).await
        }
    }

    /// Runs in a task of its own to its end, whether or not the caller stays: what a provider has begun outside must
    /// not be cut off half-way.
    async fn write(&self, request: Request<Body>) -> standpipe_api::Result<Response<Body>> {
        let (upstream, counted) = (self.upstream.clone(), self.engine.writing.begin());
        let written = tokio::task::spawn_local(async move {
            let _counted = counted;
            upstream.serve(request).await
        });
        written.await.map_err(|error| Error::internal("the call ended without an outcome").because(error))
    }
}

impl Service for Standalone {
    async fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        socket: ListenerId,
    ) -> Response<Body> {
        match self.answer(request, &connection, socket).await {
            Ok(response) => response,
            Err(error) => {
                let running = self.engine.running.load_full();
                let manner =
                    Manner { challenges: running.challenges(socket.0, Shown::Nothing), ..Manner::default() };
                respond::error(&error, CallId::from_bits(fastrand::u128(..)), manner)
            }
        }
    }
}
