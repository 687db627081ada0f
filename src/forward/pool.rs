//! The idle connections of one core, newest first.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use hyper::client::conn::http1::SendRequest;
use standpipe_api::Body;

use super::origin::OriginId;
use super::wire::Received;

/// Idle connections kept per origin and core; more are closed when their answer has been read.
const MOST_IDLE: usize = 256;

/// The pool of one core.
#[derive(Clone, Default)]
pub struct Pool(Rc<RefCell<HashMap<OriginId, Vec<Idle>>>>);

/// An HTTP/1.1 connection to a provider.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    pub(super) received: Received,
}

struct Idle {
    connection: Connection,
    since: Instant,
    lifetime: Duration,
}

impl Pool {
    /// The connection used last, if one is still open.
    pub(super) fn take(&self, origin: OriginId) -> Option<Connection> {
        let mut pool = self.0.borrow_mut();
        let idle = pool.get_mut(&origin)?;
        while let Some(Idle { connection, .. }) = idle.pop() {
            if !connection.sender.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Gives back a connection whose answer has been read to its end.
    pub(super) fn put(&self, origin: OriginId, connection: Connection, now: Instant, lifetime: Duration) {
        if connection.sender.is_closed() {
            return;
        }
        let mut pool = self.0.borrow_mut();
        let idle = pool.entry(origin).or_default();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { connection, since: now, lifetime });
        }
    }

    /// Closes what has been idle too long. Providers close idle connections too; being first avoids the race.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, idle| {
            idle.retain(|idle| now.saturating_duration_since(idle.since) < idle.lifetime);
            !idle.is_empty()
        });
    }

    /// Idle connections of an origin.
    pub fn idle(&self, origin: OriginId) -> usize {
        self.0.borrow().get(&origin).map_or(0, Vec::len)
    }
}
