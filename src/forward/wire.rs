//! A connection to a provider: TCP, perhaps TLS, counting what comes in.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::origin::Origin;

/// Bytes received so far. A pooled connection that dies before the first one did not answer.
pub(super) type Received = Rc<Cell<u64>>;

/// What a TLS connection needs to know.
#[derive(Clone, Copy)]
pub struct Tls<'a> {
    /// The name the certificate must have.
    pub name: &'a ServerName<'static>,
    /// Roots and client certificate.
    pub config: &'a Arc<ClientConfig>,
}

/// The stream under an HTTP/1.1 connection to a provider.
pub(super) struct Wire {
    stream: Stream,
    received: Received,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Connects, trying all addresses of the host in the order the resolver gives them. The caller bounds the time.
    pub(super) async fn connect(origin: &Origin, tls: Option<Tls<'_>>) -> io::Result<Self> {
        let tcp = connect_any(origin).await?;
        // A request is written in one piece; waiting for more of it only delays it.
        tcp.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(Tls { name, config }) => {
                Stream::Tls(Box::new(TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?))
            }
        };
        Ok(Self { stream, received: Received::default() })
    }

    /// The counter of bytes received.
    pub(super) fn received(&self) -> Received {
        self.received.clone()
    }
}

async fn connect_any(origin: &Origin) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((origin.host.as_str(), origin.port)).await?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.received.set(self.received.get() + (buf.filled().len() - before) as u64);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
