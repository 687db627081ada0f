//! Bodies on their way: progress of an upload, and an answer that gives its connection back when it ends.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
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
    awaited: Awaited,
}

/// Whose turn it is while a request is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// More of the body is to come from the caller.
    Caller,
    /// What there is has been handed on.
    Provider,
}

impl Progress {
    /// Watches a body that streams: `idle` between its parts, `answer` after its end. `None`: all of it is here.
    pub(super) fn track(body: &mut Body, idle: Duration, answer: Duration) -> Option<Self> {
        if body.as_bytes().is_some() {
            return None;
        }
        let begun = State { last: now(), patience: idle, awaited: Awaited::Provider };
        let progress = Self(Rc::new(Cell::new(begun)));
        let upload = Upload { body: std::mem::take(body), progress: progress.clone(), answer };
        *body = Body::stream(upload);
        Some(progress)
    }

    /// When patience ends.
    pub(super) fn deadline(&self) -> Instant {
        let state = self.0.get();
        state.last + state.patience
    }

    /// Who is waited for.
    pub(super) fn awaited(&self) -> Awaited {
        self.0.get().awaited
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
        let state = self.progress.0.get();
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.progress.0.set(State { awaited: Awaited::Caller, ..state });
            return Poll::Pending;
        };
        let ended = frame.is_none() || self.body.is_end_stream();
        let patience = if ended { self.answer } else { state.patience };
        self.progress.0.set(State { last: now(), patience, awaited: Awaited::Provider });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose answer is being read, and whose request may still be on its way: who ends last gives it back.
pub(super) struct Lease(Rc<RefCell<Shared>>);

struct Shared {
    /// `None` once it was given back or is of no use.
    connection: Option<Box<Connection>>,
    /// How far the request's body has come, if it streams.
    upload: Option<Progress>,
    /// Where the connection goes when the answer is read and the request has left; `None`: it serves once.
    home: Option<Home>,
    reading: Reading,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    GoesOn,
    Over,
}

/// Where a connection is kept between its answers.
pub(super) struct Home {
    pub(super) pool: Pool,
    pub(super) origin: OriginId,
    pub(super) lifetime: Duration,
    pub(super) permit: OwnedSemaphorePermit,
}

impl Lease {
    /// A lease of a connection with an answer. What the request still has to send leaves in a task of its own: whoever
    /// takes the answer may do so only when all of it has been sent.
    pub(super) fn new(
        connection: Box<Connection>,
        upload: Option<Progress>,
        home: Option<Home>,
        (deadlines, patience): (&Deadlines, Duration),
    ) -> Self {
        let has_sent_all = connection.has_sent_all();
        let shared = Shared { connection: Some(connection), upload, home, reading: Reading::GoesOn };
        let lease = Self(Rc::new(RefCell::new(shared)));
        if !has_sent_all {
            tokio::task::spawn_local(send_rest(lease.0.clone(), deadlines.clone(), now() + patience));
        }
        lease
    }

    fn poll_frame(
        &self,
        rest: &mut Rest,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0.borrow_mut().connection {
            Some(connection) => rest.poll_frame(connection, cx),
            None => Poll::Ready(None),
        }
    }

    /// The answer has been read to its end: the connection can serve again, once the whole request has left.
    pub(super) fn give_back(self, rest: &Rest) {
        let mut shared = self.0.borrow_mut();
        shared.reading = Reading::Over;
        if !rest.leaves_reusable() {
            shared.end();
        }
        shared.settle();
    }

    /// Until when the request's body may be silent, as long as it has not all left.
    fn upload_until(&self) -> Option<Instant> {
        let shared = self.0.borrow();
        let is_sending = shared.connection.as_ref().is_some_and(|connection| !connection.has_sent_all());
        shared.upload.as_ref().filter(|_| is_sending).map(Progress::deadline)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody reads the answer any more.
        let mut shared = self.0.borrow_mut();
        if shared.reading == Reading::GoesOn {
            shared.end();
        }
    }
}

impl Shared {
    /// Closes the connection, and lets the next have its turn at once, whatever the other side of the exchange still waits for.
    fn end(&mut self) {
        self.connection = None;
        self.home = None;
    }

    /// Gives the connection back, when nothing is left to read or to send.
    fn settle(&mut self) {
        let is_done = |connection: &mut Box<Connection>| connection.has_sent_all();
        if self.reading == Reading::Over
            && let Some(connection) = self.connection.take_if(is_done)
            && let Some(home) = self.home.take()
        {
            home.take(connection);
        }
    }
}

/// Sends what an early answer left unsent.
async fn send_rest(shared: Rc<RefCell<Shared>>, deadlines: Deadlines, end: Instant) {
    let upload = shared.borrow().upload.clone();
    let patience = || upload.as_ref().map_or(end, Progress::deadline);
    let sent = poll_fn(|cx| match &mut shared.borrow_mut().connection {
        Some(connection) => connection.poll_finish(cx),
        None => Poll::Ready(Ok(())),
    });
    let is_sent = matches!(deadlines.within(patience, sent).await, Ok(Ok(())));
    let mut shared = shared.borrow_mut();
    if !is_sent && shared.reading == Reading::Over {
        shared.end();
    }
    shared.settle();
}

impl Home {
    /// Takes a connection back that can serve again.
    pub(super) fn take(self, mut connection: Box<Connection>) {
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
        // A provider that waits for the rest of its request is not silent.
        let upload = self.lease.as_ref().and_then(Lease::upload_until);
        match &self.wait {
            None => {
                let deadline = now() + self.idle;
                self.wait = Some((deadline, self.deadlines.wait(deadline, cx.waker())));
            }
            Some((deadline, slot)) => {
                let deadline = upload.map_or(*deadline, |upload| upload.max(*deadline));
                if now() >= deadline {
                    self.lease = None;
                    return Poll::Ready(Some(Err(Elapsed.into())));
                }
                slot.renew(deadline, cx.waker());
            }
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
        let Some(lease) = &this.lease else { return Poll::Ready(None) };
        let Poll::Ready(frame) = lease.poll_frame(&mut this.rest, cx) else {
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
            lease.give_back(&this.rest);
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
