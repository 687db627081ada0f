//! standpipe as a party of OpenID Connect: keys of its own, published; tokens signed with them.
//!
//! In: claims. Out: compact JWS (RFC 7515), a JWK set, a discovery document. Keys live sealed in the store, so that the
//! issuer is the same after a restart; each signs for a while and verifies for a while longer. Who may have which
//! token is decided elsewhere.

pub mod exchange;
mod face;
mod key;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};
use standpipe_api::{Change, Error, Result, Signer, SigningAlgorithm, Timestamp};

use self::key::{Key, Stored};
use crate::jwt::{KeySet, OwnKeys, PEER};
use crate::store::{Namespace, Store};

/// How long a new key is published before it signs: others keep sets of keys for about as long.
const NOTICE: Duration = Duration::from_secs(3600);
/// How long a key that no longer signs is still published; longer than any token lives.
const AFTERWARDS: Duration = Duration::from_secs(24 * 3600);
/// How often rotation is looked at.
const LOOK: Duration = Duration::from_secs(600);
/// Compare-and-sets that lost before giving up.
const TRIES: usize = 8;
/// How long a token for a peer counts: it is made for one request, and clocks differ.
const PEER_TOKEN: Duration = Duration::from_secs(120);
/// The record that holds the keys.
const RECORD: &str = "keys";

/// The issuer.
pub struct Issuer {
    url: String,
    rotate_every: Duration,
    store: Arc<dyn Store>,
    keys: ArcSwap<Keys>,
}

struct Keys {
    keys: Vec<Key>,
    public: Arc<KeySet>,
    jwks: Bytes,
}

impl Issuer {
    /// Opens the keys, making the first ones when there are none.
    ///
    /// # Errors
    /// The store does not answer, or holds keys that cannot be read.
    pub async fn open(store: Arc<dyn Store>, url: String, rotate_every: Duration) -> Result<Arc<Self>> {
        let keys = rotate(&*store, rotate_every).await?;
        Ok(Arc::new(Self { url, rotate_every, store, keys: ArcSwap::from_pointee(keys) }))
    }

    /// The issuer's name, which all its tokens carry.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Rotates the keys when their time has come, as long as it is polled.
    pub async fn keep_rotating(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            match rotate(&*self.store, self.rotate_every).await {
                Ok(keys) => self.keys.store(Arc::new(keys)),
                Err(error) => tracing::error!(error = error.log_text(), "signing keys cannot be rotated"),
            }
        }
    }

    /// A short-lived token by which a peer recognises this standpipe (decision 33).
    ///
    /// # Errors
    /// There is no key to sign with.
    pub fn peer_token(&self, audience: &str) -> Result<SecretString> {
        let end = Timestamp::now().plus(PEER_TOKEN).as_millis() / 1000;
        let claims = json!({"sub": self.url, "aud": audience, "exp": end});
        self.signed(&claims, SigningAlgorithm::Es256, PEER)
    }

    /// The discovery document (OpenID Connect Discovery 1.0, section 3).
    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/.well-known/jwks.json", self.url),
            "token_endpoint": format!("{}/oauth2/token", self.url),
            "grant_types_supported": [exchange::GRANT],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        })
    }

    /// A compact JWS over the claims, of a type; `iss`, `iat` and `jti` are added where they are absent.
    ///
    /// # Errors
    /// The claims are no object, or no key can sign.
    pub fn signed(&self, claims: &Value, algorithm: SigningAlgorithm, typ: &str) -> Result<SecretString> {
        let Value::Object(mut claims) = claims.clone() else {
            return Err(Error::internal("claims must be an object"));
        };
        let now = Timestamp::now();
        let id = format!("{:032x}", fastrand::u128(..));
        for (name, value) in [
            ("iss", Value::from(self.url.as_str())),
            ("iat", (now.as_millis() / 1000).into()),
            ("jti", id.into()),
        ] {
            claims.entry(name).or_insert(value);
        }
        let keys = self.keys.load();
        let usable = keys.keys.iter().filter(|key| key.algorithm() == algorithm && key.signs_at(now));
        let key = usable.max_by_key(|key| key.stored.signs_from);
        let key = key.ok_or_else(|| Error::internal("there is no key to sign with"))?;
        let header = json!({"alg": key.word(), "kid": key.stored.kid, "typ": typ}).to_string();
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let mut token = format!("{}.{}", encode(header), encode(Value::Object(claims).to_string()));
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token.into())
    }
}

impl OwnKeys for Issuer {
    fn issuer(&self) -> &str {
        &self.url
    }

    fn keys(&self) -> Arc<KeySet> {
        self.keys.load().public.clone()
    }
}

#[async_trait]
impl Signer for Issuer {
    async fn sign(&self, claims: &Value, algorithm: SigningAlgorithm) -> Result<SecretString> {
        self.signed(claims, algorithm, "JWT")
    }
}

/// Reads the keys, adds what is missing or due, drops what has ended, and writes what changed.
async fn rotate(store: &dyn Store, every: Duration) -> Result<Keys> {
    let namespace = Namespace::engine("issuer");
    for _ in 0..TRIES {
        let record = store.record(&namespace, RECORD).await.map_err(Error::from)?;
        let unreadable =
            |error: serde_json::Error| Error::internal("the signing keys cannot be read").because(error);
        let before: Vec<Stored> = match &record {
            Some(record) => serde_json::from_slice(&record.value).map_err(unreadable)?,
            None => Vec::new(),
        };
        let after = due(&before, every, Timestamp::now())?;
        if after == before {
            return Keys::open(after);
        }
        let value = Bytes::from(serde_json::to_vec(&after).map_err(unreadable)?);
        let put = Change::Put { key: RECORD.into(), value, expected: record.map(|record| record.revision) };
        if store.commit(&namespace, vec![put]).await.map_err(Error::from)?.is_ok() {
            return Keys::open(after);
        }
    }
    Err(Error::internal("the signing keys are changed by somebody else all the time"))
}

/// The keys as they should be now.
fn due(keys: &[Stored], every: Duration, now: Timestamp) -> Result<Vec<Stored>> {
    let mut kept: Vec<Stored> =
        keys.iter().filter(|key| key.published_until.is_none_or(|end| end > now)).cloned().collect();
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        let newest = kept.iter().filter(|key| key.algorithm() == algorithm).map(|key| key.signs_from).max();
        let signs_from = match newest {
            None => now,
            Some(newest) if newest.plus(every) <= now => now.plus(NOTICE),
            Some(_) => continue,
        };
        for old in kept.iter_mut().filter(|key| key.algorithm() == algorithm) {
            old.published_until.get_or_insert(signs_from.plus(AFTERWARDS));
        }
        kept.push(Stored::generate(algorithm, signs_from)?);
    }
    Ok(kept)
}

impl Keys {
    fn open(stored: Vec<Stored>) -> Result<Self> {
        let keys = stored.into_iter().map(Key::open).collect::<Result<Vec<Key>>>()?;
        let jwks = json!({"keys": keys.iter().map(Key::public).collect::<Vec<Value>>()}).to_string();
        let public = KeySet::parse(jwks.as_bytes()).map_err(Error::internal)?;
        Ok(Self { keys, public: Arc::new(public), jwks: jwks.into() })
    }
}

#[cfg(test)]
mod tests;
