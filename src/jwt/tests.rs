use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use serde_json::{Value, json};
use standpipe_api::{Answer, Error, Outbound, Result, Timestamp};

use super::*;

/// An outbound that reaches nobody.
pub(crate) fn nobody() -> Arc<dyn Outbound> {
    Arc::new(World::default())
}

/// Addresses and what they answer; how often anybody asked.
#[derive(Default)]
struct World {
    pages: std::sync::Mutex<std::collections::HashMap<String, String>>,
    asked: std::sync::atomic::AtomicUsize,
}

impl World {
    fn put(&self, url: &str, text: String) {
        self.pages.lock().unwrap().insert(url.to_owned(), text);
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[async_trait]
impl Outbound for World {
    async fn fetch(&self, request: http::Request<Bytes>, _limit: Duration) -> Result<Answer> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        tokio::task::yield_now().await;
        let page = self.pages.lock().unwrap().get(&request.uri().to_string()).cloned();
        let page = page.ok_or_else(|| Error::internal("nobody there"))?;
        Ok(http::Response::new(Bytes::from(page)))
    }

    async fn fetch_named(&self, request: http::Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.fetch(request, limit).await
    }
}

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "http://standpipe.test";

struct Pair(EcdsaKeyPair);

impl Pair {
    fn new() -> Self {
        let made = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self(made.unwrap())
    }

    fn jwk(&self, kid: Option<&str>) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..]));
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "x": x, "y": y});
        if let Some(kid) = kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    fn sign(&self, header: Value, claims: Value) -> String {
        let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", B64.encode(signature))
    }
}

fn now() -> i64 {
    Timestamp::now().as_millis() / 1000
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now() + 600, "iat": now()})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn publish(world: &World, keys: Value) {
    let discovery = json!({"issuer": ISSUER, "jwks_uri": "https://issuer.example/keys"}).to_string();
    world.put("https://issuer.example/.well-known/openid-configuration", discovery);
    world.put("https://issuer.example/keys", json!({"keys": keys}).to_string());
}

async fn verify(issuers: &Arc<Issuers>, token: &str) -> Result<Claims, Rejection> {
    let Some(token) = Token::parse(token) else { return Err(bad("no token")) };
    let place = Place { issuer: ISSUER.into(), jwks_url: None, reach: Reach::Configured };
    let expected = Expected {
        algorithms: &[Algorithm::ES256, Algorithm::RS256],
        audience: Some(AUDIENCE),
        kind: None,
        leeway: Duration::from_secs(30),
    };
    token.verify(issuers, &place, &expected).await
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "one", "typ": "JWT"})
}

#[tokio::test]
async fn hostile_tokens_are_refused_row_by_row() {
    let (world, pair, other) = (Arc::new(World::default()), Pair::new(), Pair::new());
    publish(&world, json!([pair.jwk(Some("one"))]));
    let issuers = Issuers::new(None, world.clone());
    assert!(verify(&issuers, &pair.sign(header(), claims())).await.is_ok());
    let header_with = |name: &str, value: Value| {
        let mut header = header();
        header[name] = value;
        header
    };
    let unsigned =
        |header: Value| format!("{}.{}.", B64.encode(header.to_string()), B64.encode(claims().to_string()));
    let jwk = pair.jwk(Some("one")).to_string();
    let hmac = {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, jwk.as_bytes());
        let text = format!(
            "{}.{}",
            B64.encode(header_with("alg", json!("HS256")).to_string()),
            B64.encode(claims().to_string())
        );
        format!("{text}.{}", B64.encode(aws_lc_rs::hmac::sign(&key, text.as_bytes())))
    };
    let mut tampered = pair.sign(header(), claims());
    tampered.insert(tampered.find('.').unwrap() + 5, 'A');
    let rows: Vec<(&str, String)> = vec![
        ("alg none", unsigned(json!({"alg": "none"}))),
        ("alg None", unsigned(json!({"alg": "None"}))),
        ("no alg", unsigned(json!({"typ": "JWT"}))),
        ("HS256 with the public key", hmac),
        ("an algorithm the key is not for", pair.sign(header_with("alg", json!("RS256")), claims())),
        ("an algorithm that is not allowed", pair.sign(header_with("alg", json!("ES384")), claims())),
        ("another key", other.sign(header(), claims())),
        ("an embedded key", other.sign(header_with("jwk", other.jwk(Some("one"))), claims())),
        ("a linked key", other.sign(header_with("jku", json!("https://evil.example/keys")), claims())),
        ("a linked certificate", other.sign(header_with("x5u", json!("https://evil.example/c")), claims())),
        ("crit", pair.sign(header_with("crit", json!(["exp"])), claims())),
        ("empty crit", pair.sign(header_with("crit", json!([])), claims())),
        ("expired", pair.sign(header(), with("exp", (now() - 60).into()))),
        ("exp as text", pair.sign(header(), with("exp", "9999999999".into()))),
        ("no exp", pair.sign(header(), with("exp", Value::Null))),
        ("not yet valid", pair.sign(header(), with("nbf", (now() + 600).into()))),
        ("from the future", pair.sign(header(), with("iat", (now() + 600).into()))),
        ("another audience", pair.sign(header(), with("aud", "http://standpipe.test.evil".into()))),
        ("no audience", pair.sign(header(), with("aud", Value::Null))),
        ("a look-alike issuer", pair.sign(header(), with("iss", "https://issuer.example.evil".into()))),
        ("a shorter issuer", pair.sign(header(), with("iss", "https://issuer.exampl".into()))),
        ("a list of issuers", pair.sign(header(), with("iss", json!([ISSUER, "x"])))),
        ("a peer's", pair.sign(header_with("typ", json!(PEER)), claims())),
        ("an unknown kid", pair.sign(header_with("kid", json!("two")), claims())),
        ("tampered", tampered),
        ("four parts", format!("{}.x", pair.sign(header(), claims()))),
        ("a mebibyte", pair.sign(header(), with("pad", "x".repeat(1 << 20).into()))),
        ("nothing", String::new()),
        ("dots", "..".into()),
    ];
    for (row, token) in rows {
        let said = verify(&issuers, &token).await;
        assert!(matches!(said, Err(Rejection::Bad(_))), "{row}: {said:?}");
    }
    assert!(verify(&issuers, &pair.sign(header(), with("aud", json!(["x", AUDIENCE])))).await.is_ok());
    assert!(
        verify(&issuers, &pair.sign(json!({"alg": "ES256"}), claims())).await.is_ok(),
        "no kid: all are tried"
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_kids_do_not_make_us_ask_again_and_again() {
    let (world, pair, next) = (Arc::new(World::default()), Pair::new(), Pair::new());
    publish(&world, json!([pair.jwk(Some("one"))]));
    let issuers = Issuers::new(None, world.clone());
    assert!(verify(&issuers, &pair.sign(header(), claims())).await.is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    let asked = world.asked();
    let storm = (0..100).map(|kid| {
        let token = pair.sign(json!({"alg": "ES256", "kid": kid.to_string()}), claims());
        let issuers = issuers.clone();
        async move { verify(&issuers, &token).await }
    });
    for said in futures_util::future::join_all(storm).await {
        assert!(matches!(said, Err(Rejection::Bad(_))));
    }
    assert!(world.asked() - asked <= 2, "one discovery and one set of keys, not {}", world.asked() - asked);
    publish(&world, json!([next.jwk(Some("one"))]));
    assert!(verify(&issuers, &next.sign(header(), claims())).await.is_err(), "asked a moment ago");
    tokio::time::advance(Duration::from_secs(11)).await;
    let said = verify(&issuers, &next.sign(header(), claims())).await;
    assert!(said.is_ok(), "new keys under the old kid are found: {said:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_stand_in_for_an_issuer_that_is_down() {
    let (world, pair) = (Arc::new(World::default()), Pair::new());
    let issuers = Issuers::new(None, world.clone());
    let token = || pair.sign(header(), claims());
    assert!(matches!(verify(&issuers, &token()).await, Err(Rejection::CouldNotCheck(_))));
    publish(&world, json!([pair.jwk(Some("one"))]));
    assert!(verify(&issuers, &token()).await.is_err(), "a failure is remembered for a moment");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(verify(&issuers, &token()).await.is_ok());
    world.pages.lock().unwrap().clear();
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(verify(&issuers, &token()).await.is_ok(), "the last keys stand in");
    tokio::time::advance(Duration::from_secs(25 * 3600)).await;
    assert!(verify(&issuers, &token()).await.is_err(), "but not for ever");
}

#[tokio::test]
async fn a_discovery_document_of_somebody_else_is_not_believed() {
    let (world, pair) = (Arc::new(World::default()), Pair::new());
    publish(&world, json!([pair.jwk(Some("one"))]));
    let other = json!({"issuer": "https://other.example", "jwks_uri": "https://issuer.example/keys"});
    world.put("https://issuer.example/.well-known/openid-configuration", other.to_string());
    let said = verify(&Issuers::new(None, world), &pair.sign(header(), claims())).await;
    assert!(matches!(said, Err(Rejection::CouldNotCheck(why)) if why.contains("other.example")));
}
