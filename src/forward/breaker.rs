//! A circuit breaker per provider, shared by all cores.
//!
//! *Closed*: requests pass. After `failures` failures in a row it is *open*: requests are refused at once for
//! `open`. Then it is *half-open*: one request may try. Its success closes the breaker, its failure opens it
//! again; while it is on its way, or if it is never heard of again, others wait another `open`.
//! A failure is what standpipe would answer with 502, 503 or 504 itself; a provider's own 5xx is an answer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config;

/// The breaker of one provider.
#[derive(Debug)]
pub struct Breaker {
    settings: config::Breaker,
    born: Instant,
    failures: AtomicU32,
    /// Milliseconds since `born` until which requests are refused; 0 while closed.
    open_until: AtomicU64,
}

/// What a breaker looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// The next request may try.
    HalfOpen,
    /// Requests are refused.
    Open,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: config::Breaker, now: Instant) -> Self {
        Self { settings, born: now, failures: AtomicU32::new(0), open_until: AtomicU64::new(0) }
    }

    /// Lets a request pass, or says how long to wait.
    ///
    /// # Errors
    /// The time until the next attempt.
    pub fn admit(&self, now: impl FnOnce() -> Instant) -> Result<(), Duration> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(());
        }
        let now = self.millis(now());
        if now < until {
            return Err(Duration::from_millis(until - now));
        }
        // Whoever moves the end of the waiting time is the one that tries.
        let next = now + self.open_millis();
        match self.open_until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.settings.open),
        }
    }

    /// The provider answered.
    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.open_until.store(0, Ordering::Release);
        }
    }

    /// The provider could not be reached, or did not answer in time or in HTTP.
    pub fn failed(&self, now: Instant) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.settings.failures.get() {
            self.open_until.store(self.millis(now) + self.open_millis(), Ordering::Release);
        }
    }

    /// What it looks like.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.open_until.load(Ordering::Relaxed) {
            0 => BreakerState::Closed,
            until if self.millis(now) < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX / 2).max(1)
    }

    fn open_millis(&self) -> u64 {
        u64::try_from(self.settings.open.as_millis()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const OPEN: Duration = Duration::from_secs(10);

    fn breaker() -> (Breaker, Instant) {
        let start = Instant::now();
        let failures = NonZeroU32::new(3).unwrap();
        (Breaker::new(config::Breaker { failures, open: OPEN }, start), start + Duration::from_secs(1))
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (breaker, now) = breaker();
        for _ in 0..5 {
            breaker.failed(now);
            breaker.failed(now);
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(|| now), Ok(()));
        (0..3).for_each(|_| breaker.failed(now));
        assert_eq!(breaker.admit(|| now), Err(OPEN));
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn one_request_tries_when_the_time_is_over() {
        let (breaker, now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + OPEN;
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(|| later), Ok(()));
        assert!(breaker.admit(|| later).is_err(), "only one");
        breaker.succeeded();
        assert_eq!(breaker.admit(|| later), Ok(()));
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn a_failed_try_and_a_lost_one_both_wait_again() {
        let (breaker, now) = breaker();
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + OPEN;
        assert_eq!(breaker.admit(|| later), Ok(()));
        breaker.failed(later);
        assert_eq!(breaker.admit(|| later), Err(OPEN));
        assert_eq!(breaker.admit(|| later + OPEN), Ok(()), "this one is never heard of again");
        assert_eq!(breaker.admit(|| later + OPEN * 2), Ok(()));
    }
}
