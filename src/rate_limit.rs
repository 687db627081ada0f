//! How much one caller, and one tenant, may ask for: a token bucket and a count of requests in flight for each.
//!
//! Between identifying a caller and everything else. State is bounded: of more callers than are remembered, the one
//! that has not asked for longest begins anew with a full bucket. Nothing here waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use standpipe_api::{Body, BoxError, Caller, Error, ErrorKind, Fault, Result};

use crate::config::{Allowance, Limits};
use crate::telemetry::{Metrics, name};

/// Callers, and tenants, that are remembered.
const MOST: u64 = 100_000;
/// When somebody with too many requests in flight may try again.
const PAUSE: Duration = Duration::from_secs(1);

type Bucket = RateLimiter<
    NotKeyed,
    InMemoryState,
    MonotonicClock,
    NoOpMiddleware<<MonotonicClock as governor::clock::Clock>::Instant>,
>;

/// The limits of callers and tenants in force, and what each has used.
pub struct RateLimits {
    caller: Option<Accounts>,
    tenant: Option<Accounts>,
}

/// What all callers, or all tenants, have used.
struct Accounts {
    allowance: Allowance,
    whose: &'static str,
    used: Cache<Arc<str>, Arc<Account>, RandomState>,
    too_fast: metrics::Counter,
    too_many: metrics::Counter,
}

/// What one has used.
struct Account {
    bucket: Option<Bucket>,
    in_flight: AtomicUsize,
}

/// A request that was let in; it counts as in flight until this is dropped.
pub struct Admitted([Option<Arc<Account>>; 2]);

impl RateLimits {
    /// The limits of a configuration; `None`: it has none, and nothing is counted.
    pub fn new(limits: &Limits, metrics: &Metrics) -> Option<Self> {
        let accounts = |allowance: Option<Allowance>, whose| {
            allowance.map(|allowance| Accounts::new(allowance, whose, metrics))
        };
        let (caller, tenant) = (accounts(limits.caller, "caller"), accounts(limits.tenant, "tenant"));
        (caller.is_some() || tenant.is_some()).then_some(Self { caller, tenant })
    }

    /// Whether these are the limits of a configuration, so that what was used goes on to count.
    pub fn are(&self, limits: &Limits) -> bool {
        let allowance = |accounts: &Option<Accounts>| accounts.as_ref().map(|accounts| accounts.allowance);
        allowance(&self.caller) == limits.caller && allowance(&self.tenant) == limits.tenant
    }

    /// Lets a request of a caller in.
    ///
    /// # Errors
    /// The caller or its tenant asks for more than it may; the error says when to try again.
    pub fn admit(&self, caller: &Caller) -> Result<Admitted> {
        let mut admitted = Admitted([None, None]);
        let [of_caller, of_tenant] = &mut admitted.0;
        if let Some(accounts) = &self.caller {
            *of_caller = Some(accounts.enter(caller.id.as_str())?);
        }
        if let (Some(accounts), Some(tenant)) = (&self.tenant, &caller.tenant) {
            *of_tenant = Some(accounts.enter(tenant)?);
        }
        Ok(admitted)
    }
}

impl Accounts {
    fn new(allowance: Allowance, whose: &'static str, metrics: &Metrics) -> Self {
        let used = Cache::builder().max_capacity(MOST).eviction_policy(EvictionPolicy::lru());
        let counter = |reason| metrics.counter(name::RATE_LIMITED, &[("reason", reason)]);
        let (too_fast, too_many) = match whose {
            "caller" => ("caller-rate", "caller-in-flight"),
            _ => ("tenant-rate", "tenant-in-flight"),
        };
        Self {
            allowance,
            whose,
            used: used.build_with_hasher(RandomState::new()),
            too_fast: counter(too_fast),
            too_many: counter(too_many),
        }
    }

    fn account(&self, name: &str) -> Arc<Account> {
        self.used.get(name).unwrap_or_else(|| {
            let bucket = self.allowance.requests_per_second.map(|rate| {
                RateLimiter::direct_with_clock(
                    Quota::per_second(rate).allow_burst(self.allowance.burst.unwrap_or(rate)),
                    MonotonicClock,
                )
            });
            let fresh = || Arc::new(Account { bucket, in_flight: AtomicUsize::new(0) });
            self.used.get_with(name.into(), fresh)
        })
    }

    fn enter(&self, name: &str) -> Result<Arc<Account>> {
        let account = self.account(name);
        let most = self.allowance.in_flight.map_or(usize::MAX, std::num::NonZeroUsize::get);
        if account.in_flight.fetch_add(1, Ordering::Relaxed) >= most {
            account.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.too_many.increment(1);
            return Err(self.refused("in_flight", PAUSE));
        }
        let late = account.bucket.as_ref().and_then(|bucket| bucket.check().err());
        match late {
            None => Ok(account),
            Some(late) => {
                account.in_flight.fetch_sub(1, Ordering::Relaxed);
                self.too_fast.increment(1);
                Err(self.refused("requests_per_second", late.wait_time_from(MonotonicClock.now())))
            }
        }
    }

    fn refused(&self, limit: &str, wait: Duration) -> Error {
        let whose = self.whose;
        let public = format!("this {whose} asks for more than limits.{whose}.{limit} allows");
        // A whole second early would be refused again.
        let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        Error::new(ErrorKind::RateLimited, Fault::Caller, public)
            .advise("wait as long as Retry-After says, and ask less often or with fewer requests at once")
            .retry_after(wait)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        for account in self.0.iter().flatten() {
            account.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Lets a request count as in flight until its answer has been read.
pub fn until_read(response: Response<Body>, admitted: Arc<Admitted>) -> Response<Body> {
    if response.body().as_bytes().is_some() {
        return response;
    }
    response.map(|body| Body::stream(Counted { body, _admitted: admitted }))
}

struct Counted {
    body: Body,
    _admitted: Arc<Admitted>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroUsize};

    use super::*;

    fn caller(id: &str, tenant: Option<&str>) -> Caller {
        let tenant = tenant.map(str::to_owned);
        Caller { id: id.into(), tenant, groups: Vec::new(), authenticator: "basic" }
    }

    fn limits(caller: Option<Allowance>, tenant: Option<Allowance>) -> RateLimits {
        let limits = Limits { caller, tenant, ..Limits::default() };
        RateLimits::new(&limits, &Metrics::new()).unwrap()
    }

    fn rate(burst: u32) -> Allowance {
        let (rate, burst) = (NonZeroU32::new(1), NonZeroU32::new(burst));
        Allowance { requests_per_second: rate, burst, in_flight: None }
    }

    fn in_flight(most: usize) -> Allowance {
        Allowance { requests_per_second: None, burst: None, in_flight: NonZeroUsize::new(most) }
    }

    #[test]
    fn without_limits_nothing_is_made() {
        assert!(RateLimits::new(&Limits::default(), &Metrics::new()).is_none());
    }

    #[test]
    fn a_reload_that_changes_nothing_forgets_nothing() {
        let used = limits(Some(rate(3)), None);
        assert!(used.are(&Limits { caller: Some(rate(3)), ..Limits::default() }));
        assert!(!used.are(&Limits { caller: Some(rate(4)), ..Limits::default() }));
        assert!(!used.are(&Limits { caller: Some(rate(3)), tenant: Some(rate(3)), ..Limits::default() }));
    }

    #[test]
    fn a_burst_is_let_in_and_then_each_caller_waits_for_itself() {
        let limits = limits(Some(rate(3)), None);
        let (ann, bob) = (caller("basic:ann", None), caller("basic:bob", None));
        assert!((0..3).all(|_| limits.admit(&ann).is_ok()));
        let refused = limits.admit(&ann).err().unwrap();
        assert_eq!((refused.kind(), refused.retry_delay()), (ErrorKind::RateLimited, Some(PAUSE)));
        assert!(limits.admit(&bob).is_ok());
    }

    #[test]
    fn requests_in_flight_make_room_when_they_end() {
        let limits = limits(Some(in_flight(2)), None);
        let ann = caller("basic:ann", None);
        let (first, _second) = (limits.admit(&ann).unwrap(), limits.admit(&ann).unwrap());
        assert_eq!(limits.admit(&ann).err().unwrap().retry_delay(), Some(PAUSE));
        drop(first);
        assert!(limits.admit(&ann).is_ok());
    }

    #[test]
    fn a_tenant_is_all_its_callers_together_and_a_refusal_takes_nothing() {
        let limits = limits(Some(in_flight(1)), Some(in_flight(2)));
        let of = |id| caller(id, Some("blue"));
        let held = [limits.admit(&of("a")).unwrap(), limits.admit(&of("b")).unwrap()];
        let refused = limits.admit(&of("c")).err().unwrap();
        assert!(refused.public().contains("limits.tenant.in_flight"), "{refused}");
        drop(held);
        assert!(limits.admit(&of("c")).is_ok(), "what the tenant was refused is not held against the caller");
        let alone: Vec<_> = ["x", "y", "z"].map(|id| limits.admit(&caller(id, None)).unwrap()).into();
        assert_eq!(alone.len(), 3, "who has no tenant is limited as a caller only");
    }

    #[tokio::test]
    async fn a_streamed_answer_is_in_flight_until_it_is_read() {
        let limits = limits(Some(in_flight(1)), None);
        let ann = caller("basic:ann", None);
        let admitted = Arc::new(limits.admit(&ann).unwrap());
        let chunks = futures_util::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))]);
        let body = Body::stream(http_body_util::StreamBody::new(chunks));
        let mut response = until_read(Response::new(body), admitted);
        assert!(limits.admit(&ann).is_err());
        assert_eq!(response.body_mut().bytes(10).await.unwrap(), "x");
        assert!(limits.admit(&ann).is_ok());
        let whole = until_read(Response::new(Body::from("x")), Arc::new(limits.admit(&ann).unwrap()));
        assert!(limits.admit(&ann).is_ok(), "what is here whole waits for nobody");
        drop(whole);
    }
}
