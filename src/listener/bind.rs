//! Binding: one socket per listener and core, sharing a port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

use super::ListenerId;
use crate::config;

/// Connections the kernel holds before they are accepted.
const BACKLOG: i32 = 1024;

/// A socket that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("listener[{listener}].address: cannot listen on {address}: {source}")]
pub struct BindError {
    listener: usize,
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// Why, as the system says it.
    pub fn reason(&self) -> &io::Error {
        &self.source
    }
}

/// All sockets, bound, not yet listening to anybody.
pub struct Bound {
    addresses: Vec<SocketAddr>,
    cores: Vec<CoreSockets>,
}

/// The sockets of one core.
pub struct CoreSockets(pub(super) Vec<(ListenerId, TcpListener)>);

impl Bound {
    /// Where each listener is reachable, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sockets, a set for each core.
    pub fn into_cores(self) -> Vec<CoreSockets> {
        self.cores
    }
}

/// Binds every listener once per core. With port 0 the first core takes a free port and the others share it. A
/// socket passed by the service manager (`LISTEN_FDS`, in the order of the listeners) is used by every core.
///
/// # Errors
/// The first address that cannot be bound.
pub fn bind(listeners: &[config::Listener], cores: usize) -> Result<Bound, BindError> {
    let mut passed = ListenFd::from_env();
    let mut bound =
        Bound { addresses: Vec::new(), cores: (0..cores).map(|_| CoreSockets(Vec::new())).collect() };
    for (at, listener) in listeners.iter().enumerate() {
        let wrong = |source| BindError { listener: at, address: listener.address, source };
        let given = passed.take_tcp_listener(at).ok().flatten();
        let mut address = listener.address;
        if given.is_none() && address.port() != 0 {
            claim(address).map_err(wrong)?;
        }
        for core in &mut bound.cores {
            let socket = match &given {
                Some(given) => given.try_clone(),
                None => open(address),
            };
            let socket = socket.map_err(wrong)?;
            socket.set_nonblocking(true).map_err(wrong)?;
            address = socket.local_addr().map_err(wrong)?;
            core.0.push((ListenerId(at), socket));
        }
        bound.addresses.push(address);
    }
    Ok(bound)
}

/// Makes sure that nobody listens here: another standpipe that shares its ports between its own cores would let us share
/// them too, and callers would meet now the one and now the other.
fn claim(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // What only lingers from connections that have ended is in nobody's way.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
