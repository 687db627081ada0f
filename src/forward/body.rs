//! Bodies on their way: progress of an upload, and an answer that gives its connection back when it ends.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use standpipe_api::{Body, BoxError};
use tokio::sync::OwnedSemaphorePermit;

use super::deadline::{Deadlines, Elapsed, Slot, now};
use super::origin::OriginId;
use super::pool::{Connection, Pool};

/// How far the sending of a request has come, for the deadline of its answer.
#[derive(Clone, Debug)]
pub(super) struct Progress(Rc<Cell<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    last: Instant,
    patience: Duration,
}

impl Progress {
    /// Watches a body that streams: `idle` between its parts, `answer` after its end. `None`: all of it is here.
    pub(super) fn track(body: &mut Body, idle: Duration, answer: Duration) -> Option<Self> {
        if body.as_bytes().is_some() {
            return None;
        }
        let progress = Self(Rc::new(Cell::new(State { last: now(), patience: idle })));
        let upload = Upload { body: std::mem::take(body), progress: progress.clone(), answer };
        *body = Body::stream(upload);
        Some(progress)
    }

    /// When patience ends.
    pub(super) fn deadline(&self) -> Instant {
        let state = self.0.get();
        state.last + state.patience
    }
}

struct Upload {
    body: Body,
    progress: Progress,
    answer: Duration,
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let state = self.progress.0.get();
        let ended = frame.is_none() || self.body.is_end_stream();
        let patience = if ended { self.answer } else { state.patience };
        self.progress.0.set(State { last: now(), patience });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What an answer holds until its body has been read.
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) pool: Pool,
    pub(super) origin: OriginId,
    pub(super) lifetime: Duration,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The answer has been read to its end: the connection can serve again.
    pub(super) fn give_back(self) {
        let Self { connection, pool, origin, lifetime, permit } = self;
        pool.put(origin, connection, now(), lifetime);
        drop(permit);
    }
}

/// A provider's body. It breaks, visibly, when the provider falls silent for `idle`.
pub(super) struct Download {
    pub(super) incoming: Incoming,
    pub(super) lease: Option<Lease>,
    pub(super) deadlines: Deadlines,
    pub(super) idle: Duration,
    pub(super) wait: Option<(Instant, Slot)>,
}

impl Download {
    fn poll_silence(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &self.wait {
            None => {
                let deadline = now() + self.idle;
                self.wait = Some((deadline, self.deadlines.wait(deadline, cx.waker())));
            }
            Some((deadline, _)) if now() >= *deadline => {
                self.lease = None;
                return Poll::Ready(Some(Err(Elapsed.into())));
            }
            Some((deadline, slot)) => slot.renew(*deadline, cx.waker()),
        }
        Poll::Pending
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_silence(cx);
        };
        self.wait = None;
        match &frame {
            Some(Err(_)) => self.lease = None,
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.lease.take().into_iter().for_each(Lease::give_back),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
