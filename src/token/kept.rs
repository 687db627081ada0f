//! A source whose credentials are kept: from memory if possible, else from the table, else obtained, once for all who
//! wait. Obtaining runs in a task of its own (decision 18); what a caller's token became is renewed by a call that
//! brings that token, what is standpipe's own is renewed unattended (decision 31).

mod injected;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use metrics::Counter;
use standpipe_api::{
    Caller, Challenged, Credential, CredentialAlias, CredentialRequest, CredentialSource, Error, ErrorKind,
    Fault, Keeping, ProviderId, RemoteScope, Result, Timestamp,
};

pub use self::injected::Foreign;
use super::failed::{Failed, Outcome};
use super::fields;
use super::mappings::{Known, Loaded, Token, TokenMappings};
use crate::single_flight::{Join, Lead};
use crate::store::{StoredToken, Subject, TokenKey};

/// Obtaining is tried anew when the core that ran it has stopped; more often than this something else is wrong.
const ATTEMPTS: usize = 3;
/// A token that a provider refuses so soon after it was renewed for that reason is not renewed again.
const RENEWED: Duration = Duration::from_secs(5);
/// How long a renewal that failed waits for the next, while the token still lives.
const AGAIN: Duration = Duration::from_secs(2);
/// Scopes of one credential of standpipe's own that are renewed unattended.
const SCOPES: usize = 256;

/// A source behind the token mappings.
pub(super) struct Kept(Arc<Inner>);

struct Inner {
    source: Arc<dyn CredentialSource>,
    mappings: Arc<TokenMappings>,
    place: Place,
    /// Tells this credential from all others, also from the one before a reload.
    number: u64,
    /// Scopes in which standpipe's own token has been used.
    scopes: Mutex<HashSet<Option<RemoteScope>>>,
    counts: Counts,
}

/// Which credential of which provider.
pub(super) struct Place {
    pub(super) provider: ProviderId,
    pub(super) credential: CredentialAlias,
    pub(super) kind: String,
    /// A hash of the settings.
    pub(super) settings: [u8; 32],
}

/// What is counted, by provider.
pub(super) struct Counts {
    pub(super) hits: Counter,
    pub(super) success: Counter,
    pub(super) refused: Counter,
    pub(super) failed: Counter,
}

/// A request that outlives its call.
struct Owned {
    caller: Option<Caller>,
    head: Option<HeaderMap>,
    remote_scope: Option<RemoteScope>,
}

/// Why a token is obtained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// None is at hand.
    Wanted,
    /// The one at hand ends soon.
    Due,
}

impl Kept {
    pub(super) fn new(
        source: Arc<dyn CredentialSource>,
        mappings: Arc<TokenMappings>,
        place: Place,
        counts: Counts,
    ) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Inner { source, mappings, place, number, scopes: Mutex::default(), counts }))
    }

    /// Renews what is standpipe's own and ends soon. Must be called where local tasks can be spawned.
    pub(super) fn renew_due(&self) {
        let scopes: Vec<_> = self.0.scopes().iter().cloned().collect();
        for scope in scopes {
            let request = self.0.own_request(scope.as_ref());
            let front = self.0.mappings.front(self.0.number, scope.as_ref(), b"");
            let now = Timestamp::now();
            let due = match self.0.mappings.known.get(&front) {
                Some(Known::Token(token)) => token.is_due(now),
                // An endpoint that was down is asked until it is back.
                Some(Known::Failed(_, until)) => now >= until,
                Some(Known::Dropped(_)) | None => false,
            };
            if due {
                self.0.renew(&request, front);
            }
        }
    }
}

#[async_trait(?Send)]
impl CredentialSource for Kept {
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        let Some(front) = self.0.front(request) else { return self.0.source.recall(request) };
        let Known::Token(token) = self.0.mappings.known.get(&front)? else { return None };
        let now = Timestamp::now();
        if !token.is_usable(now) {
            return None;
        }
        if token.is_due(now) {
            self.0.renew(request, front);
        }
        self.0.counts.hits.increment(1);
        Some(token.credential.clone())
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let Some(front) = self.0.front(request) else { return self.0.source.obtain(request).await };
        for _ in 0..ATTEMPTS {
            match self.0.mappings.known.get(&front) {
                Some(Known::Token(token)) if token.is_usable(Timestamp::now()) => {
                    return Ok(token.credential.clone());
                }
                Some(Known::Failed(failed, until)) if Timestamp::now() < until => return Err(failed.error()),
                _ => {}
            }
            let wait = match self.0.mappings.loads.join(&front) {
                Join::Lead(lead, wait) => {
                    let load = self.0.clone().load(lead, Owned::of(request), front, Why::Wanted);
                    tokio::task::spawn_local(load);
                    wait
                }
                Join::Follow(wait) => wait,
                Join::Full => return Err(self.0.busy()),
            };
            if let Some(loaded) = wait.value().await {
                return match loaded {
                    Ok(token) => Ok(token.credential.clone()),
                    Err(failed) => Err(failed.error()),
                };
            }
        }
        Err(Error::internal("a credential was obtained and got lost"))
    }

    fn challenged(
        &self,
        request: &CredentialRequest<'_>,
        sent: &Credential,
        answer: &HeaderMap,
    ) -> Challenged {
        let Some(front) = self.0.front(request) else {
            return self.0.source.challenged(request, sent, answer);
        };
        self.0.source.refused(request);
        let now = Timestamp::now();
        match self.0.mappings.known.get(&front) {
            // Somebody else was refused before, and has it renewed.
            Some(Known::Dropped(_)) => Challenged::Renewable,
            Some(Known::Token(token)) if token.credential.headers != sent.headers => Challenged::Renewable,
            Some(Known::Token(token)) if token.after_refusal.is_some_and(|at| now < at.plus(RENEWED)) => {
                Challenged::Final
            }
            _ => {
                self.0.drop_token(request, front, now);
                Challenged::Renewable
            }
        }
    }

    fn is_unattended(&self) -> bool {
        self.0.source.is_unattended()
    }

    fn passes_on(&self) -> bool {
        self.0.source.passes_on()
    }

    fn is_bound_to_caller(&self) -> bool {
        self.0.source.is_bound_to_caller()
    }

    fn names_actors(&self) -> bool {
        self.0.source.names_actors()
    }
}

impl Inner {
    fn front(&self, request: &CredentialRequest<'_>) -> Option<u128> {
        let token = match self.source.keeping(request) {
            // What names an actor is for that actor alone.
            _ if request.actor.is_some() => return None,
            Keeping::Nobody => return None,
            Keeping::Everybody => b"",
            Keeping::Token(token) => token,
        };
        Some(self.mappings.front(self.number, request.remote_scope, token))
    }

    fn own_request<'a>(&'a self, scope: Option<&'a RemoteScope>) -> CredentialRequest<'a> {
        CredentialRequest {
            caller: None,
            head: None,
            provider: &self.place.provider,
            remote_scope: scope,
            alias: Some(&self.place.credential),
            actor: None,
        }
    }

    fn scopes(&self) -> std::sync::MutexGuard<'_, HashSet<Option<RemoteScope>>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> Error {
        let public = format!("too many credentials for {} are being obtained", self.place.provider);
        Error::new(ErrorKind::Overloaded, Fault::Proxy, public).retry_after(Duration::from_secs(1))
    }

    /// Has the next token obtained, unless somebody does already.
    fn renew(self: &Arc<Self>, request: &CredentialRequest<'_>, front: u128) {
        if let Join::Lead(lead, _wait) = self.mappings.loads.join(&front) {
            tokio::task::spawn_local(self.clone().load(lead, Owned::of(request), front, Why::Due));
        }
    }

    /// Forgets a token that the provider refuses; until the next one is there, nobody takes it from the table again.
    fn drop_token(self: &Arc<Self>, request: &CredentialRequest<'_>, front: u128, now: Timestamp) {
        self.mappings.loads.disown(&front);
        self.mappings.known.insert(front, Known::Dropped(now));
        let (own, request) = (self.clone(), Owned::of(request));
        tokio::task::spawn_local(async move {
            let Ok(key) = own.key(&request).await else { return };
            if let Some(store) = own.mappings.store()
                && let Err(error) = store.remove_token(key).await
            {
                tracing::warn!(%error, "a refused token could not be removed");
            }
        });
    }

    async fn load(self: Arc<Self>, lead: Lead<u128, Loaded>, request: Owned, front: u128, why: Why) {
        let before = self.mappings.known.get(&front);
        let now = Timestamp::now();
        let (loaded, fresh) = match (&before, why) {
            // Whoever had the lead before has kept it by now.
            (Some(Known::Token(token)), Why::Wanted) if token.is_usable(now) => (Ok(token.clone()), false),
            (Some(Known::Token(token)), Why::Due) if !token.is_due(now) => (Ok(token.clone()), false),
            (Some(Known::Dropped(at)), _) => (self.ask(&request, Some(*at)).await, true),
            (_, Why::Due) => (self.ask(&request, None).await, true),
            (_, Why::Wanted) => match self.stored(&request).await {
                Some(token) => (Ok(token), false),
                None => (self.ask(&request, None).await, true),
            },
        };
        let loaded = match (loaded, before, why) {
            (Err(failed), Some(Known::Token(token)), Why::Due) if token.is_usable(Timestamp::now()) => {
                tracing::warn!(provider = %self.place.provider, error = failed.error().log_text(), "a token could not be renewed; the last one is used to its end");
                token.refresh_at.store(Timestamp::now().plus(AGAIN).as_millis(), Ordering::Relaxed);
                return lead.tell(Ok(token));
            }
            (loaded, ..) => loaded,
        };
        lead.tell_and_keep(loaded.clone(), |loaded| self.keep(front, loaded));
        if let (Ok(token), true) = (loaded, fresh) {
            self.store(&request, &token).await;
        }
    }

    fn keep(&self, front: u128, loaded: &Loaded) {
        let known = match loaded {
            Ok(token) => Known::Token(token.clone()),
            Err(failed) => Known::Failed(failed.clone(), Timestamp::now().plus(failed.believed())),
        };
        self.mappings.known.insert(front, known);
    }

    async fn ask(&self, request: &Owned, refused: Option<Timestamp>) -> Loaded {
        let asked = Timestamp::now();
        let obtained = self.source.obtain(&self.borrowed(request)).await;
        let outcome =
            obtained.as_ref().map_or_else(|error| Failed::of(error).outcome(), |_| Outcome::Success);
        match outcome {
            Outcome::Success => &self.counts.success,
            Outcome::Refused => &self.counts.refused,
            Outcome::Failed => &self.counts.failed,
        }
        .increment(1);
        match obtained {
            Ok(credential) => {
                self.remember_scope(request);
                Ok(Arc::new(Token::obtained(credential, asked, refused.map(|_| asked))))
            }
            Err(error) => Err(Arc::new(Failed::of(&error))),
        }
    }

    /// What is standpipe's own is renewed from now on.
    fn remember_scope(&self, request: &Owned) {
        if matches!(self.source.keeping(&self.borrowed(request)), Keeping::Everybody) {
            let mut scopes = self.scopes();
            if scopes.len() < SCOPES {
                scopes.insert(request.remote_scope.clone());
            }
        }
    }

    fn borrowed<'a>(&'a self, request: &'a Owned) -> CredentialRequest<'a> {
        CredentialRequest {
            caller: request.caller.as_ref(),
            head: request.head.as_ref(),
            ..self.own_request(request.remote_scope.as_ref())
        }
    }

    async fn key(&self, request: &Owned) -> Result<TokenKey> {
        let subject = match self.source.keeping(&self.borrowed(request)) {
            Keeping::Token(token) => self.mappings.subject(token).await?,
            Keeping::Everybody | Keeping::Nobody => Subject::STANDPIPE,
        };
        Ok(TokenKey {
            subject,
            provider: self.place.provider.clone(),
            remote_scope: request.remote_scope.clone(),
            credential: self.place.credential.clone(),
        })
    }

    /// The token in the table, if it was obtained under the same settings and has some of its life left. A table that
    /// does not answer costs an exchange, not the call.
    async fn stored(&self, request: &Owned) -> Option<Arc<Token>> {
        let store = self.mappings.store()?;
        let found = match self.key(request).await {
            Ok(key) => store.token(&key).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        let found = found.inspect_err(|error| {
            tracing::warn!(provider = %self.place.provider, error = error.log_text(), "a stored token cannot be read");
        });
        let stored = found.ok()?.filter(|stored| stored.settings == self.place.settings)?;
        let mut credential = Credential { headers: fields::read(&stored.value)?, ..Credential::none() };
        credential.expires_at = Some(stored.expires_at);
        let token = Token::obtained(credential, stored.obtained_at, None);
        self.remember_scope(request);
        token.is_usable(Timestamp::now()).then(|| Arc::new(token))
    }

    async fn store(&self, request: &Owned, token: &Token) {
        let (Some(store), Some(expires_at)) = (self.mappings.store(), token.credential.expires_at) else {
            return;
        };
        let stored = StoredToken {
            kind: self.place.kind.clone(),
            settings: self.place.settings,
            value: fields::write(&token.credential.headers),
            obtained_at: Timestamp::now(),
            expires_at,
        };
        let written = match self.key(request).await {
            Ok(key) => store.put_token(key, stored).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(provider = %self.place.provider, error = error.log_text(), "a token is kept in memory only");
        }
    }
}

impl Owned {
    fn of(request: &CredentialRequest<'_>) -> Self {
        Self {
            caller: request.caller.cloned(),
            head: request.head.cloned(),
            remote_scope: request.remote_scope.cloned(),
        }
    }
}
