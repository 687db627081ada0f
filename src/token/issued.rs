//! `issued`: a short-lived token that standpipe signs, with the caller as subject and the provider as audience. A
//! provider that trusts standpipe's keys needs no account of ours.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use moka::sync::Cache;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use standpipe_api::{
    Caller, Credential, CredentialRequest, CredentialSource, CredentialStrategy, Error, ErrorKind, Fault,
    Problem, Problems, Result, Secrets, Settings, Signer, SigningAlgorithm, Timestamp,
};
use zeroize::Zeroizing;

use crate::fingerprint::Fingerprints;
use crate::jwt::{Token, expires_at};

/// Tokens remembered of each provider.
const REMEMBERED: u64 = 10_000;
/// How long a token lives unless the configuration says otherwise.
const LIFETIME: Duration = Duration::from_secs(300);
/// The shortest that makes sense between clocks that differ.
const SHORTEST: Duration = Duration::from_secs(30);
/// The longest: nobody can take such a token back.
const LONGEST: Duration = Duration::from_secs(3600);

/// The `issued` strategy.
pub(super) struct Issued(pub(super) Option<Arc<dyn Signer>>);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    audience: Option<String>,
    lifetime: Option<String>,
    algorithm: Option<String>,
}

struct Source {
    signer: Option<Arc<dyn Signer>>,
    audience: Option<String>,
    lifetime: Duration,
    algorithm: SigningAlgorithm,
    fingerprints: Fingerprints,
    remembered: Cache<u128, Credential>,
}

impl CredentialStrategy for Issued {
    fn kind(&self) -> &'static str {
        "issued"
    }

    fn source(
        &self,
        table: &toml::Table,
        _secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let keys: Keys = Settings::read(table)?;
        let mut problems = Problems::new();
        let algorithm = match keys.algorithm.as_deref() {
            None | Some("ES256") => SigningAlgorithm::Es256,
            Some("RS256") => SigningAlgorithm::Rs256,
            Some(_) => {
                problems.push(Problem::at("algorithm", "must be \"ES256\" or \"RS256\""));
                SigningAlgorithm::Es256
            }
        };
        let lifetime = match keys.lifetime.as_deref().map(humantime::parse_duration) {
            None => LIFETIME,
            Some(Ok(lifetime)) if (SHORTEST..=LONGEST).contains(&lifetime) => lifetime,
            Some(_) => {
                problems.push(Problem::at("lifetime", "must be a span of time from \"30s\" to \"1h\""));
                LIFETIME
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let fingerprints = Fingerprints::new();
        let remembered =
            Cache::builder().max_capacity(fingerprints.capacity(REMEMBERED)).time_to_live(lifetime).build();
        let (signer, audience) = (self.0.clone(), keys.audience);
        Ok(Arc::new(Source { signer, audience, lifetime, algorithm, fingerprints, remembered }))
    }
}

impl Source {
    /// Tokens differ by caller, and by the caller's own token, which they must not outlive.
    fn fingerprint(&self, caller: &Caller, request: &CredentialRequest<'_>) -> u128 {
        let own = request.bearer().unwrap_or_default();
        self.fingerprints.of(&[caller.id.as_str().as_bytes(), own.as_bytes()])
    }

    fn claims(&self, caller: &Caller, request: &CredentialRequest<'_>, end: Timestamp) -> Value {
        let audience = self.audience.clone().unwrap_or_else(|| request.provider.to_string());
        let mut claims = Map::new();
        claims.insert("sub".into(), caller.id.as_str().into());
        claims.insert("aud".into(), audience.into());
        claims.insert("exp".into(), (end.as_millis() / 1000).into());
        if let Some(tenant) = &caller.tenant {
            claims.insert("tenant".into(), tenant.as_str().into());
        }
        if !caller.groups.is_empty() {
            claims.insert("groups".into(), caller.groups.clone().into());
        }
        if let Some(actor) = request.actor {
            claims.insert("act".into(), actor.clone());
        }
        claims.into()
    }
}

/// When the token ends that a caller came with, where it came with one.
fn end_of_own(caller: &Caller, request: &CredentialRequest<'_>) -> Option<Timestamp> {
    let token = Token::parse(request.bearer()?)?;
    (caller.authenticator == "oidc").then(|| expires_at(token.claims()))
}

#[async_trait(?Send)]
impl CredentialSource for Source {
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        let known = self.remembered.get(&self.fingerprint(request.caller?, request))?;
        let soon = Timestamp::now().plus(SHORTEST / 2);
        (request.actor.is_none() && known.expires_at.is_some_and(|end| end > soon)).then_some(known)
    }

    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let nobody = || {
            let public =
                format!("{} takes only tokens for a caller, and nobody is calling", request.provider);
            Error::new(ErrorKind::CouldNotAsk, Fault::Provider(request.provider.clone()), public)
        };
        let caller = request.caller.ok_or_else(nobody)?;
        let signer = self.signer.as_ref().ok_or_else(|| Error::internal("nothing is signed here"))?;
        let end = Timestamp::now().plus(self.lifetime);
        let end = end_of_own(caller, request).map_or(end, |own| own.min(end));
        let token = signer.sign(&self.claims(caller, request, end), self.algorithm).await?;
        let field = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
        let field =
            HeaderValue::from_str(&field).map_err(|_| Error::internal("a token does not fit a field"))?;
        let credential = Credential { expires_at: Some(end), ..Credential::authorization(field) };
        if request.actor.is_none() {
            self.remembered.insert(self.fingerprint(caller, request), credential.clone());
        }
        Ok(credential)
    }

    fn refused(&self, request: &CredentialRequest<'_>) {
        if let Some(caller) = request.caller {
            self.remembered.invalidate(&self.fingerprint(caller, request));
        }
    }

    fn is_unattended(&self) -> bool {
        false
    }

    fn passes_on(&self) -> bool {
        false
    }

    fn is_bound_to_caller(&self) -> bool {
        true
    }

    fn names_actors(&self) -> bool {
        true
    }
}
