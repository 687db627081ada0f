//! Questions standpipe asks providers on a caller's behalf, or its own: credential, forward, whole answer.
//!
//! Floods, aggregating extensions and background work all ask through here, so that every question obeys the
//! same limits, carries the same fields and ends at the same deadline.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use standpipe_api::{
    Answer, Body, Caller, CallerAuthorization, Challenged, Credential, CredentialAlias, CredentialRequest,
    Error, ErrorKind, Fault, OwnAuthorization, Query, Result, Target,
};

use crate::call::OnBehalf;
use crate::engine::{Engine, Running};
use crate::forward::Forward;
use crate::forward::headers::{Outgoing, Trust, to_provider};
use crate::providers::Provider;
use crate::renewal::renew;

/// A call's patience ended before its credential came.
pub fn no_credential_in_time(provider: &Provider) -> Error {
    let public = format!("the credential for {} did not come in time; nothing was sent there", provider.id());
    Error::new(ErrorKind::Timeout, Fault::Provider(provider.id().clone()), public)
}

/// Asks providers for one caller, or for standpipe itself.
#[derive(Clone)]
pub struct Querier {
    /// The engine.
    pub engine: Arc<Engine>,
    /// This core's connections.
    pub forward: Forward,
    /// The configuration the call began under.
    pub running: Arc<Running>,
    /// Who is asking; `None`: standpipe.
    pub caller: Option<Arc<Caller>>,
    /// What travels on.
    pub on_behalf: OnBehalf,
    /// Standpipes the call has passed.
    pub hops: u32,
    /// When the answers must be there.
    pub deadline: Instant,
}

impl Querier {
    /// Asks one provider.
    ///
    /// # Errors
    /// Whatever kept the answer from coming.
    pub async fn ask(
        &self,
        target: &Target,
        alias: Option<&CredentialAlias>,
        query: Query,
    ) -> Result<Answer> {
        let provider = self.running.provider(&target.provider)?;
        let head = self.head();
        let wanted = self.wanted(provider, target, alias, head.as_ref());
        let mut credential = match query.extensions().get() {
            Some(OwnAuthorization) if self.caller.is_none() => {
                Credential { authorization: CallerAuthorization::PassedOn, ..Credential::none() }
            }
            _ => self.obtain(provider, &wanted).await?,
        };
        let (mut parts, body) = query.into_parts();
        let path = parts.uri.path().to_owned();
        let dialect = self.engine.router.dialect(provider.dialect);
        let address = dialect.address(&provider.public, &path);
        let base = target.endpoint.as_deref().unwrap_or(&address.base);
        let wrong =
            |cause| Error::internal(format!("no request to {} can be made", provider.id())).because(cause);
        let destination = provider.destination(base).map_err(|error| wrong(error.to_string()))?;
        let uri =
            destination.target(&address.path, parts.uri.query()).map_err(|error| wrong(error.to_string()))?;
        let method = parts.method.clone();
        parts.uri = uri;
        self.fields(&mut parts.headers);
        // What travelled on behalf of the caller ends here, unless it is the credential.
        let _callers = to_provider(
            &mut parts.headers,
            &Outgoing {
                authority: destination.authority(),
                credential: &credential,
                hop: &self.engine.hop,
                hops: self.hops,
                peer: None,
                scheme: "http",
                host: None,
                trust: Trust::Trusted,
            },
        );
        credential.complete(&method, &parts.uri, &mut parts.headers);
        let mut request = Request::from_parts(parts, Body::from(body));
        let sent = self.forward.send(provider, &destination, &mut request, self.deadline).await;
        let mut answer = sent.map_err(|failure| failure.into_error(&provider.config, &method))?;
        if answer.status() == StatusCode::UNAUTHORIZED && credential.is_renewable() {
            let renewed = renew(provider, &wanted, &mut credential, &mut request, answer.headers());
            if self.in_time(provider, renewed).await? == Challenged::Renewable {
                // Its connection holds a turn that the second attempt may have to wait for.
                drop(answer);
                let sent = self.forward.send(provider, &destination, &mut request, self.deadline).await;
                answer = sent.map_err(|failure| failure.into_error(&provider.config, &method))?;
            }
        }
        self.whole(provider, answer).await
    }

    /// Asks many concurrently; the answers stand in the order of the questions.
    pub async fn ask_each(&self, queries: Vec<(Target, Query)>) -> Vec<(Target, Result<Answer>)> {
        let asked = queries.into_iter().enumerate().map(|(at, (target, query))| async move {
            let answer = self.ask(&target, None, query).await;
            (at, target, answer)
        });
        let mut answers: Vec<_> = asked.collect::<FuturesUnordered<_>>().collect().await;
        answers.sort_unstable_by_key(|(at, ..)| *at);
        answers.into_iter().map(|(_, target, answer)| (target, answer)).collect()
    }

    /// Obtains the credential for a target.
    ///
    /// # Errors
    /// The caller has none there, or the party that gives it did not.
    pub async fn credential(
        &self,
        provider: &Provider,
        target: &Target,
        alias: Option<&CredentialAlias>,
    ) -> Result<Credential> {
        let head = self.head();
        self.obtain(provider, &self.wanted(provider, target, alias, head.as_ref())).await
    }

    /// What of the caller's head strategies may exchange.
    fn head(&self) -> Option<HeaderMap> {
        let own = self.on_behalf.authorization.clone()?;
        Some(HeaderMap::from_iter([(AUTHORIZATION, own)]))
    }

    fn wanted<'a>(
        &'a self,
        provider: &'a Provider,
        target: &'a Target,
        alias: Option<&'a CredentialAlias>,
        head: Option<&'a HeaderMap>,
    ) -> CredentialRequest<'a> {
        CredentialRequest {
            caller: self.caller.as_deref(),
            head,
            provider: provider.id(),
            remote_scope: target.remote_scope.as_ref(),
            alias,
            actor: None,
        }
    }

    async fn obtain(&self, provider: &Provider, wanted: &CredentialRequest<'_>) -> Result<Credential> {
        match provider.credentials.recall(wanted) {
            Some(credential) => Ok(credential),
            None => self.in_time(provider, provider.credentials.obtain(wanted)).await,
        }
    }

    async fn in_time<T>(&self, provider: &Provider, work: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = self.forward.deadlines().within(|| self.deadline, work).await;
        outcome.unwrap_or_else(|_| Err(no_credential_in_time(provider)))
    }

    fn fields(&self, headers: &mut http::HeaderMap) {
        let mut set = |name: HeaderName, value: &Option<HeaderValue>| {
            headers.extend(value.clone().map(|value| (name, value)));
        };
        set(AUTHORIZATION, &self.on_behalf.authorization);
        set(HeaderName::from_static("traceparent"), &self.on_behalf.traceparent);
        set(HeaderName::from_static("tracestate"), &self.on_behalf.tracestate);
    }

    async fn whole(&self, provider: &Provider, answer: Response<Body>) -> Result<Answer> {
        let (parts, mut body) = answer.into_parts();
        let limit = self.running.config.limits.answer_buffer;
        let read = self.forward.deadlines().within(|| self.deadline, body.bytes(limit)).await;
        let late = || format!("{} did not finish its answer in time", provider.id());
        let unreadable = |error: Error| {
            let public = format!("{}'s answer cannot be read whole: {}", provider.id(), error.public());
            Error::nonsense(provider.id().clone(), public).because(error)
        };
        match read {
            Ok(bytes) => Ok(Response::from_parts(parts, bytes.map_err(unreadable)?)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, Fault::Provider(provider.id().clone()), late())),
        }
    }
}
