//! The token mapping table as the process has it in memory: what is at hand, what is being obtained, and where the
//! rest is kept. One for all cores and all configurations; entries of a replaced credential are found no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use moka::sync::Cache;
use standpipe_api::{Credential, Error, Outbound, RemoteScope, Result, Timestamp};
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::failed::Failed;
use crate::fingerprint::Fingerprints;
use crate::single_flight::SingleFlight;
use crate::store::{Store, StoreError, Subject, TokenFilter};

/// Tokens in memory, refused ones among them.
const REMEMBERED: u64 = 50_000;
/// Tokens being obtained at once.
const LOADS: usize = 8192;
/// The name of the keyed hashes' key among the process secrets.
const HASH_KEY: &str = "token-mapping-hash";
/// Rows removed in one transaction.
const PURGED: usize = 1000;

/// What is known under one key.
#[derive(Clone)]
pub(super) enum Known {
    /// A token.
    Token(Arc<Token>),
    /// None could be had, and that is believed until then.
    Failed(Arc<Failed>, Timestamp),
    /// The provider refused the last one at that time.
    Dropped(Timestamp),
}

/// A token at hand.
pub(super) struct Token {
    pub(super) credential: Credential,
    /// Past this moment it may end on its way.
    pub(super) usable_until: Timestamp,
    /// Past this moment somebody fetches the next one, in milliseconds since 1970.
    pub(super) refresh_at: AtomicI64,
    /// When it was obtained, if that was because the provider refused the one before.
    pub(super) after_refusal: Option<Timestamp>,
}

/// A token leaves this much of its life unused, because clocks differ and requests take time.
const UNUSED: Duration = Duration::from_secs(5);
/// How long before its end the next one is fetched.
const AHEAD: Duration = Duration::from_secs(60);
/// How long a token is believed that does not say when it ends.
const UNDATED: Duration = Duration::from_secs(300);

impl Token {
    /// A token that was obtained at a moment; of short lives only a share is spared.
    pub(super) fn obtained(credential: Credential, at: Timestamp, after_refusal: Option<Timestamp>) -> Self {
        let end = credential.expires_at.unwrap_or_else(|| at.plus(UNDATED));
        let life = Duration::from_millis(u64::try_from(end.as_millis() - at.as_millis()).unwrap_or(0));
        let before = |span: Duration| Timestamp::from_millis(end.as_millis() - span.as_millis() as i64);
        Self {
            usable_until: before(UNUSED.min(life / 10)),
            refresh_at: AtomicI64::new(before(AHEAD.min(life / 4)).as_millis()),
            after_refusal,
            credential,
        }
    }

    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        now < self.usable_until
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        now.as_millis() >= self.refresh_at.load(Ordering::Relaxed)
    }
}

/// A token, or why there is none.
pub(super) type Loaded = Result<Arc<Token>, Arc<Failed>>;

/// Tokens of all providers' credentials.
pub struct TokenMappings {
    pub(super) known: Cache<u128, Known, RandomState>,
    pub(super) loads: SingleFlight<u128, Loaded>,
    /// Keys in memory are hashes under a key of this process: nobody can find two tokens with one.
    fingerprints: Fingerprints,
    store: Option<Arc<dyn Store>>,
    outbound: Arc<dyn Outbound>,
    hash_key: OnceCell<hmac::Key>,
}

impl TokenMappings {
    /// Mappings over a table; without one, for a process that only looks at a configuration.
    pub fn new(store: Option<Arc<dyn Store>>, outbound: Arc<dyn Outbound>) -> Self {
        let fingerprints = Fingerprints::new();
        let known = Cache::builder().max_capacity(fingerprints.capacity(REMEMBERED));
        Self {
            known: known.build_with_hasher(RandomState::new()),
            loads: SingleFlight::new(LOADS),
            fingerprints,
            store,
            outbound,
            hash_key: OnceCell::new(),
        }
    }

    pub(super) fn outbound(&self) -> &Arc<dyn Outbound> {
        &self.outbound
    }

    pub(super) fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// The key in memory of a token, for one credential of a provider, told apart by its number.
    pub(super) fn front(&self, number: u64, scope: Option<&RemoteScope>, token: &[u8]) -> u128 {
        let scope = scope.map_or("", |scope| scope.as_str());
        self.fingerprints.of(&[&number.to_le_bytes(), scope.as_bytes(), token])
    }

    /// The keyed hash of a caller's token, as it is stored.
    pub(super) async fn subject(&self, token: &[u8]) -> Result<Subject, StoreError> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        self.subject_of(&hash).await
    }

    /// The same, of the token's hash (SHA-256): peers tell each other no more of it (decision 31).
    pub(super) async fn subject_of(&self, hash: &[u8; 32]) -> Result<Subject, StoreError> {
        let key = self.hash_key.get_or_try_init(|| self.read_hash_key()).await?;
        Ok(Subject::hashed(hmac::sign(key, hash).as_ref()))
    }

    /// Forgets all that is in memory; what is still in the table comes back from there.
    pub fn forget(&self) {
        self.known.invalidate_all();
    }

    async fn read_hash_key(&self) -> Result<hmac::Key, StoreError> {
        let store = self.store().ok_or(StoreError::Closed)?;
        let mut fresh = Zeroizing::new(vec![0_u8; 32]);
        aws_lc_rs::rand::fill(&mut fresh)
            .map_err(|_| StoreError::Key("cannot be made: the system gives no random bytes".into()))?;
        let key = store.put_secret_once(HASH_KEY, fresh).await?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// Removes tokens from table and memory, so that the next call obtains new ones; how many were in the table.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn purge(&self, filter: &TokenFilter) -> Result<usize> {
        let store = self.store().ok_or(StoreError::Closed)?;
        let mut removed = 0;
        loop {
            let some = store.purge_tokens(filter.clone(), PURGED).await.map_err(Error::from)?;
            removed += some;
            if some < PURGED {
                break;
            }
        }
        // Memory does not know which provider an entry is of; what is still in the table comes back from there.
        if filter.ended_before.is_none() {
            self.forget();
        }
        Ok(removed)
    }
}
