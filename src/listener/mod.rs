//! Step 1: sockets to requests.
//!
//! In: bound sockets, one set per core. Out: calls of a [`Service`] with a request, and its answer on the wire.
//! Connections, heads, waits and requests in flight are bounded here; nothing here knows callers or paths.

mod accept;
mod bind;
mod body;
mod charset;
mod connection;
mod drain;
mod guard;
mod linger;
mod places;
mod refuse;
mod refused;
mod sniff;
mod tls;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use http::{Request, Response};
use standpipe_api::{Body, Connection, Problems};
use tokio_rustls::TlsAcceptor;

pub use self::accept::{serve, serve_unix};
pub use self::bind::{BindError, Bound, CoreSockets, bind};
pub use self::drain::Drain;
use self::places::Places;
use self::refused::Counts;
use crate::config::{self, Limits};

/// The index of a listener in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub usize);

impl ListenerId {
    /// The operator's socket, which is in no list.
    pub const ADMIN: Self = Self(usize::MAX);
}

/// What the listener hands requests to. It never fails: whatever goes wrong is an answer.
pub trait Service: 'static {
    /// Answers a request.
    fn handle(
        &self,
        request: Request<Body>,
        connection: Arc<Connection>,
        socket: ListenerId,
    ) -> impl Future<Output = Response<Body>>;
}

/// What all cores share of the listeners: limits, certificates, counts.
pub struct Shared {
    limits: ArcSwap<Limits>,
    tls: Vec<Option<ArcSwap<TlsAcceptor>>>,
    places: Arc<Places>,
    in_flight: AtomicUsize,
    refused: Counts,
    accept_errors: AtomicU64,
}

impl Shared {
    /// For the listeners of a configuration.
    ///
    /// # Errors
    /// Certificates and keys that cannot be used, by file.
    pub fn new(listeners: &[config::Listener], limits: &Limits) -> Result<Self, Problems> {
        let acceptors = tls::acceptors(listeners)?;
        Ok(Self {
            limits: ArcSwap::from_pointee(limits.clone()),
            tls: acceptors.into_iter().map(|acceptor| acceptor.map(ArcSwap::from_pointee)).collect(),
            places: Places::new(limits.connections),
            in_flight: AtomicUsize::new(0),
            refused: Counts::default(),
            accept_errors: AtomicU64::new(0),
        })
    }

    /// Takes in changed limits and certificates. Connections that are open keep what they began with.
    ///
    /// # Errors
    /// Certificates and keys that cannot be used, and TLS on a listener that began without, or the reverse; nothing
    /// is changed then.
    pub fn reload(&self, listeners: &[config::Listener], limits: &Limits) -> Result<(), Problems> {
        let acceptors = tls::acceptors(listeners)?;
        tls::unchanged(&self.tls, &acceptors)?;
        for (current, fresh) in self.tls.iter().zip(acceptors) {
            if let (Some(current), Some(fresh)) = (current, fresh) {
                current.store(Arc::new(fresh));
            }
        }
        self.places.resize(limits.connections);
        self.limits.store(Arc::new(limits.clone()));
        Ok(())
    }

    fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    fn acceptor(&self, socket: ListenerId) -> Option<Arc<TlsAcceptor>> {
        self.tls.get(socket.0).and_then(Option::as_ref).map(ArcSwap::load_full)
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.places.taken()
    }

    /// Requests whose answer has not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests refused before they became calls, by a word for the reason; always the same words.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refused.each()
    }
}

#[cfg(test)]
mod tests;
