//! Bearer tokens of trusted issuers (OpenID Connect, RFC 9068): signature, times, issuer and audience are checked, and
//! claims become a caller.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::request::Parts;
use moka::sync::Cache;
use serde_json::Value;
use standpipe_api::{Authenticator, Caller, Connection, Identified, Timestamp, bearer, bearer_octets};

use crate::config::TrustedIssuer;
use crate::fingerprint::Fingerprints;
use crate::jwt::{Claims, Expected, Issuers, Place, Rejection, Token, expires_at};

/// Verified tokens remembered, by keyed hash.
const REMEMBERED: u64 = 10_000;

/// The `oidc` authenticator.
pub struct Oidc {
    trusted: Vec<TrustedIssuer>,
    issuers: Arc<Issuers>,
    remembered: Cache<u128, Remembered>,
    fingerprints: Fingerprints,
}

#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    until: Timestamp,
}

/// A token that is good, with whom it stands for.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Whom it stands for.
    pub caller: Arc<Caller>,
    /// All it says.
    pub claims: Claims,
}

impl Oidc {
    /// Trusts these issuers.
    pub fn new(trusted: Vec<TrustedIssuer>, issuers: Arc<Issuers>) -> Self {
        let fingerprints = Fingerprints::new();
        let remembered = Cache::new(fingerprints.capacity(REMEMBERED));
        Self { trusted, issuers, remembered, fingerprints }
    }

    /// Verifies a token of a trusted issuer; `None` when it is none of theirs.
    ///
    /// # Errors
    /// It is no good, or could not be checked.
    pub async fn verify(&self, text: &str) -> Result<Option<Verified>, Rejection> {
        if text.len() > crate::jwt::LONGEST {
            return Err(Rejection::Bad(format!("the token has {} bytes", text.len())));
        }
        let Some(token) = Token::parse(text) else { return Ok(None) };
        let Some(trusted) = self.trusted.iter().find(|trusted| trusted.issuer == token.issuer()) else {
            return Ok(None);
        };
        let expected = Expected {
            algorithms: &trusted.algorithms,
            audience: Some(&trusted.audience),
            kind: None,
            leeway: trusted.leeway,
        };
        let claims = token.verify(&self.issuers, &Place::of(trusted), &expected).await?;
        let caller = caller(trusted, &claims).ok_or_else(|| {
            Rejection::Bad(format!("the token has no text {} to name its caller", trusted.caller_claim))
        })?;
        Ok(Some(Verified { caller: Arc::new(caller), claims }))
    }
}

impl Oidc {
    /// Whether a request carries a token of an issuer that callers are trusted by, good or not, whichever listener it came
    /// through: such a token goes to nobody else (decision 31).
    pub fn has_own(&self, headers: &http::HeaderMap) -> bool {
        let token = bearer(headers).and_then(Token::parse);
        token.is_some_and(|token| self.trusted.iter().any(|trusted| trusted.issuer == token.issuer()))
    }
}

/// Who a token stands for. The issuer's name is part of the id: two issuers may both have an `ann`.
fn caller(trusted: &TrustedIssuer, claims: &Claims) -> Option<Caller> {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = text(&trusted.caller_claim)?;
    let groups = trusted.groups_claim.as_ref().and_then(|claim| claims.get(claim));
    let groups = match groups {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(groups)) => groups.split_whitespace().map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let tenant = trusted.tenant_claim.as_ref().and_then(|claim| text(claim)).map(str::to_owned);
    Some(Caller { id: format!("oidc:{}:{id}", trusted.name).into(), tenant, groups, authenticator: "oidc" })
}

#[async_trait(?Send)]
impl Authenticator for Oidc {
    fn name(&self) -> &'static str {
        "oidc"
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(r#"Bearer realm="standpipe""#))
    }

    fn applies(&self, head: &Parts, _connection: &Connection) -> bool {
        bearer_octets(&head.headers).is_some()
    }

    fn recall(&self, head: &Parts, _connection: &Connection) -> Option<Arc<Caller>> {
        let known = self.remembered.get(&self.fingerprints.of(&[bearer_octets(&head.headers)?]))?;
        (known.until > Timestamp::now()).then_some(known.caller)
    }

    async fn identify(&self, head: &Parts, _connection: &Connection) -> Identified {
        let Some(token) = bearer(&head.headers) else { return Identified::NotMine };
        match self.verify(token).await {
            Ok(Some(verified)) => {
                let (caller, until) = (verified.caller, expires_at(&verified.claims));
                self.remembered.insert(
                    self.fingerprints.of(&[token.as_bytes()]),
                    Remembered { caller: caller.clone(), until },
                );
                Identified::Caller(caller)
            }
            Ok(None) => Identified::NotMine,
            Err(Rejection::Bad(reason)) => Identified::Refused(reason),
            Err(Rejection::CouldNotCheck(reason)) => Identified::CouldNotCheck(reason),
        }
    }
}
