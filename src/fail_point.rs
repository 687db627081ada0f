//! Places where a test can kill the process: before and after each durable write and each send (decision 59).
//!
//! `STANDPIPE_FAIL_POINT=claim-after-write` aborts at the first time that point is reached,
//! `claim-after-write:3` at the third. Abort flushes nothing and runs no destructor, as SIGKILL does.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The environment variable that arms one point.
pub const VARIABLE: &str = "STANDPIPE_FAIL_POINT";

/// A place between two things that must not be torn apart.
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
    /// Before a group of writes (claims, outcomes, records, jobs) is committed.
    CommitBefore,
    /// The group is durable, nobody knows.
    CommitAfter,
}

impl FailPoint {
    /// All of them, for tests to enumerate.
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

    /// The name in the environment variable.
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

/// The environment has not been read yet.
const UNREAD: u8 = 0;
/// No point is armed, as in every process that serves.
const UNARMED: u8 = 1;
/// A point is armed.
const ARMED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNREAD);
static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

struct Plan {
    point: FailPoint,
    left: AtomicU32,
}

/// Kills the process if this point is armed and its turn has come; else costs one relaxed load.
#[inline]
pub fn reach(point: FailPoint) {
    if STATE.load(Ordering::Relaxed) != UNARMED {
        consult(point);
    }
}

#[cold]
fn consult(point: FailPoint) {
    let plan = PLAN.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    STATE.store(if plan.is_some() { ARMED } else { UNARMED }, Ordering::Relaxed);
    if let Some(plan) = plan
        && plan.point == point
        && plan.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// `name` or `name:N`. A text that names no point arms none: the variable is for tests, which enumerate `ALL`.
fn parse(text: &str) -> Option<Plan> {
    let (name, turn) = text.split_once(':').unwrap_or((text, "1"));
    let point = FailPoint::ALL.into_iter().find(|point| point.name() == name)?;
    let left = turn.parse().ok().filter(|turn| *turn > 0)?;
    Some(Plan { point, left: AtomicU32::new(left) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_found_by_its_name() {
        for point in FailPoint::ALL {
            assert_eq!(parse(point.name()).map(|plan| plan.point), Some(point));
        }
    }

    #[test]
    fn a_turn_can_be_chosen_and_nonsense_arms_nothing() {
        let plan = parse("send-after:3").unwrap();
        assert_eq!((plan.point, plan.left.into_inner()), (FailPoint::SendAfter, 3));
        assert!(
            ["", "send-after:0", "send-after:x", "nowhere"].into_iter().all(|text| parse(text).is_none())
        );
    }
}
