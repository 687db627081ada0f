//! Accepting connections, as many as there may be.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use standpipe_api::Connection;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connection::{Host, Protocol};
use super::places::Place;
use super::{CoreSockets, Drain, ListenerId, Service, Shared};
use crate::forward::deadline::Deadlines;

/// The shortest and longest pause after an accept that failed, for example because the process is out of files.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What the connections of one socket have in common.
struct Front<S> {
    socket: ListenerId,
    shared: Arc<Shared>,
    service: Rc<S>,
    drain: Drain,
    deadlines: Deadlines,
}

impl<S> Front<S> {
    fn host(&self, connection: Connection) -> Host<S> {
        Host {
            service: self.service.clone(),
            shared: self.shared.clone(),
            limits: self.shared.limits(),
            socket: self.socket,
            connection: Arc::new(connection),
            drain: self.drain.clone(),
            deadlines: self.deadlines.clone(),
        }
    }
}

/// Serves one core's sockets until the end, and returns when its last connection is gone.
pub async fn serve<S: Service>(sockets: CoreSockets, shared: Arc<Shared>, service: Rc<S>, drain: Drain) {
    let (mut accepting, deadlines) = (JoinSet::new(), Deadlines::default());
    let mut ticking = JoinSet::new();
    ticking.spawn_local(deadlines.clone().run());
    for (socket, listener) in sockets.0 {
        let (shared, service, drain) = (shared.clone(), service.clone(), drain.clone());
        let front = Front { socket, shared, service, drain, deadlines: deadlines.clone() };
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(accepting.spawn_local(accept(listener, Rc::new(front)))),
            Err(error) => tracing::error!(%error, listener = socket.0, "the socket cannot be used"),
        }
    }
    while accepting.join_next().await.is_some() {}
}

async fn accept<S: Service>(listener: TcpListener, front: Rc<Front<S>>) {
    let mut open = JoinSet::new();
    let mut pause = PAUSES.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = front.drain.begun() => break,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                pause = PAUSES.0;
                // Over the limit one connection per socket waits here and no more are accepted: the kernel holds a
                // bounded number and then refuses. Taken before, a place that an idle socket holds would be missing
                // at a busy one.
                let place = tokio::select! {
                    place = front.shared.places.take() => place,
                    () = front.drain.begun() => break,
                };
                open.spawn_local(connect(stream, front.clone(), place));
            }
            Err(error) => {
                front.shared.accept_errors.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "cannot accept a connection");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connect<S: Service>(stream: TcpStream, front: Rc<Front<S>>, place: Place) {
    let peer = stream.peer_addr().ok();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection closed before it began");
        return;
    }
    let host = |scheme, client_certificate| front.host(Connection { peer, scheme, client_certificate });
    match front.shared.acceptor(front.socket) {
        None => host("http", None).serve(stream, Protocol::Unknown).await,
        Some(acceptor) => {
            match timeout(front.shared.limits().header_read, handshake(&acceptor, stream)).await {
                Ok(Ok((stream, protocol, certificate))) => {
                    host("https", certificate).serve(stream, protocol).await;
                }
                Ok(Err(error)) => tracing::debug!(?peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(?peer, "TLS handshake took too long"),
            }
        }
    }
    drop(place);
}

type Secure = (tokio_rustls::server::TlsStream<TcpStream>, Protocol, Option<Vec<u8>>);

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream) -> io::Result<Secure> {
    let stream = acceptor.accept(stream).await?;
    let session = stream.get_ref().1;
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
    Ok((stream, protocol, certificate))
}

/// Serves a Unix socket, or a TCP socket of an operator, until the end.
pub async fn serve_unix<S: Service>(
    listener: UnixListener,
    shared: Arc<Shared>,
    service: Rc<S>,
    drain: Drain,
) {
    let (mut open, mut ticking, deadlines) = (JoinSet::new(), JoinSet::new(), Deadlines::default());
    ticking.spawn_local(deadlines.clone().run());
    let front = Front { socket: ListenerId::ADMIN, shared, service, drain, deadlines };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = front.drain.begun() => break,
        };
        while open.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            sleep(PAUSES.1).await;
            continue;
        };
        let host = front.host(Connection { peer: None, scheme: "http", client_certificate: None });
        open.spawn_local(host.serve(stream, Protocol::Unknown));
    }
    while open.join_next().await.is_some() {}
}
