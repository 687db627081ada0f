//! The operator's socket: is it alive, is it ready, what does it count, whom does it know, what has it learned.
//!
//! In: requests of the second listener. Out: JSON, JSON Lines, Prometheus text, problem+json. It never answers
//! on a public socket, never shows a secret (userinfo is cut from URLs), and writes mappings only through the
//! table that serving cores read. Who may ask is decided by [`Guard`] before anything else.

mod answer;
mod audit;
mod body;
mod door;
mod events;
mod guard;
mod mappings;
mod operator;
mod outbox;
mod page;
mod peers;
mod providers;
mod query;
mod ready;
mod table;
mod transfer;
mod vault;

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use standpipe_api::{
    Body, CallId, Connection, Error, ErrorKind, EventPage, Fault, Outdated, ProviderId, Result, Timestamp,
    Upstream,
};
use tokio::sync::watch;

pub use audit::AuditPage;
pub use door::AdminDoor;
pub(crate) use guard::read_token;
pub use guard::{Guard, GuardError};
pub use operator::{MappingValue, OperatorMappings, Rows};
pub(crate) use outbox::cursor;
pub use outbox::{Entry, Outbox};
pub use peers::Side;
pub use providers::{BreakerState, LastError, PoolStatus, ProviderStatus};
pub(crate) use query::{Parameters, cursor as page_after, read_cursor};
pub use table::{Filter, Imported, KnownEndpoints, MappingTable};
pub(crate) use transfer::Import;
pub use transfer::{ImportReport, LineError, Lines};

use self::door::Operator;
use self::page::{Act, Page};
use crate::config::is_name;
use crate::peer::Ledger;
use crate::registry::{Registry, Whence};
use crate::respond::{self, Manner};
use crate::store::{AuditEvent, AuditFilter, AuditRow};
use crate::telemetry::{AccessEvent, Metrics};
use crate::vault::Vault;
use ready::Readiness;

/// What an operator can ask the engine about.
#[async_trait]
pub trait Engine: KnownEndpoints {
    /// Whether the process is on its way out and wants no new work.
    fn draining(&self) -> bool;

    /// The providers, in configured order.
    fn providers(&self) -> Vec<ProviderStatus>;

    /// Background work that failed to start, one sentence each; empty when all is well.
    fn background_failures(&self) -> Vec<String>;

    /// What is sealed; `None` where nothing is.
    fn vault(&self) -> Option<Arc<Vault>> {
        None
    }

    /// What peers gave and were given; `None` where there are none.
    fn ledger(&self) -> Option<Ledger> {
        None
    }

    /// Providers that come and go; `None` where there are none.
    fn registry(&self) -> Option<Arc<Registry>> {
        None
    }

    /// Who administers standpipe as a caller; `None`: nobody.
    fn door(&self) -> Option<Arc<AdminDoor>> {
        None
    }

    /// Remembers what an operator did.
    fn record(&self, event: AuditEvent);

    /// Events of the audit with an id above `after`, at most `limit`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn audit(&self, filter: &AuditFilter, after: i64, limit: usize) -> Result<Vec<AuditRow>>;

    /// Events of the feed behind a revision, at most `limit`.
    ///
    /// # Errors
    /// The store does not answer.
    async fn events(&self, after: u64, limit: usize) -> Result<Result<EventPage, Outdated>>;

    /// The revision of the last event.
    fn last_event(&self) -> watch::Receiver<u64>;

    /// The durable jobs of extensions.
    fn outbox(&self) -> Arc<dyn Outbox>;

    /// A provider that is served in this process; `None` if it is not, or there is none of this name.
    fn upstream(&self, provider: &str) -> Option<Arc<dyn Upstream>>;
}

/// Answers the second listener's requests.
pub struct AdminService {
    guard: Guard,
    engine: Arc<dyn Engine>,
    mappings: Arc<OperatorMappings>,
    metrics: Metrics,
    readiness: Readiness,
}

/// What is known of a request for the audit.
#[derive(Default)]
struct Asked {
    /// Who asks, once that is known.
    operator: Option<Operator>,
    /// The provider it is about.
    provider: Option<ProviderId>,
}

impl Asked {
    fn whence(&self) -> Whence {
        let elsewhere = self.operator.as_ref().is_none_or(|operator| operator.is_caller);
        if elsewhere { Whence::Elsewhere } else { Whence::Here }
    }
}

impl AdminService {
    /// Joins what an operator can see; the guard belongs to the socket it is served on.
    pub fn new(
        guard: Guard,
        engine: Arc<dyn Engine>,
        table: Arc<dyn MappingTable>,
        metrics: Metrics,
    ) -> Self {
        let known: Arc<dyn KnownEndpoints> = engine.clone();
        let mappings = Arc::new(OperatorMappings::new(table, known));
        Self { guard, engine, mappings, metrics, readiness: Readiness::default() }
    }

    /// Answers one request that came by a connection.
    pub async fn answer(&self, request: Request<Body>, connection: &Connection) -> Response<Body> {
        let call = CallId::from_bits(fastrand::u128(..));
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let page = Page::of(&path);
        let allowed = page.as_ref().map_or(&[][..], Page::methods);
        let mut asked = Asked::default();
        let outcome = self.page(page, request, connection, &mut asked).await;
        let fault = outcome.as_ref().err().map(|error| error.fault().clone());
        let response = outcome.unwrap_or_else(|error| {
            match error.fault() {
                Fault::Caller => tracing::debug!(%call, error = %error.log_text(), "admin request refused"),
                _ => tracing::warn!(%call, error = %error.log_text(), "admin request failed"),
            }
            let challenge = [HeaderValue::from_static("Bearer realm=\"standpipe admin\"")];
            let door = self.guard.takes_callers().then(|| self.engine.door()).flatten();
            let challenges = door.as_ref().map_or(&challenge[..], |door| door.challenges());
            respond::error(&error, call, Manner { challenges, allowed, ..Manner::default() })
        });
        if let (false, Some(operator)) = (method.is_safe(), asked.operator) {
            self.engine.record(AuditEvent {
                at: Timestamp::now(),
                call: call.to_string(),
                caller: Some(operator.id),
                tenant: operator.tenant,
                method: method.to_string(),
                path: AccessEvent::path_of(&path.parse().unwrap_or_default()).into(),
                operation: Some("administer".into()),
                kind: None,
                provider: asked.provider,
                status: response.status().as_u16(),
                fault: fault.as_ref().map(respond::fault),
                refused: None,
                remark: None,
            });
        }
        response
    }

    /// Who asks, if it may.
    async fn enter(&self, head: &Parts, connection: &Connection) -> Result<Operator> {
        match self.guard {
            Guard::Socket => Ok(Operator::of("operator:socket")),
            Guard::Token { .. } => self.guard.check_token(head).map(|()| Operator::of("operator:token")),
            Guard::Callers { .. } => {
                let door = self.engine.door();
                door.ok_or_else(|| Error::internal("nobody may ask here"))?.enter(head, connection).await
            }
        }
    }

    async fn page(
        &self,
        page: Option<Page<'_>>,
        request: Request<Body>,
        connection: &Connection,
        asked: &mut Asked,
    ) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        self.guard.check_source(&head)?;
        if !page.as_ref().is_some_and(Page::is_open) {
            let operator = self.enter(&head, connection).await?;
            let operator = asked.operator.insert(operator);
            page.as_ref().map_or(Ok(()), |page| operator.may(&head.method, page))?;
        }
        let request = Request::from_parts(head, body);
        let Some(page) = page else { return Err(no_page()) };
        if !page.methods().contains(request.method()) {
            let text = format!("{} is not for {}", request.uri().path(), request.method());
            return Err(Error::new(ErrorKind::MethodNotAllowed, Fault::Caller, text));
        }
        if let Page::Provider { name } | Page::Act { name, .. } = page {
            asked.provider =
                Some(decoded("provider", name)?.into()).filter(|name: &ProviderId| is_name(name.as_str()));
        }
        match page {
            Page::Live => Ok(answer::json(StatusCode::OK, &serde_json::json!({ "live": true }))),
            Page::Ready => Ok(self.ready().await),
            Page::Metrics => Ok(answer::metrics(self.metrics.render())),
            Page::Providers if request.method() == Method::POST => {
                let registry = self.engine.registry().ok_or_else(no_page)?;
                providers::add(&registry, &*self.engine, asked, request).await
            }
            Page::Providers => {
                let left_out = self.engine.registry().map(|registry| registry.left_out()).unwrap_or_default();
                Ok(answer::json(StatusCode::OK, &providers::list(self.engine.providers(), &left_out)))
            }
            Page::Provider { name } => {
                let (registry, name) =
                    (self.engine.registry().ok_or_else(no_page)?, decoded("provider", name)?);
                providers::named(&registry, &*self.engine, &name.into(), asked, request).await
            }
            Page::Act { name, act } => {
                let (registry, name) =
                    (self.engine.registry().ok_or_else(no_page)?, decoded("provider", name)?);
                providers::act(&registry, &*self.engine, &name.into(), act).await
            }
            Page::Tokens => vault::tokens(&*self.engine.vault().ok_or_else(no_page)?, &request).await,
            Page::RotateKey => vault::rotate(&*self.engine.vault().ok_or_else(no_page)?, request).await,
            Page::Audit => audit::list(&*self.engine, &request).await,
            Page::Events => events::list(&*self.engine, &request).await,
            Page::Peers => peers::list(&self.engine.ledger().ok_or_else(no_page)?).await,
            Page::Peer { name, side } => {
                let (ledger, name) = (self.engine.ledger().ok_or_else(no_page)?, decoded("peer", name)?);
                peers::mappings(&ledger, &name.into(), side, &request).await
            }
            Page::Mappings => mappings::all(&self.mappings, request).await,
            Page::Mapping { kind, id } => {
                mappings::one(&self.mappings, decoded("kind", kind)?, decoded("id", id)?, request).await
            }
            Page::Outbox => outbox::list(&*self.engine.outbox(), &request).await,
            Page::Job { extension, id } => {
                let (extension, id) = (decoded("extension", extension)?, decoded("job", id)?);
                outbox::done(self.engine.outbox().remove(&extension, &id).await?)
            }
            Page::Retry { extension, id } => {
                let (extension, id) = (decoded("extension", extension)?, decoded("job", id)?);
                outbox::done(self.engine.outbox().retry(&extension, &id).await?)
            }
            Page::Inside { provider, path } => self.inside(provider, path, request).await,
        }
    }

    /// Passes a request on to a provider in this process, which takes an operator's word.
    async fn inside(&self, provider: &str, path: &str, mut request: Request<Body>) -> Result<Response<Body>> {
        let unknown = || {
            Error::new(ErrorKind::NoRoute, Fault::Caller, format!("no provider {provider} is served here"))
                .advise("GET /providers lists all; only those in this process are reached on this socket")
        };
        let upstream = self.engine.upstream(provider).ok_or_else(unknown)?;
        let wrong = |_| Error::bad_request("the path cannot be read");
        *request.uri_mut() = path.parse().map_err(wrong)?;
        Ok(upstream.serve(request).await)
    }

    async fn ready(&self) -> Response<Body> {
        let mut reasons = self.engine.background_failures();
        if self.engine.draining() {
            reasons.push("draining: this process is about to end".into());
        }
        reasons.extend(self.readiness.store_problem(&self.mappings).await);
        let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer::json(status, &serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }))
    }
}

fn no_page() -> Error {
    Error::new(ErrorKind::NoRoute, Fault::Caller, "the admin listener has no such path").advise(
        "there are /live, /ready, /metrics, /providers, /providers/{name}, /providers/{name}/..., /audit, /events, /mappings, \
             /mappings/{kind}/{id}, /outbox, /tokens, /keys/rotate, /peers and /peers/{name}/gave and /given",
    )
}

fn decoded(what: &str, segment: &str) -> Result<String> {
    let text = percent_decode_str(segment).decode_utf8();
    text.map(Into::into).map_err(|_| Error::bad_request(format!("the {what} in the path is not UTF-8")))
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
