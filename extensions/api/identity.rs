//! Who is calling, and with which credential a provider is asked.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use secrecy::SecretString;

use crate::{
    Caller, Connection, CredentialAlias, Problems, ProviderId, RemoteScope, Result, SecretRef, Timestamp,
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
}

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

    /// The provider said 401: whatever was remembered for this request is no good.
    fn refused(&self, _request: &CredentialRequest<'_>) {}

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
        }
    }

    /// An `Authorization` field.
    pub fn authorization(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self { headers: vec![(http::header::AUTHORIZATION, value)], ..Self::none() }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
