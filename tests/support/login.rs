//! An issuer of callers' tokens: discovery, keys, and tokens signed as a test wants them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use super::Origin;

pub struct Login {
    pub origin: Origin,
    key: EcdsaKeyPair,
    down: Arc<AtomicBool>,
}

impl Login {
    pub fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": "one",
            "x": BASE64URL.encode(&point[1..33]), "y": BASE64URL.encode(&point[33..]),
        });
        let down: Arc<AtomicBool> = Arc::default();
        let is_down = down.clone();
        let origin = Origin::new(move |mut peer| {
            while let Some(request) = peer.request() {
                let lower = request.to_lowercase();
                let host = lower.split("host: ").nth(1).unwrap().lines().next().unwrap().to_owned();
                let body = match request.split(' ').nth(1).unwrap() {
                    "/.well-known/openid-configuration" => {
                        json!({"issuer": format!("http://{host}"), "jwks_uri": format!("http://{host}/keys")})
                    }
                    _ => json!({"keys": [jwk]}),
                };
                let status = if is_down.load(Ordering::SeqCst) { "500 Down" } else { "200 OK" };
                let body = body.to_string();
                peer.wire.send(format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
        });
        Self { origin, key, down }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.origin.address)
    }

    /// What a standpipe's configuration says to trust it.
    pub fn trusted(&self) -> String {
        format!(
            "[[trusted_issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = \"standpipe\"\ntenant_claim = \"org\"\ngroups_claim = \"groups\"\n",
            self.url()
        )
    }

    pub fn fails(&self) {
        self.down.store(true, Ordering::SeqCst);
    }

    /// A good token for `sub`, with these claims on top.
    pub fn token(&self, sub: &str, more: Value) -> String {
        self.signed("JWT", sub, more)
    }

    /// A good token of a peer whose url this is, for a standpipe, with these claims on top.
    pub fn peer_token(&self, standpipe: SocketAddr, more: Value) -> String {
        let mut claims = json!({"aud": format!("http://{standpipe}/peer/v1")});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        self.signed("standpipe-peer+jwt", &self.url(), claims)
    }

    /// A token of a type for `sub`, with these claims on top.
    pub fn signed(&self, typ: &str, sub: &str, more: Value) -> String {
        let mut claims = json!({"iss": self.url(), "aud": "standpipe", "sub": sub, "exp": now() + 600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "ES256", "kid": "one", "typ": typ});
        let text =
            format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL.encode(signature))
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a token says, whoever signed it.
pub fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap_or_else(|| panic!("no token: {token}"));
    serde_json::from_slice(&BASE64URL.decode(claims).unwrap()).unwrap()
}
