//! An issuer's public keys (RFC 7517), each for the algorithms its type is for.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Keys read of one set.
const MOST: usize = 64;
/// Keys tried for a token that does not say which (decision 34).
const TRIED: usize = 8;

/// The keys of one issuer.
#[derive(Clone, Default)]
pub struct KeySet(Vec<Known>);

#[derive(Clone)]
struct Known {
    kid: Option<String>,
    jwk: Jwk,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWK set. Keys of unknown types, and keys that are not for signatures, are left out (RFC 7517, section 5).
    ///
    /// # Errors
    /// It is no set of keys, or holds none that can verify.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let set: Value =
            serde_json::from_slice(text).map_err(|error| format!("the keys are not JSON: {error}"))?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("the answer holds no `keys`")?;
        let keys: Vec<Known> = keys.iter().take(MOST).filter_map(Known::read).collect();
        if keys.is_empty() { Err("there is no key that could verify a token".into()) } else { Ok(Self(keys)) }
    }

    /// The keys that may have signed a token: the one it names, or all that fit, at most eight.
    pub(super) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &DecodingKey> {
        let named = move |known: &&Known| match (kid, &known.kid) {
            (Some(kid), Some(known)) => kid == known,
            (None, _) | (_, None) => true,
        };
        let fitting = move |known: &&Known| known.fits(algorithm);
        self.0.iter().filter(named).filter(fitting).take(TRIED).map(|known| &known.key)
    }
}

impl Known {
    fn read(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { kid: jwk.common.key_id.clone(), jwk, key })
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let declared = self.jwk.common.key_algorithm;
        if declared.is_some_and(|declared| declared.to_string() != format!("{algorithm:?}")) {
            return false;
        }
        match &self.jwk.algorithm {
            AlgorithmParameters::RSA(_) => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            AlgorithmParameters::EllipticCurve(key) => matches!(
                (&key.curve, algorithm),
                (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
            ),
            AlgorithmParameters::OctetKeyPair(key) => {
                key.curve == EllipticCurve::Ed25519 && algorithm == Algorithm::EdDSA
            }
            _ => false,
        }
    }
}
