//! Steps 2 to 5 for one request: what is known of it before anything is sent.

use std::sync::Arc;

use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, Request};
use standpipe_api::{
    Body, Call, Caller, CallerAuthorization, Credential, CredentialRequest, Dialect, Effect, Error,
    ErrorKind, Fault, Hint, Operation, ProviderId, RequestView, Resource, Result, Scope, bearer,
};

use super::Proxy;
use crate::access::STRANGER;
use crate::call::{OnBehalf, Trail};
use crate::engine::Running;
use crate::forward::headers::PIN;
use crate::identify::{Shown, Who};
use crate::jwt;
use crate::listener::ListenerId;
use crate::query::{Querier, no_credential_in_time};
use crate::resolve::{Place, Purpose};
use crate::route::{ExtensionId, FaceId, Found, Matched, Way, no_route};
use crate::token::{Chosen, select};

/// A request and what it asks for.
pub(super) struct Asked {
    /// The request; its path is the one a provider sees.
    pub(super) request: Request<Body>,
    /// The call as hooks see it; only where hooks see it.
    pub(super) call: Option<Call>,
    /// The extensions that asked for it.
    pub(super) extensions: Vec<(ExtensionId, standpipe_api::Params)>,
    /// The dialect's operation; `None` when it knows none.
    pub(super) matched: Option<Matched>,
    /// The path for which the operation was found; hooks may change the request's.
    path: String,
    /// The provider the caller chose.
    pub(super) pinned: Option<ProviderId>,
    /// The resources it names, most specific first.
    pub(super) resources: Vec<Resource>,
    /// Whether it brings the first of them into being.
    pub(super) creates: Option<Resource>,
    /// Why its caller is nobody we know; a provider may know the bearer.
    pub(super) stranger: Option<Error>,
}

impl Asked {
    /// What the dialect calls the request.
    pub(super) fn operation(&self) -> Operation {
        self.matched.as_ref().map_or(Operation::OTHER, |matched| matched.operation)
    }

    /// What it is for.
    pub(super) fn purpose(&self, dialect: &dyn Dialect) -> Purpose {
        match self.operation() {
            operation if dialect.begins(operation) => Purpose::New,
            Operation { effect: Effect::Delete | Effect::Poll, .. } => Purpose::Ending,
            _ => Purpose::Known,
        }
    }

    /// Ids in the request that an index may know.
    pub(super) fn hints(&self, dialect: &dyn Dialect) -> Vec<Hint> {
        let Some(Matched { operation, params, .. }) = &self.matched else { return Vec::new() };
        let body = self.request.body().as_bytes().filter(|_| dialect.needs_body(*operation));
        dialect.hints(*operation, &RequestView::of(&self.request, params, body))
    }
}

impl Proxy {
    /// Step 2.
    pub(super) async fn identify(
        &self,
        trail: &mut Trail,
        running: &Running,
        head: &Parts,
        door: ListenerId,
    ) -> Result<Option<Error>> {
        let door = running.doors.get(door.0).ok_or_else(|| no_route(head.uri.path()))?;
        if let Some(caller) = door.authenticators.recall(head, &trail.connection) {
            trail.caller = Some(caller);
            return Ok(None);
        }
        match Box::pin(door.authenticators.identify(head, &trail.connection)).await? {
            Who::Caller(caller) => {
                trail.caller = Some(caller);
                Ok(None)
            }
            Who::Refused(error) => {
                if bearer(&head.headers).is_some() {
                    trail.shown = Shown::Bearer;
                }
                Err(error)
            }
            // Only a bearer can be somebody a provider knows; everybody else learns nothing, not even paths.
            Who::Stranger(error) if bearer(&head.headers).is_some() => {
                trail.shown = Shown::Bearer;
                Ok(Some(error))
            }
            Who::Stranger(error) => Err(error),
        }
    }

    /// Step 3.
    pub(super) fn route(
        &self,
        trail: &mut Trail,
        running: &Running,
        head: &Parts,
        door: ListenerId,
    ) -> Result<(Found, Option<ProviderId>)> {
        let router = &self.engine.router;
        let mut way = router.way(head.uri.path())?;
        let open = running
            .doors
            .get(door.0)
            .is_some_and(|door| door.faces.is_empty() || door.faces.contains(&way.face));
        if !open {
            return Err(no_route(head.uri.path()));
        }
        trail.face = Some(way.face);
        let named = way.provider.map(ProviderId::from);
        if let Some(named) = &named {
            way.dialect = Some(running.named(trail.caller.as_deref(), named)?.dialect);
        }
        trail.dialect_id = way.dialect;
        trail.dialect = way.dialect.map(|id| router.dialect(id).clone());
        Ok((router.find(&head.method, &way), named))
    }

    /// Puts together what the steps found.
    pub(super) fn asked(
        &self,
        trail: &mut Trail,
        head: Parts,
        body: Body,
        stranger: Option<Error>,
        (mut found, named): (Found, Option<ProviderId>),
    ) -> Result<Box<Asked>> {
        let caller = match &stranger {
            None => trail.caller.clone(),
            Some(_) => {
                found.extensions.retain(|(id, _)| self.knows_tokens(*id));
                Some(Arc::new(Caller::nobody(STRANGER)))
            }
        };
        let mut request = Request::from_parts(head, body);
        let pinned = match named {
            Some(named) => {
                make_relative(&mut request)?;
                Some(named)
            }
            None => pin(request.headers())?,
        };
        trail.operation = found.operation.as_ref().map(|matched| matched.operation);
        if let Some(dialect) = &trail.dialect {
            let sent =
                |name: &HeaderName| request.headers().get(name).map(|value| (name.clone(), value.clone()));
            trail.echoed.extend(dialect.echoes().iter().filter_map(sent));
        }
        trail.position = found.operation.as_ref().map_or(usize::MAX, |matched| matched.position);
        let call = match (caller, found.extensions.is_empty()) {
            (Some(caller), false) => Some(Call {
                id: trail.id,
                deadline: trail.deadline,
                caller,
                connection: trail.connection.clone(),
                method: request.method().clone(),
                uri: request.uri().clone(),
                params: standpipe_api::Params::default(),
                notes: http::Extensions::new(),
            }),
            _ => None,
        };
        let path = if call.is_some() { request.uri().path().to_owned() } else { String::new() };
        let (extensions, matched) = (found.extensions, found.operation);
        let (resources, creates) = (Vec::new(), None);
        Ok(Box::new(Asked { request, call, extensions, matched, path, pinned, resources, creates, stranger }))
    }

    fn knows_tokens(&self, id: ExtensionId) -> bool {
        self.engine.extensions.get(id.0).is_some_and(|extension| extension.knows_tokens())
    }

    /// Reads out of the request what the dialect can tell of it.
    pub(super) async fn read_request(
        &self,
        trail: &mut Trail,
        running: &Running,
        asked: &mut Asked,
    ) -> Result<()> {
        self.route_again(trail, asked);
        let Some(dialect) = &trail.dialect else { return Err(no_route(asked.request.uri().path())) };
        if asked.matched.is_none() {
            if trail.face != Some(FaceId::TRANSPARENT) {
                return Err(self.not_served(trail, &asked.request));
            }
            asked.matched = Some(Matched::other());
        }
        let Some(Matched { operation, params, .. }) = &asked.matched else { return Ok(()) };
        trail.operation = Some(*operation);
        let mut body = None;
        if dialect.needs_body(*operation) {
            let (limit, sent) = (running.config.limits.body_buffer, asked.request.body_mut());
            let counts = |kind| running.quotas.of(trail.caller.as_deref(), &kind).is_some();
            body = if asked.pinned.is_some() && !dialect.creates(*operation).is_some_and(counts) {
                // Where it goes is known, and what it says is the provider's to read.
                Box::pin(self.in_time(trail, sent.bytes_within(limit))).await?
            } else {
                Some(Box::pin(self.in_time(trail, sent.bytes(limit))).await?)
            };
        }
        let view = RequestView::of(&asked.request, params, body.as_ref());
        asked.resources = scoped(&**dialect, trail.caller.as_deref(), dialect.names(*operation, &view));
        trail.kind = asked.resources.first().map(|first| first.kind.clone());
        asked.creates = asked.resources.first().filter(|first| dialect.claims(*operation, first)).cloned();
        Ok(())
    }

    /// Reads of a body until the call's deadline.
    async fn in_time<T>(&self, trail: &Trail, read: impl Future<Output = Result<T>>) -> Result<T> {
        let read = self.forward.deadlines().within(|| trail.deadline, read).await;
        read.map_err(|_| Error::bad_request("the body did not arrive in time"))?
    }

    /// A hook may have turned the request into one for another path.
    fn route_again(&self, trail: &mut Trail, asked: &mut Asked) {
        if asked.call.is_none() || asked.request.uri().path() == asked.path {
            return;
        }
        let Ok(way) = self.engine.router.way(asked.request.uri().path()) else { return };
        asked.matched = self.engine.router.find(asked.request.method(), &way).operation;
        trail.position = asked.matched.as_ref().map_or(usize::MAX, |matched| matched.position);
    }

    fn not_served(&self, trail: &mut Trail, request: &Request<Body>) -> Error {
        let path = request.uri().path();
        let Ok(way) = self.engine.router.way(path) else { return no_route(path) };
        trail.allowed = self.engine.router.methods_of(&Way { dialect: trail.dialect_id, ..way });
        if trail.allowed.is_empty() {
            return no_route(path);
        }
        let public = format!("{} is not a method of {path}", request.method());
        Error::new(ErrorKind::MethodNotAllowed, Fault::Caller, public)
    }

    /// Step 5.
    pub(super) async fn credential(
        &self,
        trail: &Trail,
        running: &Running,
        asked: &mut Asked,
        place: &mut Place,
    ) -> Result<Credential> {
        let anonymous = trail.caller.as_ref().is_none_or(|caller| caller.is_anybody());
        let foreign = |headers| bearer(headers).is_some() && !running.oidc.has_own(headers);
        // Whose a token is takes longer to see than whether anybody would ask.
        if anonymous && self.is_known_there(trail, asked, place) && foreign(asked.request.headers()) {
            return Ok(Credential { authorization: CallerAuthorization::PassedOn, ..Credential::none() });
        }
        if asked.stranger.is_some() {
            return Err(stranger());
        }
        if place.provider.credentials.is_choice() || place.provider.config.credential_by.is_some() {
            Box::pin(self.choose(trail, running, asked, place)).await?;
        }
        let provider = &place.provider;
        let request = CredentialRequest {
            caller: trail.caller.as_deref(),
            head: Some(asked.request.headers()),
            provider: provider.id(),
            remote_scope: place.remote_scope.as_ref(),
            alias: place.credential.as_ref(),
            actor: None,
        };
        if let Some(credential) = provider.credentials.recall(&request) {
            return Ok(credential);
        }
        let obtained = Box::pin(provider.credentials.obtain(&request));
        let obtained = self.forward.deadlines().within(|| trail.deadline, obtained).await;
        obtained.unwrap_or_else(|_| Err(no_credential_in_time(provider)))
    }

    /// Decides which of a provider's credentials the call uses; what of the request has chosen it goes no further.
    async fn choose(
        &self,
        trail: &Trail,
        running: &Running,
        asked: &mut Asked,
        place: &mut Place,
    ) -> Result<()> {
        let provider = place.provider.clone();
        let limit = running.config.limits.body_buffer;
        let selected = select(&provider.config.credential_by, &mut asked.request, limit);
        let selected = self.in_time(trail, selected).await?;
        let chosen = Chosen { kept: place.credential.as_ref(), asked: selected.as_deref() };
        let alias = provider.credentials.alias(provider.id(), trail.caller.as_deref(), chosen)?.cloned();
        place.credential = alias;
        Ok(())
    }

    /// Whether the provider may know a bearer that we do not: brokers authenticate each other on single pipes.
    fn is_known_there(&self, trail: &Trail, asked: &Asked, place: &Place) -> bool {
        let (Some(matched), Some(dialect)) = (&asked.matched, &trail.dialect) else { return false };
        dialect.accepts_foreign_bearer(matched.operation, &place.provider.public)
            // What a peer shows is for us alone (decision 33).
            && !bearer(asked.request.headers()).is_some_and(jwt::is_of_peer)
    }

    /// Asks on the caller's behalf.
    pub(super) fn querier(&self, trail: &Trail, running: &Arc<Running>, on_behalf: OnBehalf) -> Querier {
        Querier {
            engine: self.engine.clone(),
            forward: self.forward.clone(),
            running: running.clone(),
            caller: trail.caller.clone(),
            on_behalf,
            hops: trail.hops,
            deadline: trail.deadline,
        }
    }
}

/// Resources with the scope of their ids filled in, where callers choose ids.
pub(super) fn scoped(
    dialect: &dyn Dialect,
    caller: Option<&Caller>,
    mut resources: Vec<Resource>,
) -> Vec<Resource> {
    let tenant = caller.and_then(|caller| caller.tenant.as_deref());
    if let (true, Some(tenant)) = (dialect.callers_choose_ids(), tenant) {
        resources.iter_mut().for_each(|resource| resource.scope = Scope::tenant(tenant));
    }
    resources
}

/// Whoever comes to a face whose extension authenticates callers itself.
pub(super) fn whoever() -> Arc<Caller> {
    Arc::new(Caller::nobody("unidentified"))
}

/// What somebody nobody knows is told.
pub(super) fn stranger() -> Error {
    Error::new(ErrorKind::Unauthenticated, Fault::Caller, "the credential is not good")
        .advise("send a credential of one of the kinds named by WWW-Authenticate")
}

/// The caller's choice on a federated face.
fn pin(headers: &HeaderMap) -> Result<Option<ProviderId>> {
    // Seldom there, and a look at each name costs less than a hash.
    let mut values = headers.iter().filter(|(name, _)| **name == PIN).map(|(_, value)| value);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::bad_request("Standpipe-Provider stands there twice"));
    }
    let name =
        value.to_str().map_err(|_| Error::bad_request("Standpipe-Provider must be a provider's name"))?;
    Ok(Some(ProviderId::from(name)))
}

/// On the transparent face, providers see the path behind their name.
fn make_relative(request: &mut Request<Body>) -> Result<()> {
    let path = request.uri().path();
    let behind =
        path.get("/providers/".len()..).and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
    let relative = match request.uri().query() {
        Some(query) => format!("{}?{query}", behind.unwrap_or("/")),
        None => behind.unwrap_or("/").to_owned(),
    };
    let relative = PathAndQuery::from_maybe_shared(bytes::Bytes::from(relative));
    *request.uri_mut() = Uri::from(relative.map_err(|_| Error::bad_request("the path cannot be read"))?);
    Ok(())
}
