//! Places where tests kill the process: before and after every durable write and every send.
//!
//! `STANDPIPE_FAIL_POINT=claim-after-write` aborts there the first time, `...:3` the third time. Nothing is flushed
//! on an abort, so it is as good as SIGKILL. Without the variable a point costs one relaxed load.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPoint {
    /// Before a creating call's claim is written.
    ClaimBeforeWrite,
    /// The claim is durable, nothing is sent.
    ClaimAfterWrite,
    /// Before a request leaves.
    SendBefore,
    /// The provider has answered.
    SendAfter,
    /// Before an outcome is written.
    SettleBeforeWrite,
    /// The outcome is durable, the caller has no answer.
    SettleAfterWrite,
    /// Before a group of writes is committed.
    CommitBefore,
    /// The group is durable, nobody knows.
    CommitAfter,
}

impl FailPoint {
    /// All of them, for tests that try each.
    pub const ALL: [Self; 8] = [
        Self::ClaimBeforeWrite,
        Self::ClaimAfterWrite,
        Self::SendBefore,
        Self::SendAfter,
        Self::SettleBeforeWrite,
        Self::SettleAfterWrite,
        Self::CommitBefore,
        Self::CommitAfter,
    ];

    /// The word in the variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaimBeforeWrite => "claim-before-write",
            Self::ClaimAfterWrite => "claim-after-write",
            Self::SendBefore => "send-before",
            Self::SendAfter => "send-after",
            Self::SettleBeforeWrite => "settle-before-write",
            Self::SettleAfterWrite => "settle-after-write",
            Self::CommitBefore => "commit-before",
            Self::CommitAfter => "commit-after",
        }
    }
}

static CHOSEN: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
    let chosen = std::env::var("STANDPIPE_FAIL_POINT").ok()?;
    let (name, times) = chosen.split_once(':').unwrap_or((&chosen, "1"));
    Some((name.to_owned(), AtomicU32::new(times.parse().unwrap_or(1))))
});

/// Dies here, if a test asked for it.
pub fn reach(point: FailPoint) {
    let Some((name, left)) = &*CHOSEN else { return };
    if name == point.name() && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}
