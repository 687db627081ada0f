//! The token mappings of the suite, and the rotation of the key that seals.

use super::*;
use crate::store::{MasterKey, StoredToken, Subject, TokenFilter, TokenKey};

fn key(subject: &[u8], provider: &str, scope: Option<&str>, credential: &str) -> TokenKey {
    TokenKey {
        subject: Subject::hashed(subject),
        provider: provider.into(),
        remote_scope: scope.map(Into::into),
        credential: credential.into(),
    }
}

fn token(text: &str, expires_at: Timestamp) -> StoredToken {
    StoredToken {
        kind: "exchange".into(),
        settings: [7; 32],
        value: Zeroizing::new(text.as_bytes().to_vec()),
        obtained_at: Timestamp::from_millis(1_700_000_000_000),
        expires_at,
    }
}

fn later() -> Timestamp {
    Timestamp::now().plus(Duration::from_secs(3600))
}

async fn value(store: &Shared, key: &TokenKey) -> Option<String> {
    let found = store.token(key).await.unwrap()?;
    assert_eq!((found.kind.as_str(), found.settings), ("exchange", [7; 32]));
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

pub(in crate::store) async fn tokens_are_kept_by_their_whole_key_until_they_end(store: Shared) {
    let keys = [
        key(b"", "alpha", None, "main"),
        key(b"one", "alpha", None, "main"),
        key(b"one", "alpha", None, "other"),
        key(b"one", "alpha", Some("project"), "main"),
        key(b"one", "beta", None, "main"),
        key(b"two", "alpha", None, "main"),
    ];
    for (at, key) in keys.iter().enumerate() {
        store.put_token(key.clone(), token("old", later())).await.unwrap();
        store.put_token(key.clone(), token(&format!("token {at}"), later())).await.unwrap();
    }
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(value(&store, key).await, Some(format!("token {at}")), "{key:?}");
    }
    let listed = |provider: Option<&str>, after: Option<&TokenKey>, limit| {
        let filter = TokenFilter { provider: provider.map(Into::into), ..TokenFilter::default() };
        let (store, after) = (store.clone(), after.cloned());
        async move {
            let rows = store.tokens(filter, after, limit).await.unwrap();
            rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
        }
    };
    assert_eq!(listed(None, None, 10).await.len(), 6);
    let first = listed(None, None, 4).await;
    assert_eq!([first.clone(), listed(None, first.last(), 4).await].concat(), listed(None, None, 10).await);
    assert_eq!(listed(Some("beta"), None, 10).await, keys[4..5]);
    let gone = key(b"three", "beta", None, "main");
    store.put_token(gone.clone(), token("over", Timestamp::now())).await.unwrap();
    assert_eq!((value(&store, &gone).await, listed(Some("beta"), None, 10).await.len()), (None, 1));
    let ended = TokenFilter { ended_before: Some(Timestamp::now()), ..TokenFilter::default() };
    assert_eq!(store.purge_tokens(ended, 10).await.unwrap(), 1);
    store.remove_token(keys[1].clone()).await.unwrap();
    assert_eq!(value(&store, &keys[1]).await, None);
    let alpha = TokenFilter { provider: Some("alpha".into()), ..TokenFilter::default() };
    assert_eq!(store.purge_tokens(alpha.clone(), 2).await.unwrap(), 2);
    assert_eq!(store.purge_tokens(alpha, 10).await.unwrap(), 2);
    assert_eq!(value(&store, &keys[4]).await.as_deref(), Some("token 4"));
}

pub(in crate::store) async fn everything_opens_after_a_rotation(store: Shared) {
    let keys: Vec<TokenKey> =
        (0..1001_u32).map(|at| key(&at.to_be_bytes(), "alpha", Some("a/b"), "the key")).collect();
    for key in &keys {
        store.put_token(key.clone(), token("token", later())).await.unwrap();
    }
    let secret = Zeroizing::new(b"secret".to_vec());
    let event = || standpipe_api::NewEvent::new("provider.changed", &"");
    store.register_provider("beta".into(), secret.clone(), event()).await.unwrap();
    store.set_availability("alpha".into(), standpipe_api::Availability::Draining, event()).await.unwrap();
    store.put_secret_once("a secret", secret.clone()).await.unwrap();
    store
        .commit(&namespace(), vec![put("k", "record", None), scheduled("j", Duration::ZERO)])
        .await
        .unwrap()
        .unwrap();
    for round in 0..300_u32 {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&round.to_be_bytes());
        let rounds_values = if round < 2 { 1006 } else { 6 };
        if round == 2 {
            store.purge_tokens(TokenFilter::default(), 1000).await.unwrap();
        }
        assert_eq!(store.rotate(MasterKey::from_bytes(bytes)).await.unwrap(), rounds_values, "round {round}");
        assert_eq!(value(&store, &keys[1000]).await.as_deref(), Some("token"), "round {round}");
    }
    assert_eq!(store.secret("a secret").await.unwrap(), Some(secret.clone()));
    let kept = store.kept_providers().await.unwrap();
    assert!(kept.len() == 2 && kept[0].registration == Some(secret), "{}", kept.len());
    assert_eq!(&store.record(&namespace(), "k").await.unwrap().unwrap().value[..], b"record");
    assert_eq!(&store.due_jobs(Timestamp::now(), 9).await.unwrap()[0].job.payload[..], b"payload");
    store.health().await.unwrap();
}
