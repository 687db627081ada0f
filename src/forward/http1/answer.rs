//! An answer as it comes in: its head, and what is still to come behind it.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use standpipe_api::BoxError;

use super::super::fields::may_follow;
use super::Connection;
use super::chunked::{Chunked, Part};
use super::head::Head;

/// An answer whose head is here.
pub(in crate::forward) struct Answer {
    pub(in crate::forward) response: Response<()>,
    pub(in crate::forward) rest: Rest,
}

impl Answer {
    /// An answer, and what was read behind its head.
    pub(super) fn new(head: Head, read: Bytes) -> Self {
        Self { response: head.response, rest: Rest::new(head.framing, read, head.keeps_open) }
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its chunks say.
    Chunked,
    /// Where the connection does.
    ToTheEnd,
}

/// What is still to come of an answer.
pub(in crate::forward) struct Rest {
    body: Left,
    /// What was read and is not yet told.
    read: Bytes,
    keeps_open: bool,
}

enum Left {
    Nothing,
    Length(u64),
    Chunked(Box<Chunked>),
    ToTheEnd,
}

impl Rest {
    fn new(framing: Framing, read: Bytes, keeps_open: bool) -> Self {
        let body = match framing {
            Framing::Length(0) => Left::Nothing,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Box::default()),
            Framing::ToTheEnd => Left::ToTheEnd,
        };
        Self { body, read, keeps_open: keeps_open && framing != Framing::ToTheEnd }
    }

    /// All of the body, when it came with the head.
    pub(in crate::forward) fn whole(&mut self) -> Option<Bytes> {
        match self.body {
            Left::Nothing => Some(Bytes::new()),
            Left::Length(length) if length <= self.read.len() as u64 => {
                self.body = Left::Nothing;
                Some(self.read.split_to(usize::try_from(length).unwrap_or(usize::MAX)))
            }
            _ => None,
        }
    }

    /// Whether nothing more comes.
    pub(in crate::forward) fn is_over(&self) -> bool {
        matches!(self.body, Left::Nothing)
    }

    pub(in crate::forward) fn size_hint(&self) -> SizeHint {
        match self.body {
            Left::Nothing => SizeHint::with_exact(0),
            Left::Length(length) => SizeHint::with_exact(length),
            Left::Chunked(_) | Left::ToTheEnd => SizeHint::default(),
        }
    }

    /// Whether a connection whose answer this was can serve again.
    pub(in crate::forward) fn leaves_reusable(&self) -> bool {
        self.is_over() && self.keeps_open && self.read.is_empty()
    }

    /// The next part, from a connection that is read meanwhile.
    pub(in crate::forward) fn poll_frame(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            match self.next() {
                Ok(Some(Part::Data(data))) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Some(Part::End(trailers))) => {
                    self.body = Left::Nothing;
                    let passed_on = trailers.iter().filter(|(name, _)| may_follow(name));
                    let trailers: HeaderMap =
                        passed_on.map(|(name, value)| (name.clone(), value.clone())).collect();
                    return Poll::Ready((!trailers.is_empty()).then_some(Ok(Frame::trailers(trailers))));
                }
                Ok(Some(Part::More)) => {}
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(connection.poll_read(cx)) {
                Ok(0) if matches!(self.body, Left::ToTheEnd) => self.body = Left::Nothing,
                Ok(0) => {
                    return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())));
                }
                Ok(_) => self.read = connection.read.split().freeze(),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// What stands next in what was read; `None` at the end.
    fn next(&mut self) -> Result<Option<Part>, &'static str> {
        let data = match &mut self.body {
            Left::Nothing => return Ok(None),
            Left::Chunked(chunked) => return chunked.next(&mut self.read).map(Some),
            Left::Length(_) | Left::ToTheEnd if self.read.is_empty() => return Ok(Some(Part::More)),
            Left::Length(length) => {
                let part = usize::try_from(*length).unwrap_or(usize::MAX).min(self.read.len());
                *length -= part as u64;
                self.read.split_to(part)
            }
            Left::ToTheEnd => std::mem::take(&mut self.read),
        };
        if matches!(self.body, Left::Length(0)) {
            self.body = Left::Nothing;
        }
        Ok(Some(Part::Data(data)))
    }
}
