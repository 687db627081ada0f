//! Who is calling, and with which credential a provider is asked.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    Caller, Connection, CredentialAlias, Error, Problems, ProviderId, RemoteScope, Result, SecretRef,
    Timestamp,
};

/// Recognises callers by one kind of credential.
#[async_trait(?Send)]
pub trait Authenticator: Send + Sync + 'static {
    /// The word used in `callers = [..]` of a listener.
    fn name(&self) -> &'static str;

    /// The `WWW-Authenticate` challenge a 401 carries for it (RFC 9110, section 11.6.1).
    fn challenge(&self) -> Option<HeaderValue>;

    /// A caller recognised from memory, without waiting. The plain forward lives from this.
    fn recall(&self, _head: &Parts, _connection: &Connection) -> Option<Arc<Caller>> {
        None
    }

    /// Whether the request carries something of this authenticator's kind, good or not: then no later one is asked.
    fn applies(&self, _head: &Parts, _connection: &Connection) -> bool {
        true
    }

    /// Recognises the caller, taking what time it needs off the serving core.
    async fn identify(&self, head: &Parts, connection: &Connection) -> Identified;
}

/// What an authenticator says of a request.
#[derive(Clone, Debug)]
pub enum Identified {
    /// This is who it is.
    Caller(Arc<Caller>),
    /// The request carries nothing of this authenticator's kind; ask the next.
    NotMine,
    /// It carries something of this kind that is not good. The reason is for the log.
    Refused(String),
    /// It could not be checked.
    CouldNotCheck(String),
}

/// Makes credential sources of one kind from configuration.
pub trait CredentialStrategy: Send + Sync + 'static {
    /// The word used in `credential = { kind = ".." }`.
    fn kind(&self) -> &'static str;

    /// Reads the credential's table.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems>;
}

/// Reads secrets where references point.
pub trait Secrets {
    /// The secret's text.
    ///
    /// # Errors
    /// A sentence that says what is missing; it never holds the secret.
    fn read(&self, reference: &SecretRef) -> Result<SecretString, String>;

    /// Has the follower told the secret's text whenever it may have changed, until it wants no more. By default it is
    /// never told: not every secret can change.
    fn follow(&self, _reference: &SecretRef, _follower: SecretFollower) {}
}

/// Takes a secret that may have changed, on any thread; `false` when it wants no more of them.
pub type SecretFollower = Box<dyn Fn(&SecretString) -> bool + Send + Sync>;

/// Obtains the credential of one provider.
#[async_trait(?Send)]
pub trait CredentialSource: Send + Sync + 'static {
    /// A credential at hand without waiting.
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        None
    }

    /// Obtains a credential; exchanges tokens where needed.
    ///
    /// # Errors
    /// The caller may not have one, or the party that gives it did not.
    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential>;

    /// For whom the engine keeps what [`CredentialSource::obtain`] gives, in memory and sealed in the store, until it
    /// ends: such a source only obtains, and is asked once however many calls wait.
    fn keeping<'a>(&self, _request: &CredentialRequest<'a>) -> Keeping<'a> {
        Keeping::Nobody
    }

    /// The credential that carries a token of the provider's which somebody else obtained for a caller, such as a peer:
    /// by default a bearer token (RFC 6750).
    ///
    /// # Errors
    /// It does not fit a header field.
    fn carry(&self, token: &SecretString) -> Result<Credential> {
        let field = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
        let field = field.map_err(|_| Error::invalid("the token does not fit a header field"))?;
        Ok(Credential::authorization(field))
    }

    /// The provider said 401: whatever was remembered for this request is no good.
    fn refused(&self, _request: &CredentialRequest<'_>) {}

    /// The provider answered 401 to a request that carried `sent`, with these fields. Says whether obtaining the
    /// credential anew may help; the engine then asks for it and sends the request once more, if it still has it.
    fn challenged(
        &self,
        request: &CredentialRequest<'_>,
        _sent: &Credential,
        _answer: &HeaderMap,
    ) -> Challenged {
        self.refused(request);
        Challenged::Final
    }

    /// Whether the caller's own credential reaches the provider, which then is not asked together with strangers.
    fn passes_on(&self) -> bool {
        !self.is_unattended()
    }

    /// Whether what it gives stands for the caller and for nobody else; nothing else is handed to callers.
    fn is_bound_to_caller(&self) -> bool {
        false
    }

    /// Whether what it gives can say who acts for the caller.
    fn names_actors(&self) -> bool {
        false
    }

    /// Whether background work can use it without a caller.
    fn is_unattended(&self) -> bool {
        true
    }
}

/// For whom the engine keeps a credential.
#[derive(Clone, Copy)]
pub enum Keeping<'a> {
    /// For nobody: it is made anew for each request, or the source keeps it itself.
    Nobody,
    /// For every caller: it is standpipe's own.
    Everybody,
    /// For whoever brings this token, which is kept only as a keyed hash.
    Token(&'a [u8]),
}

/// What a 401 of a provider means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenged {
    /// Asking for the credential anew may help.
    Renewable,
    /// It would be the same; the 401 is the answer.
    Final,
}

/// For whom and where a credential is wanted.
#[derive(Clone, Copy, Debug)]
pub struct CredentialRequest<'a> {
    /// The caller; `None` for background work.
    pub caller: Option<&'a Caller>,
    /// The caller's request head, for strategies that exchange what it carries.
    pub head: Option<&'a http::HeaderMap>,
    /// The provider.
    pub provider: &'a ProviderId,
    /// The scope inside the provider.
    pub remote_scope: Option<&'a RemoteScope>,
    /// The alias kept with the mapping of the resource.
    pub alias: Option<&'a CredentialAlias>,
    /// The `act` claim of who acts for the caller (RFC 8693, section 4.1); only for sources that name actors.
    pub actor: Option<&'a serde_json::Value>,
}

impl<'a> CredentialRequest<'a> {
    /// The caller's bearer token (RFC 6750, section 2.1), if it came with one.
    pub fn bearer(&self) -> Option<&'a str> {
        bearer(self.head?)
    }

    /// The same, unread.
    pub fn bearer_octets(&self) -> Option<&'a [u8]> {
        bearer_octets(self.head?)
    }
}

/// The bearer token of a request (RFC 6750, section 2.1); `None` when there is none, or an empty one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    std::str::from_utf8(bearer_octets(headers)?).ok()
}

/// The same for whoever only looks it up: every call of a caller with a token pays for each byte of it, and to read it as text
/// costs as much again. All of it is ASCII.
pub fn bearer_octets(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    let token = token.trim_ascii();
    let is_one = scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && token.is_ascii();
    is_one.then_some(token)
}

/// What a request to a provider carries to be let in.
#[derive(Clone)]
pub struct Credential {
    /// Header fields, marked sensitive; they replace fields of the same name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the caller's own `Authorization` travels on.
    pub authorization: CallerAuthorization,
    /// Under which of the provider's credentials this is.
    pub alias: Option<CredentialAlias>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// What completes it for each request.
    pub stamp: Option<Arc<dyn Stamp>>,
}

/// Completes a credential for one request, where method and target are part of it (RFC 7616).
pub trait Stamp: Send + Sync {
    /// The fields for a request that is about to leave; the target is the one sent. They replace fields of the same name.
    fn stamp(&self, method: &Method, target: &Uri) -> Vec<(HeaderName, HeaderValue)>;
}

/// Signs claims as standpipe's own issuer. Works on any thread.
#[async_trait]
pub trait Signer: Send + Sync {
    /// A compact JWS (RFC 7515) over the claims, `kid` set. The signer adds `iss`, `iat` and `jti` where they are absent.
    ///
    /// # Errors
    /// The claims are no object, or the keys cannot be read.
    async fn sign(&self, claims: &serde_json::Value, algorithm: SigningAlgorithm) -> Result<SecretString>;
}

/// Verifies tokens of brokers. Works on any thread.
#[async_trait]
pub trait Verifier: Send + Sync {
    /// A token's claims, when the issuer it names has signed it and it is in force: standpipe itself, one that the
    /// operator trusts, or one whose address may be asked for its keys. The reader checks `sub` and `aud`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unauthenticated`]: it is not good. Others: nobody could be asked for the keys.
    async fn verify(&self, token: &SecretString) -> Result<serde_json::Value>;

    /// The same for an issuer whose keys are at an address that the operator configured.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    async fn verify_at(&self, token: &SecretString, jwks_url: &str) -> Result<serde_json::Value>;
}

/// What a token is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256 with SHA-256; the rule.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, for cloudpipe brokers, which know nothing else.
    Rs256,
}

/// What becomes of the caller's `Authorization` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerAuthorization {
    /// It is removed; the rule.
    Removed,
    /// It travels to the provider unchanged; only for `passthrough`.
    PassedOn,
}

impl Credential {
    /// No credential at all.
    pub const fn none() -> Self {
        Self {
            headers: Vec::new(),
            authorization: CallerAuthorization::Removed,
            alias: None,
            expires_at: None,
            stamp: None,
        }
    }

    /// An `Authorization` field.
    pub fn authorization(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self { headers: vec![(AUTHORIZATION, value)], ..Self::none() }
    }

    /// Whether a provider that refuses it may accept another one.
    pub fn is_renewable(&self) -> bool {
        self.stamp.is_some() || self.expires_at.is_some()
    }

    /// Completes a request that carries the credential and is about to leave. What the stamp adds is part of the
    /// credential from then on.
    pub fn complete(&mut self, method: &Method, target: &Uri, headers: &mut HeaderMap) {
        let Some(stamp) = &self.stamp else { return };
        for (name, mut value) in stamp.stamp(method, target) {
            value.set_sensitive(true);
            headers.insert(name.clone(), value.clone());
            self.headers.push((name, value));
        }
    }
}

impl fmt::Debug for Keeping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeping(..)")
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_bearer_token_is_what_stands_behind_the_word() {
        for (said, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER   a.b-c \t", Some("a.b-c")),
            ("Bearer a b", Some("a b")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Bearerabc", None),
            ("Basic abcdef", None),
            ("Bearer \u{e9}", None),
        ] {
            let value = HeaderValue::from_bytes(said.as_bytes()).unwrap();
            assert_eq!(bearer(&HeaderMap::from_iter([(AUTHORIZATION, value)])), token, "{said}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
