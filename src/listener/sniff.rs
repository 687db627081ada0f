//! Which protocol a client speaks, when TLS has not said so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::connection::Protocol;
use crate::config::Limits;

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is clear whether the client speaks HTTP/2; gives back what was read. The first byte may take as
/// long as any other request, the rest as long as a head.
///
/// # Errors
/// The client closed, failed, or took too long.
pub(super) async fn sniff<T>(stream: &mut T, limits: &Limits) -> io::Result<(Protocol, Bytes)>
where
    T: AsyncRead + Unpin,
{
    let mut seen = BytesMut::with_capacity(PREFACE.len());
    let mut deadline = Instant::now() + limits.idle;
    loop {
        let most = PREFACE.len() - seen.len();
        let mut room = (&mut seen).limit(most);
        let read = timeout_at(deadline, stream.read_buf(&mut room)).await.map_err(io::Error::from)??;
        if read == 0 && seen.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if read == 0 || !PREFACE.starts_with(&seen) {
            return Ok((Protocol::Http1, seen.freeze()));
        }
        if seen.len() == PREFACE.len() {
            return Ok((Protocol::Http2, seen.freeze()));
        }
        if seen.len() == read {
            deadline = Instant::now() + limits.header_read;
        }
    }
}

/// A stream some bytes of which have been read already.
pub(super) struct Prefixed<T> {
    prefix: Bytes,
    stream: T,
}

impl<T> Prefixed<T> {
    pub(super) fn new(prefix: Bytes, stream: T) -> Self {
        Self { prefix, stream }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prefixed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let room = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix.split_to(room));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prefixed<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    async fn sniffed(pieces: &[&[u8]]) -> (Protocol, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1024);
        let limits = Limits::default();
        let mut sniffing = std::pin::pin!(sniff(&mut server, &limits));
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            if let Some(Ok((protocol, seen))) = futures_util::FutureExt::now_or_never(sniffing.as_mut()) {
                return (protocol, seen.to_vec());
            }
        }
        drop(client);
        let (protocol, seen) = sniffing.await.unwrap();
        (protocol, seen.to_vec())
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_is_known_however_it_is_cut_and_nothing_read_is_lost() {
        for cut in 1..PREFACE.len() {
            let (first, second) = PREFACE.split_at(cut);
            assert_eq!(sniffed(&[first, second]).await, (Protocol::Http2, PREFACE.to_vec()));
        }
        let long = [PREFACE, b"frames"].concat();
        assert_eq!(sniffed(&[&long]).await, (Protocol::Http2, PREFACE.to_vec()));
        assert_eq!(sniffed(&[b"P", b"OST"]).await, (Protocol::Http1, b"POST".to_vec()));
        assert_eq!(sniffed(&[b"PRI"]).await, (Protocol::Http1, b"PRI".to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_begins_and_stops_has_the_time_of_a_head() {
        let (mut client, mut server) = tokio::io::duplex(1024);
        let (limits, start) = (Limits::default(), Instant::now());
        client.write_all(b"PRI *").await.unwrap();
        let error = sniff(&mut server, &limits).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < limits.idle);
    }
}
