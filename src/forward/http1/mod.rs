//! HTTP/1.1 towards a provider (RFC 9112): one connection, one exchange at a time.
//!
//! Whoever waits for an answer, or reads one, drives the connection: there is no task beside it, no channel between them,
//! and what is idle costs nothing. The request stays with whoever sends it, so that it can be sent again.

mod answer;
mod chunked;
mod head;
mod request;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Request};
use standpipe_api::{Body, BoxError};
use tokio::io::AsyncReadExt as _;

pub(super) use self::answer::{Answer, Rest};
use self::request::{Unwritten, Writing};
use super::wire::Wire;
use crate::providers::OpenConnection;

/// Bytes of an answer's head.
const MOST_HEAD: usize = 128 * 1024;
/// Interim answers (1xx) before an answer.
const MOST_INTERIM: u32 = 32;
/// Bytes read at once: at first, and when an answer's body proves to be long.
const ROOM: usize = 8 * 1024;
const MOST_ROOM: usize = 128 * 1024;

/// An HTTP/1.1 connection to a provider.
pub(super) struct Connection {
    wire: Wire,
    writing: Writing,
    /// What was read and not yet understood.
    read: BytesMut,
    room: usize,
    /// Whether any byte of an answer has come.
    heard: bool,
    /// Interim answers so far.
    interim: u32,
    /// Counts it among its provider's.
    _open: Option<OpenConnection>,
}

/// How an exchange on a connection failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// Not a byte was written; the request is as it was.
    NotWritten(io::Error),
    /// The connection died before any byte of an answer.
    NoAnswer(io::Error),
    /// It died within an answer's head.
    WithinAnswer(io::Error),
    /// The answer is none that can be passed on.
    Nonsense(&'static str),
    /// The request's own body failed.
    Upload(BoxError),
}

impl Connection {
    /// Boxed, for it is handed on often: from the pool to an exchange, to a body, and back.
    pub(super) fn new(wire: Wire, open: Option<OpenConnection>) -> Box<Self> {
        Box::new(Self {
            wire,
            writing: Writing::default(),
            read: BytesMut::new(),
            room: ROOM,
            heard: false,
            interim: 0,
            _open: open,
        })
    }

    /// Sends a request and waits for the head of its answer. A body that is all here stays in the request; one that
    /// streams is taken, and what has not been sent of it when the answer comes is sent while that is read.
    pub(super) async fn exchange(&mut self, request: &mut Request<Body>) -> Result<Answer, Broken> {
        self.writing.begin(request);
        (self.heard, self.interim) = (false, 0);
        let mut failed = None;
        let answer = poll_fn(|cx| {
            // Reading comes first: an early answer must not wait for a long body to leave.
            if let Poll::Ready(answer) = self.poll_head(request.method(), cx) {
                return Poll::Ready(answer.map_err(|broken| broken.because(failed.take())));
            }
            if failed.is_none()
                && let Poll::Ready(Err(unwritten)) = self.writing.poll(&mut self.wire, cx)
            {
                match unwritten {
                    Unwritten::Body(error) => return Poll::Ready(Err(Broken::Upload(error))),
                    Unwritten::Wire(error) if self.writing.is_untouched() => {
                        return Poll::Ready(Err(Broken::NotWritten(error)));
                    }
                    // An answer may have come before the provider stopped reading.
                    Unwritten::Wire(error) => failed = Some(error),
                }
            }
            Poll::Pending
        })
        .await;
        if matches!(answer, Err(Broken::NotWritten(_))) {
            self.writing.give_back(request);
        }
        answer
    }

    fn poll_head(&mut self, method: &Method, cx: &mut Context<'_>) -> Poll<Result<Answer, Broken>> {
        loop {
            let seen = self.read.len();
            let read = match ready!(self.poll_read(cx)) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                // Nobody has asked for it.
                Ok(_) if self.writing.is_untouched() => Err(io::ErrorKind::InvalidData.into()),
                other => other,
            };
            match read {
                Ok(_) => self.heard = true,
                Err(error) if self.writing.is_untouched() => {
                    return Poll::Ready(Err(Broken::NotWritten(error)));
                }
                Err(error) if self.heard => return Poll::Ready(Err(Broken::WithinAnswer(error))),
                Err(error) => return Poll::Ready(Err(Broken::NoAnswer(error))),
            }
            if head::may_end(&self.read, seen) {
                // One copy, of the size it has, serves for all fields and for the beginning of the body.
                let mut bytes = Bytes::copy_from_slice(&self.read);
                while let Some(head) = head::parse(&bytes, method).map_err(Broken::Nonsense)? {
                    bytes = bytes.split_off(head.length.min(bytes.len()));
                    if !head.response.status().is_informational() {
                        self.read.clear();
                        return Poll::Ready(Ok(Answer::new(head, bytes)));
                    }
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Poll::Ready(Err(Broken::Nonsense("more than 32 interim answers")));
                    }
                }
                // What is behind the interim answers.
                self.read.advance(self.read.len() - bytes.len());
            }
            if self.read.len() >= MOST_HEAD {
                return Poll::Ready(Err(Broken::Nonsense("a head of more than 128 KiB")));
            }
        }
    }

    /// How many bytes came; 0 when no more will.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.room);
        let read = ready!(pin!(self.wire.read_buf(&mut self.read)).poll(cx))?;
        // Whoever fills the room has more to say.
        if read >= self.room {
            self.room = (self.room * 2).min(MOST_ROOM);
        }
        Poll::Ready(Ok(read))
    }

    /// Whether it can take a request: the provider has not closed it, and says nothing that nobody asked for. Costs no call
    /// of the system unless something has happened.
    pub(super) fn is_idle(&mut self) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends what an early answer left unsent.
    pub(super) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.writing.is_done() {
            return Poll::Ready(Ok(()));
        }
        self.writing.poll(&mut self.wire, cx).map_err(|unwritten| match unwritten {
            Unwritten::Wire(error) => error.into(),
            Unwritten::Body(error) => error,
        })
    }

    /// Whether all of the request has left.
    pub(super) fn has_sent_all(&self) -> bool {
        self.writing.is_done()
    }

    /// Forgets what the last exchange needed room for.
    pub(super) fn settle(&mut self) {
        self.writing.settle();
        self.room = ROOM;
        if self.read.capacity() > 2 * ROOM {
            self.read = BytesMut::new();
        }
    }
}

impl Broken {
    /// The same, because writing failed before.
    fn because(self, failed: Option<io::Error>) -> Self {
        match (self, failed) {
            (Self::NoAnswer(_), Some(error)) => Self::NoAnswer(error),
            (broken, _) => broken,
        }
    }
}
