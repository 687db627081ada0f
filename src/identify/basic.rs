//! Name and password (RFC 7617), against Argon2id hashes in the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::request::Parts;
use moka::sync::Cache;
use standpipe_api::{Authenticator, Caller, Connection, Identified};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::config::BasicCaller;
use crate::fingerprint::Fingerprints;

/// Verifications at once: Argon2 takes about 20 MiB and a core each.
const VERIFYING: usize = 2;
/// How long a request waits for its turn to be verified.
const PATIENCE: Duration = Duration::from_secs(5);
/// Verified and refused credentials remembered, by keyed hash.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);
/// Longer fields are refused unread.
const LONGEST: usize = 1024;

/// The `basic` authenticator.
pub struct Basic {
    callers: Arc<HashMap<String, Known>>,
    remembered: Cache<u128, Verdict>,
    fingerprints: Fingerprints,
    turns: Arc<Semaphore>,
}

struct Known {
    hash: String,
    caller: Arc<Caller>,
}

/// What is remembered of a credential, by its keyed hash: never the credential.
#[derive(Clone)]
enum Verdict {
    Good(Arc<Caller>),
    Bad,
}

impl Basic {
    /// The callers of the configuration. Each instance hashes under a key of its own.
    pub fn new(callers: &[BasicCaller]) -> Self {
        let known = |caller: &BasicCaller| {
            let id = format!("basic:{}", caller.name).into();
            let (tenant, groups) = (caller.tenant.clone(), caller.groups.clone());
            let hash = caller.password_hash.clone();
            let caller_id = Arc::new(Caller { id, tenant, groups, authenticator: "basic" });
            (caller.name.clone(), Known { hash, caller: caller_id })
        };
        let fingerprints = Fingerprints::new();
        let capacity = fingerprints.capacity(REMEMBERED);
        Self {
            callers: Arc::new(callers.iter().map(known).collect()),
            remembered: Cache::builder().max_capacity(capacity).time_to_live(REMEMBERED_FOR).build(),
            fingerprints,
            turns: Arc::new(Semaphore::new(VERIFYING)),
        }
    }

    fn remembered(&self, head: &Parts) -> Option<(u128, Option<Verdict>)> {
        let field = head.headers.get(AUTHORIZATION)?;
        if !scheme_of(head)?.eq_ignore_ascii_case("basic") {
            return None;
        }
        let fingerprint = self.fingerprints.of(&[field.as_bytes()]);
        Some((fingerprint, self.remembered.get(&fingerprint)))
    }

    /// Verifies off the serving core, a bounded number at once.
    async fn verify(&self, head: &Parts) -> Result<Verdict, String> {
        let Some((name, password)) = head.headers.get(AUTHORIZATION).and_then(credentials) else {
            return Ok(Verdict::Bad);
        };
        let turn = timeout(PATIENCE, self.turns.clone().acquire_owned()).await;
        let turn = turn
            .map_err(|_| "too many credentials are being verified")?
            .map_err(|error| error.to_string())?;
        let callers = self.callers.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            check(&callers, &name, &password)
        });
        work.await.map_err(|error| error.to_string())
    }
}

/// An unknown name costs as much as a wrong password, or its absence could be measured.
fn check(callers: &HashMap<String, Known>, name: &str, password: &[u8]) -> Verdict {
    let known = callers.get(name);
    let Some(hash) = known.or_else(|| callers.values().next()).map(|known| &known.hash) else {
        return Verdict::Bad;
    };
    let good =
        PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok());
    match known {
        Some(known) if good => Verdict::Good(known.caller.clone()),
        _ => Verdict::Bad,
    }
}

#[async_trait(?Send)]
impl Authenticator for Basic {
    fn name(&self) -> &'static str {
        "basic"
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(r#"Basic realm="standpipe", charset="UTF-8""#))
    }

    fn applies(&self, head: &Parts, _connection: &Connection) -> bool {
        scheme_of(head).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"))
    }

    fn recall(&self, head: &Parts, _connection: &Connection) -> Option<Arc<Caller>> {
        match self.remembered(head)?.1? {
            Verdict::Good(caller) => Some(caller),
            Verdict::Bad => None,
        }
    }

    async fn identify(&self, head: &Parts, _connection: &Connection) -> Identified {
        let Some((fingerprint, remembered)) = self.remembered(head) else { return Identified::NotMine };
        let verdict = match remembered {
            Some(verdict) => verdict,
            None => match self.verify(head).await {
                Ok(verdict) => verdict,
                Err(reason) => return Identified::CouldNotCheck(reason),
            },
        };
        self.remembered.insert(fingerprint, verdict.clone());
        match verdict {
            Verdict::Good(caller) => Identified::Caller(caller),
            Verdict::Bad => Identified::Refused("unknown name or wrong password".into()),
        }
    }
}

/// The scheme of the request's `Authorization` field.
pub(super) fn scheme_of(head: &Parts) -> Option<&str> {
    let field = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(field.split_once(' ').map_or(field, |(scheme, _)| scheme))
}

/// Name and password of a `Basic` field; the name ends at the first colon (RFC 7617, section 2).
fn credentials(field: &HeaderValue) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let field = field.to_str().ok().filter(|field| field.len() <= LONGEST)?;
    let encoded = field.split_once(' ')?.1.trim_start();
    let plain = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let colon = plain.iter().position(|byte| *byte == b':')?;
    let (name, password) = plain.split_at(colon);
    let password = password.get(1..).unwrap_or_default().to_vec();
    Some((String::from_utf8(name.to_vec()).ok()?, Zeroizing::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher as _;

    fn basic() -> Basic {
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let hash = argon2.hash_password_with_salt(b"pa:ss", b"0123456789abcdef").unwrap().to_string();
        Basic::new(&[BasicCaller {
            name: "ann".into(),
            password_hash: hash,
            tenant: Some("blue".into()),
            groups: vec!["ops".into()],
        }])
    }

    fn head(field: &str) -> Parts {
        let request = http::Request::builder().header(AUTHORIZATION, field).body(()).unwrap();
        request.into_parts().0
    }

    fn encoded(pair: &str) -> Parts {
        head(&format!("Basic {}", STANDARD.encode(pair)))
    }

    fn connection() -> Connection {
        Connection { peer: None, scheme: "http", client_certificate: None }
    }

    #[tokio::test]
    async fn a_password_may_hold_colons_and_is_then_remembered() {
        let basic = basic();
        let head = encoded("ann:pa:ss");
        assert!(basic.recall(&head, &connection()).is_none());
        let Identified::Caller(caller) = basic.identify(&head, &connection()).await else {
            panic!("refused")
        };
        assert_eq!((caller.id.as_str(), caller.tenant.as_deref()), ("basic:ann", Some("blue")));
        assert_eq!(basic.recall(&head, &connection()), Some(caller));
    }

    #[tokio::test]
    async fn wrong_passwords_and_unknown_names_are_refused_every_time() {
        let basic = basic();
        for pair in ["ann:wrong", "ann:", "bob:pa:ss", "ann", ":"] {
            for _ in 0..2 {
                let said = basic.identify(&encoded(pair), &connection()).await;
                assert!(matches!(said, Identified::Refused(_)), "{pair}: {said:?}");
            }
            assert!(basic.recall(&encoded(pair), &connection()).is_none());
        }
        let garbage = basic.identify(&head("Basic %%%"), &connection()).await;
        assert!(matches!(garbage, Identified::Refused(_)));
    }

    #[tokio::test]
    async fn other_schemes_are_left_to_others() {
        let said = basic().identify(&head("Bearer abc"), &connection()).await;
        assert!(matches!(said, Identified::NotMine));
    }
}
