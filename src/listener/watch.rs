//! Keeps the time of one connection without a timer per request: notes when things happen, and lets the
//! connection's own task ask now and then whether something takes too long.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http_body::{Body as HttpBody, Frame, SizeHint};
use standpipe_api::{Body, BoxError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Shared;
use super::body::Untaken;
use super::guard::Guard;
use super::linger::Linger;
use super::refused::Refusal;
use crate::config::Limits;
use crate::forward::deadline::now;

/// What one connection is doing, and since when.
#[derive(Clone)]
pub(super) struct Watch(Rc<Notes>);

struct Notes {
    /// Requests whose answers have not ended.
    in_flight: Cell<u32>,
    /// When the last answer ended, or the connection began.
    idle_since: Cell<Instant>,
    /// When the first byte of a head came, while no request is in flight.
    head_since: Cell<Option<Instant>>,
    /// When the other side stopped taking bytes.
    stuck_since: Cell<Option<Instant>>,
    /// The answers on HTTP/2, and since when each waits for the client.
    offered: RefCell<Vec<Weak<Cell<Option<Instant>>>>>,
    /// What the guard did not let pass.
    refused: Cell<Option<Refusal>>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// Nothing was asked for too long.
    Idle,
    /// A head takes too long.
    Head,
    /// The other side does not read.
    Stuck,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self(Rc::new(Notes {
            in_flight: Cell::new(0),
            idle_since: Cell::new(now()),
            head_since: Cell::new(None),
            stuck_since: Cell::new(None),
            offered: RefCell::default(),
            refused: Cell::new(None),
        }))
    }

    /// A request has been read.
    pub(super) fn began(&self) {
        self.0.in_flight.set(self.0.in_flight.get() + 1);
        self.0.head_since.set(None);
    }

    fn ended(&self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.idle_since.set(now());
    }

    /// An answer waits for its client from now on.
    pub(super) fn offer(&self) -> Untaken {
        let untaken = Rc::new(Cell::new(Some(now())));
        let mut offered = self.0.offered.borrow_mut();
        if offered.len() == offered.capacity() {
            offered.retain(|answer| answer.strong_count() > 0);
        }
        offered.push(Rc::downgrade(&untaken));
        untaken
    }

    /// Since when the answer that waits longest for its client does so.
    fn untaken(&self) -> Option<Instant> {
        self.0.offered.borrow().iter().filter_map(|answer| answer.upgrade()?.get()).min()
    }

    /// Why the connection was refused, if it was.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.0.refused.get()
    }

    /// What takes too long, or when to look again.
    pub(super) fn look(&self, limits: &Limits) -> Result<Instant, Overdue> {
        let now = now();
        let notes = &self.0;
        let stuck = notes.stuck_since.get().or_else(|| self.untaken());
        let (end, overdue) = if let Some(since) = stuck {
            (since + limits.idle, Overdue::Stuck)
        } else if notes.in_flight.get() > 0 {
            (now + limits.header_read, Overdue::Idle)
        } else if let Some(since) = notes.head_since.get() {
            (since + limits.header_read, Overdue::Head)
        } else {
            (notes.idle_since.get() + limits.idle, Overdue::Idle)
        };
        if end <= now { Err(overdue) } else { Ok(end.min(now + limits.header_read)) }
    }
}

/// A stream whose reads are guarded, and whose reads and writes are noted.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) watch: Watch,
    pub(super) guard: Guard,
    pub(super) linger: Linger,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.guard.refused().is_some() {
            buf.put_slice(this.guard.instead(buf.remaining())?);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return polled;
        }
        let (came, passed) = (fresh.len(), this.guard.check(fresh));
        if passed < came || this.guard.refused().is_some() {
            buf.set_filled(before + passed);
            this.watch.0.refused.set(this.guard.refused());
            if passed == 0 {
                // Nothing at all would look like the end of the stream.
                buf.put_slice(this.guard.instead(buf.remaining())?);
            }
        }
        let notes = &this.watch.0;
        if notes.in_flight.get() == 0 && notes.head_since.get().is_none() && this.guard.in_head() {
            notes.head_since.set(Some(now()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        let stuck = &self.watch.0.stuck_since;
        match &polled {
            Poll::Ready(_) => stuck.set(None),
            Poll::Pending if stuck.get().is_none() => stuck.set(Some(now())),
            Poll::Pending => {}
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.linger.has_begun() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.guard.at_rest() {
            ready!(this.linger.poll(cx, &mut this.stream));
        }
        Poll::Ready(Ok(()))
    }
}

/// One request in flight; it ends when its answer's body has been read or dropped.
pub(super) struct InFlight {
    pub(super) watch: Watch,
    pub(super) shared: Arc<Shared>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.watch.ended();
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body that ends its request.
pub(super) struct Answer {
    pub(super) body: Body,
    pub(super) _held: InFlight,
}

impl HttpBody for Answer {
    type Data = bytes::Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
