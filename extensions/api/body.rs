//! A message body: streams until somebody needs all of it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{Error, Result};

/// Any error at all, on its way into a log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or response's body. It belongs to one core and need not be `Send`.
pub struct Body(Inner);

enum Inner {
    Empty,
    Full(Bytes),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError>>>),
}

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body that streams from elsewhere.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BoxError> + 'static) -> Self {
        if body.is_end_stream() { Self::empty() } else { Self(Inner::Stream(Box::pin(body))) }
    }

    /// Reads the whole body and keeps it, so that it can be read again and still be sent. Trailers are dropped.
    ///
    /// # Errors
    /// [`Error::body_too_large`] past `limit` bytes, [`Error::body_broken`] when the sender fails.
    pub async fn bytes(&mut self, limit: usize) -> Result<Bytes> {
        let whole = match &mut self.0 {
            Inner::Empty => Bytes::new(),
            Inner::Full(bytes) if bytes.len() > limit => return Err(Error::body_too_large(limit)),
            Inner::Full(bytes) => bytes.clone(),
            Inner::Stream(stream) => read(stream.as_mut(), limit).await?,
        };
        *self = Self::from(whole.clone());
        Ok(whole)
    }

    /// Reads the whole body if it has at most `limit` bytes, as [`Body::bytes`]. `None`: it is longer, and still whole, to
    /// be sent on as it comes.
    ///
    /// # Errors
    /// [`Error::body_broken`] when the sender fails.
    pub async fn bytes_within(&mut self, limit: usize) -> Result<Option<Bytes>> {
        let Inner::Stream(stream) = &mut self.0 else {
            return Ok(if self.as_bytes().is_some_and(|bytes| bytes.len() <= limit) {
                self.as_bytes().cloned()
            } else {
                None
            });
        };
        if stream.size_hint().lower() > limit as u64 {
            return Ok(None);
        }
        let (mut read, mut length) = (VecDeque::new(), 0);
        while let Some(frame) = poll_fn(|cx| stream.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(Error::body_broken)?;
            length += frame.data_ref().map_or(0, Bytes::len);
            read.push_back(frame);
            if length > limit {
                let Inner::Stream(rest) = std::mem::replace(&mut self.0, Inner::Empty) else {
                    return Ok(None);
                };
                self.0 = Inner::Stream(Box::pin(Continued { read, rest }));
                return Ok(None);
            }
        }
        let mut whole = BytesMut::with_capacity(length);
        read.iter().filter_map(Frame::data_ref).for_each(|data| whole.extend_from_slice(data));
        *self = Self::from(whole.freeze());
        Ok(self.as_bytes().cloned())
    }

    /// The bytes, when they are all here already.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        static NONE: Bytes = Bytes::new();
        match &self.0 {
            Inner::Empty => Some(&NONE),
            Inner::Full(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }
}

/// What was read of a body, and the rest of it.
struct Continued {
    read: VecDeque<Frame<Bytes>>,
    rest: Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError>>>,
}

impl HttpBody for Continued {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.read.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.rest.as_mut().poll_frame(cx),
        }
    }
}

async fn read(
    mut stream: Pin<&mut dyn HttpBody<Data = Bytes, Error = BoxError>>,
    limit: usize,
) -> Result<Bytes> {
    if stream.size_hint().lower() > limit as u64 {
        return Err(Error::body_too_large(limit));
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| stream.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(Error::body_broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(Error::body_too_large(limit));
        }
        // Most bodies are one frame, and one frame needs no copy.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Stream(stream) => {
                let frame = ready!(pin!(stream).as_mut().poll_frame(cx));
                if frame.is_none() {
                    self.0 = Inner::Empty;
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Full(_) => false,
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(bytes)) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes()))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Body(..)")
    }
}
