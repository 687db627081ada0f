//! Closing on a client that is still sending.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a refused client may go on sending before the socket is closed. A socket closed on unread bytes is
/// reset, and a reset can overtake the answer that says why.
const LINGER: Duration = Duration::from_secs(2);

/// The wait for a client that is still sending.
#[derive(Default)]
pub(super) struct Linger(Option<Pin<Box<Sleep>>>);

impl Linger {
    /// Whether it has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.0.is_some()
    }

    /// Discards what the client still sends, until it has closed too or its time is over.
    pub(super) fn poll<T: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, stream: &mut T) -> Poll<()> {
        let over = self.0.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        let mut unread = [0; 4096];
        loop {
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut unread);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}
