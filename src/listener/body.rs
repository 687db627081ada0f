//! Bodies that wait for their client: a request's while somebody reads it, and an HTTP/2 answer's while nobody does.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use standpipe_api::BoxError;

use super::watch::Answer;
use crate::forward::deadline::{Deadlines, Slot, now};

/// hyper's body with a deadline for each wait; without one, a client could hold whoever reads it for ever.
pub(super) struct Received {
    incoming: Incoming,
    deadlines: Deadlines,
    idle: Duration,
    wait: Option<(Instant, Slot)>,
}

impl Received {
    pub(super) fn new(incoming: Incoming, deadlines: Deadlines, idle: Duration) -> Self {
        Self { incoming, deadlines, idle, wait: None }
    }

    /// Whether the client has been silent for too long; if not, the task is woken when it has.
    fn is_late(&mut self, cx: &Context<'_>) -> bool {
        match &self.wait {
            None => {
                let deadline = now() + self.idle;
                self.wait = Some((deadline, self.deadlines.wait(deadline, cx.waker())));
            }
            Some((deadline, _)) if now() >= *deadline => return true,
            Some((deadline, slot)) => slot.renew(*deadline, cx.waker()),
        }
        false
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            self.wait = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.is_late(cx) {
            let late = io::Error::new(io::ErrorKind::TimedOut, "no byte of the body came for limits.idle");
            return Poll::Ready(Some(Err(late.into())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Since when an answer waits for its client to take what is there; `None` while it waits for us.
pub(super) type Untaken = Rc<Cell<Option<Instant>>>;

/// Bytes of an answer that wait on one HTTP/2 stream for the client's window.
const OFFER: usize = 64 << 10;

/// An answer's body on HTTP/2, where the client says how much it takes. On HTTP/1 the socket tells.
pub(super) struct Offered {
    body: Answer,
    /// What is left of a frame larger than [`OFFER`]: a frame that is handed over is held whole until it is taken.
    rest: Bytes,
    untaken: Untaken,
}

impl Offered {
    pub(super) fn new(body: Answer, untaken: Untaken) -> Self {
        Self { body, rest: Bytes::new(), untaken }
    }
}

impl HttpBody for Offered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.untaken.set(None);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.rest = data,
                Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
                None => return Poll::Ready(None),
            }
        }
        self.untaken.set(Some(now()));
        let most = OFFER.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(most)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        hint.upper().into_iter().for_each(|upper| whole.set_upper(upper + rest));
        whole
    }
}
