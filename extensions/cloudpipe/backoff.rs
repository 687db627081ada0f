//! How long to wait before something is tried again.

use std::time::Duration;

/// Doubles from one second to `longest`.
pub(super) fn doubling(attempts: u32, longest: Duration) -> Duration {
    Duration::from_secs(1_u64.checked_shl(attempts.min(16)).unwrap_or(u64::MAX)).min(longest)
}

/// A quarter more or less, so that those who failed together do not come back together.
pub(super) fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(0.75 + fastrand::f64() / 2.0)
}
