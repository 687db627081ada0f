//! Bodies on their way: progress of an upload, and an answer that gives its connection back when it ends.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use standpipe_api::{Body, BoxError};
use tokio::sync::OwnedSemaphorePermit;

use super::deadline::{Deadlines, Elapsed, Slot, now};
use super::http1::{Connection, Rest};
use super::origin::OriginId;
use super::pool::Pool;

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
    pub(super) connection: Box<Connection>,
    /// How far the request's body has come, if it streams.
    pub(super) upload: Option<Progress>,
    /// Where the connection goes back to; `None`: it serves once.
    pub(super) home: Option<Home>,
}

/// Where a connection is kept between its answers.
pub(super) struct Home {
    pub(super) pool: Pool,
    pub(super) origin: OriginId,
    pub(super) lifetime: Duration,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The answer has been read to its end: the connection can serve again, once the whole request has left.
    pub(super) fn give_back(self, rest: &Rest, deadlines: &Deadlines) {
        let Self { mut connection, upload, home: Some(home) } = self else { return };
        if !rest.leaves_reusable() {
            return;
        }
        if connection.has_sent_all() {
            return home.take(connection);
        }
        let (end, deadlines) = (now() + home.lifetime, deadlines.clone());
        tokio::task::spawn_local(async move {
            let patience = || upload.as_ref().map_or(end, Progress::deadline);
            let finished = deadlines.within(patience, poll_fn(|cx| connection.poll_finish(cx))).await;
            if let Ok(Ok(())) = finished {
                home.take(connection);
            }
        });
    }
}

impl Home {
    fn take(self, mut connection: Box<Connection>) {
        connection.settle();
        self.pool.put(self.origin, connection, self.lifetime);
        drop(self.permit);
    }
}

/// A provider's body. It breaks, visibly, when the provider falls silent for `idle`.
pub(super) struct Download {
    pub(super) rest: Rest,
    pub(super) lease: Option<Lease>,
    pub(super) deadlines: Deadlines,
    pub(super) idle: Duration,
    pub(super) wait: Option<(Instant, Slot)>,
    pub(super) broken: Option<BoxError>,
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
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(lease) = &mut this.lease else { return Poll::Ready(None) };
        // If that fails, the answer may still be whole; only the connection is not used again.
        let _unsent = lease.connection.poll_finish(cx);
        let Poll::Ready(frame) = this.rest.poll_frame(&mut lease.connection, cx) else {
            return this.poll_silence(cx);
        };
        this.wait = None;
        if let Some(Err(error)) = frame {
            this.lease = None;
            // Whoever writes this body on would drop what it holds of it when it hears of an error; a turn lets that leave.
            this.broken = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_over()
            && let Some(lease) = this.lease.take()
        {
            lease.give_back(&this.rest, &this.deadlines);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_over() && self.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}
