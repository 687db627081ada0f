use std::time::Duration;

use super::*;
use crate::jwt::{Algorithm, Expected, Token};
use crate::store::{MasterKey, Options, Sqlite};

async fn open(folder: &std::path::Path) -> Arc<Issuer> {
    let key = MasterKey::parse(&"ab".repeat(32).into()).unwrap();
    let store = Arc::new(Sqlite::open(folder, &key, &Options::default()).unwrap());
    Issuer::open(store, "http://standpipe.test".into(), Duration::from_secs(30 * 86400)).await.unwrap()
}

fn day(days: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + days * 86_400_000)
}

#[tokio::test]
async fn tokens_of_both_algorithms_verify_before_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = open(folder.path()).await;
    let (exp, aud) = (Timestamp::now().as_millis() / 1000 + 60, "http://broker/db/pipes/a");
    let claims = json!({"sub": "x", "aud": aud, "exp": exp});
    let mut tokens = Vec::new();
    for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::Rs256] {
        tokens.push(issuer.sign(&claims, algorithm).await.unwrap());
    }
    drop(issuer);
    let issuer = open(folder.path()).await;
    let issuers = crate::jwt::Issuers::new(Some(issuer.clone()), crate::jwt::tests::nobody());
    let place = crate::jwt::Place {
        issuer: issuer.url().into(),
        jwks_url: None,
        reach: crate::jwt::Reach::Configured,
    };
    let algorithms = [Algorithm::ES256, Algorithm::RS256];
    let expected = Expected {
        algorithms: &algorithms,
        audience: Some(aud),
        kind: None,
        leeway: Duration::from_secs(30),
    };
    for token in &tokens {
        let token = secrecy::ExposeSecret::expose_secret(token);
        let claims = Token::parse(token).unwrap().verify(&issuers, &place, &expected).await.unwrap();
        assert_eq!((claims["sub"].as_str(), claims["iss"].as_str()), (Some("x"), Some(issuer.url())));
        assert!(claims.contains_key("jti") && claims.contains_key("iat"));
    }
}

#[test]
fn a_key_is_published_before_it_signs_and_after_it_did() {
    let every = Duration::from_secs(30 * 86400);
    let first = due(&[], every, day(0)).unwrap();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|key| key.signs_from == day(0)), "the first keys sign at once");
    assert!(due(&first, every, day(29)).unwrap() == first);
    let second = due(&first, every, day(31)).unwrap();
    assert_eq!(second.len(), 4, "old and new are published together");
    assert!(second[2].signs_from == day(31).plus(NOTICE) && second[2].published_until.is_none());
    assert_eq!(second[0].published_until, Some(day(31).plus(NOTICE).plus(AFTERWARDS)));
    let third = due(&second, every, day(33)).unwrap();
    assert_eq!(third.len(), 2, "the old keys have ended");
}

#[tokio::test]
async fn what_everybody_may_read_holds_no_private_part() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = open(folder.path()).await;
    let read = |path: &str| issuer.document(&http::Method::GET, path).unwrap().unwrap().into_body();
    let keys = read("/.well-known/jwks.json");
    let keys: Value = serde_json::from_slice(keys.as_bytes().unwrap()).unwrap();
    for key in keys["keys"].as_array().unwrap() {
        assert!(key.get("d").is_none() && key["kid"].is_string() && key["use"] == "sig", "{key}");
    }
    let document = read("/.well-known/openid-configuration");
    let document: Value = serde_json::from_slice(document.as_bytes().unwrap()).unwrap();
    assert_eq!(document["issuer"], "http://standpipe.test");
    assert!(issuer.document(&http::Method::POST, "/.well-known/jwks.json").is_err());
    assert!(issuer.document(&http::Method::GET, "/.well-known/other").unwrap().is_none());
}
