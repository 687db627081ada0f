//! Tokens that others signed: a compact JWS in, its claims out, or why not.
//!
//! What a token may be signed with is the operator's choice, never the token's: `alg` only picks among the allowed,
//! and a key only ever verifies what its type is for. Keys named inside a token (`jwk`, `jku`, `x5u`, `x5c`) are
//! ignored. Nothing here decides what a token's subject may do.

mod issuers;
mod keys;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};
use standpipe_api::Timestamp;

pub use self::issuers::{Issuers, OwnKeys, Place, Reach};
pub use self::keys::KeySet;

/// Longer tokens are refused unread.
pub const LONGEST: usize = 16 * 1024;
/// The `typ` of tokens between peers, which are nobody's caller token (decision 33).
pub const PEER: &str = "standpipe-peer+jwt";

/// Claims of a token (RFC 7519, section 4).
pub type Claims = Map<String, Value>;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is no good. The sentence is for the log.
    Bad(String),
    /// Its issuer's keys could not be had.
    CouldNotCheck(String),
}

/// What a good token is like.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// What it may be signed with.
    pub algorithms: &'a [Algorithm],
    /// Whom it must be for; `None`: the reader checks `aud` itself.
    pub audience: Option<&'a str>,
    /// The `typ` it must have; `None`: any but [`PEER`].
    pub kind: Option<&'a str>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// A token taken apart, and not yet believed.
pub struct Token<'a> {
    text: &'a str,
    header: Header,
    claims: Claims,
}

/// What is read of a header; everything else in it is ignored.
#[derive(Deserialize)]
struct Header {
    alg: Value,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

fn bad(text: impl Into<String>) -> Rejection {
    Rejection::Bad(text.into())
}

/// Whether a text is a token that one standpipe shows another; nobody has verified it.
pub fn is_of_peer(text: &str) -> bool {
    let token = Token::parse(text);
    token.and_then(|token| token.header.typ).is_some_and(|typ| typ.eq_ignore_ascii_case(PEER))
}

impl<'a> Token<'a> {
    /// Takes a token apart; `None` when it is no JWS at all, but perhaps some other kind of token.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut parts = text.split('.');
        let (header, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let read = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            text,
            header: serde_json::from_slice(&read(header)?).ok()?,
            claims: serde_json::from_slice(&read(claims)?).ok()?,
        })
    }

    /// A claim that is a text; nobody has verified it.
    pub fn claimed(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// What it claims; nobody has verified it.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Who says it signed the token.
    pub fn issuer(&self) -> &str {
        self.claimed("iss").unwrap_or_default()
    }

    /// Verifies signature, times, issuer and audience.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub async fn verify(
        &self,
        issuers: &Arc<Issuers>,
        place: &Place,
        expected: &Expected<'_>,
    ) -> Result<Claims, Rejection> {
        let algorithm = self.check_header(expected)?;
        let keys = issuers.keys(place).await.map_err(Rejection::CouldNotCheck)?;
        let first = self.check_signature(&keys, algorithm, place, expected);
        // Brokers in the field change keys under one kid, so that a bad signature may be an old key (decision 34).
        let Err(Flaw::Key(flaw)) = first else { return first.map_err(|flaw| bad(flaw.text())) };
        match issuers.newer(place, &keys).await {
            Some(keys) => {
                self.check_signature(&keys, algorithm, place, expected).map_err(|flaw| bad(flaw.text()))
            }
            None => Err(bad(flaw)),
        }
    }

    fn check_header(&self, expected: &Expected<'_>) -> Result<Algorithm, Rejection> {
        if self.header.crit.is_some() {
            return Err(bad("its header holds `crit`"));
        }
        let typ = self.header.typ.as_deref();
        match expected.kind {
            Some(kind) if typ != Some(kind) => return Err(bad(format!("its typ is not {kind}"))),
            None if typ.is_some_and(|typ| typ.eq_ignore_ascii_case(PEER)) => {
                return Err(bad("it is a token between peers"));
            }
            _ => {}
        }
        let named: Option<Algorithm> = serde_json::from_value(self.header.alg.clone()).ok();
        let allowed = named.filter(|named| expected.algorithms.contains(named) && is_asymmetric(*named));
        allowed.ok_or_else(|| bad(format!("its algorithm {} is not allowed", self.header.alg)))
    }

    fn check_signature(
        &self,
        keys: &KeySet,
        algorithm: Algorithm,
        place: &Place,
        expected: &Expected<'_>,
    ) -> Result<Claims, Flaw> {
        let mut rules = jsonwebtoken::Validation::new(algorithm);
        rules.leeway = expected.leeway.as_secs();
        rules.validate_nbf = true;
        rules.set_issuer(&[&place.issuer]);
        rules.set_required_spec_claims(&["exp", "iss"]);
        match expected.audience {
            Some(audience) => {
                rules.set_audience(&[audience]);
                rules.required_spec_claims.insert("aud".to_owned());
            }
            None => rules.validate_aud = false,
        }
        let mut flaw = Flaw::Key(format!("{} has no key for it", place.issuer));
        for key in keys.candidates(self.header.kid.as_deref(), algorithm) {
            match jsonwebtoken::decode::<Claims>(self.text, key, &rules) {
                Ok(token) if token.claims.get("iss").and_then(Value::as_str) == Some(&place.issuer) => {
                    return check_times(token.claims, expected.leeway);
                }
                Ok(_) => return Err(Flaw::Token("its iss is no text".into())),
                Err(error) => match error.kind() {
                    jsonwebtoken::errors::ErrorKind::InvalidSignature => {
                        flaw = Flaw::Key("its signature is wrong".into());
                    }
                    other => return Err(Flaw::Token(format!("{other:?}"))),
                },
            }
        }
        Err(flaw)
    }
}

/// What is wrong: with the key, so that another key may do, or with the token.
enum Flaw {
    Key(String),
    Token(String),
}

impl Flaw {
    fn text(self) -> String {
        match self {
            Self::Key(text) | Self::Token(text) => text,
        }
    }
}

fn is_asymmetric(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// Times are numbers (RFC 7519, section 2), and a token is not from the future.
fn check_times(claims: Claims, leeway: Duration) -> Result<Claims, Flaw> {
    let now = Timestamp::now().as_millis() / 1000;
    for name in ["exp", "nbf", "iat"] {
        if claims.get(name).is_some_and(|time| !time.is_number()) {
            return Err(Flaw::Token(format!("its {name} is not a number")));
        }
    }
    let leeway = i64::try_from(leeway.as_secs()).unwrap_or(i64::MAX);
    if seconds(&claims, "iat").is_some_and(|iat| iat > now.saturating_add(leeway)) {
        return Err(Flaw::Token("it was issued in the future".into()));
    }
    Ok(claims)
}

fn seconds(claims: &Claims, name: &str) -> Option<i64> {
    let time = claims.get(name)?;
    // Fractions are allowed and cut off.
    time.as_i64().or_else(|| time.to_string().split('.').next()?.parse().ok())
}

/// When verified claims end.
pub fn expires_at(claims: &Claims) -> Timestamp {
    Timestamp::from_millis(seconds(claims, "exp").unwrap_or(0).saturating_mul(1000))
}
