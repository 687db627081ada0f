//! The idle connections of one core, newest first.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ahash::HashMap;

use super::http1::Connection;
use super::origin::OriginId;

/// Idle connections kept per origin and core; more are closed when their answer has been read.
const MOST_IDLE: usize = 256;

/// The pool of one core.
#[derive(Clone, Default)]
pub struct Pool(Rc<RefCell<HashMap<OriginId, Vec<Idle>>>>);

struct Idle {
    connection: Box<Connection>,
    /// How long it may go on being idle, as of the last sweep.
    left: Duration,
}

impl Pool {
    /// The connection used last, which may have been closed since.
    pub(super) fn take(&self, origin: OriginId) -> Option<Box<Connection>> {
        self.0.borrow_mut().get_mut(&origin)?.pop().map(|idle| idle.connection)
    }

    /// Gives back a connection whose answer has been read to its end.
    pub(super) fn put(&self, origin: OriginId, connection: Box<Connection>, lifetime: Duration) {
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(origin).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { connection, left: lifetime });
        }
    }

    /// Closes what has been idle too long, and what the provider has closed, when this long has gone by since the last
    /// sweep. Being first avoids the race.
    pub fn sweep(&self, gone_by: Duration) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain_mut(|idle| {
                idle.left = idle.left.saturating_sub(gone_by);
                !idle.left.is_zero() && idle.connection.is_idle()
            });
            !idle.is_empty()
        });
    }

    /// Idle connections of an origin.
    pub fn idle(&self, origin: OriginId) -> usize {
        self.0.borrow().get(&origin).map_or(0, Vec::len)
    }
}
