//! One signing key: as it is stored, as it signs, as others see it.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use standpipe_api::{Error, Result, SigningAlgorithm, Timestamp};

/// A key in its record, which is sealed at rest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) kid: String,
    alg: Alg,
    /// PKCS #8, base64url.
    key: String,
    /// From then on it signs.
    pub(super) signs_from: Timestamp,
    /// Until then it verifies; `None` while it is the newest.
    pub(super) published_until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Alg {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

/// A key that can sign.
pub(super) struct Key {
    pub(super) stored: Stored,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl Stored {
    /// Makes a key that signs from a moment on.
    pub(super) fn generate(algorithm: SigningAlgorithm, signs_from: Timestamp) -> Result<Self> {
        let failed = |_| Error::internal("no signing key can be made");
        let (alg, der) = match algorithm {
            SigningAlgorithm::Es256 => {
                let made =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                (Alg::Es256, made.map_err(failed)?.as_ref().to_vec())
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                (Alg::Rs256, der.as_ref().to_vec())
            }
        };
        let kid = format!("{:024x}", fastrand::u128(..) >> 32);
        Ok(Self { kid, alg, key: URL_SAFE_NO_PAD.encode(der), signs_from, published_until: None })
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self.alg {
            Alg::Es256 => SigningAlgorithm::Es256,
            Alg::Rs256 => SigningAlgorithm::Rs256,
        }
    }
}

impl Key {
    pub(super) fn open(stored: Stored) -> Result<Self> {
        let broken = || Error::internal("a stored signing key is broken");
        let der = URL_SAFE_NO_PAD.decode(&stored.key).map_err(|_| broken())?;
        let pair = match stored.alg {
            Alg::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
                Pair::Ec(pair.map_err(|_| broken())?)
            }
            Alg::Rs256 => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).map_err(|_| broken())?)),
        };
        Ok(Self { stored, pair })
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        self.stored.algorithm()
    }

    pub(super) fn signs_at(&self, now: Timestamp) -> bool {
        self.stored.signs_from <= now
    }

    /// The algorithm's name (RFC 7518, section 3.1).
    pub(super) fn word(&self) -> &'static str {
        match self.pair {
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::internal("a token cannot be signed");
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ec(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// As others see it (RFC 7517, section 4).
    pub(super) fn public(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (kid, alg) = (&self.stored.kid, self.word());
        match &self.pair {
            Pair::Ec(pair) => {
                // 4, x, y (SEC 1, section 2.3.3).
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
                json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": alg, "kid": kid, "x": encode(x), "y": encode(y)})
            }
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "use": "sig", "alg": alg, "kid": kid, "n": encode(&n), "e": encode(&e)})
            }
        }
    }
}
