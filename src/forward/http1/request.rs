//! A request on its way to the wire (RFC 9112, sections 3, 6 and 7.1).

use std::io;
use std::io::Write as _;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Request};
use http_body::{Body as HttpBody, Frame};
use standpipe_api::{Body, BoxError};
use tokio::io::AsyncWrite;

use super::super::fields::may_follow;
use super::super::wire::Wire;

/// Bytes that are copied behind a head or a chunk's size, so that both leave in one write.
const COPIED: usize = 16 * 1024;

/// What is still to be written of a request.
#[derive(Default)]
pub(super) struct Writing {
    buffer: Vec<u8>,
    written: usize,
    /// Written behind the buffer, as it is.
    large: Bytes,
    rest: Option<Streaming>,
    touched: bool,
    /// Whether what was written has left what keeps it back, such as TLS.
    flushed: bool,
    failed: bool,
}

/// A body that streams.
struct Streaming {
    body: Body,
    framing: Framing,
}

/// How a provider sees where a body ends.
enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// In chunks; these fields may follow it.
    Chunked(Vec<HeaderName>),
}

/// Why something was not written.
pub(super) enum Unwritten {
    Wire(io::Error),
    Body(BoxError),
}

impl Writing {
    /// Takes up a request. Its target goes in origin form, its framing is ours.
    pub(super) fn begin(&mut self, request: &mut Request<Body>) {
        *self = Self { buffer: mem::take(&mut self.buffer), ..Self::default() };
        self.buffer.clear();
        let whole = request.body().as_bytes().cloned();
        let framing = head(&mut self.buffer, request, whole.as_ref());
        match whole {
            Some(bytes) => self.add(bytes),
            None if matches!(framing, Framing::Length(0)) => {}
            None => self.rest = Some(Streaming { body: mem::take(request.body_mut()), framing }),
        }
    }

    /// Puts a body back that nothing has been read of, because its head was not written.
    pub(super) fn give_back(&mut self, request: &mut Request<Body>) {
        if let Some(Streaming { body, .. }) = self.rest.take() {
            *request.body_mut() = body;
        }
    }

    /// Whether not a byte has been written.
    pub(super) fn is_untouched(&self) -> bool {
        !self.touched
    }

    /// Whether there is nothing left to write.
    pub(super) fn is_done(&self) -> bool {
        let nothing_left = self.rest.is_none() && self.large.is_empty() && self.written == self.buffer.len();
        nothing_left && self.flushed && !self.failed
    }

    /// Forgets what a long request needed room for.
    pub(super) fn settle(&mut self) {
        if self.buffer.capacity() > 2 * COPIED {
            *self = Self::default();
        }
    }

    /// Writes until all has left. What failed once is not tried again.
    pub(super) fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Unwritten>> {
        if self.failed {
            return Poll::Ready(Err(Unwritten::Wire(io::ErrorKind::BrokenPipe.into())));
        }
        let polled = self.poll_all(wire, cx);
        self.failed = matches!(polled, Poll::Ready(Err(_)));
        polled
    }

    fn poll_all(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Unwritten>> {
        let mut wire = Pin::new(wire);
        loop {
            let (bytes, is_large) = match self.buffer.get(self.written..) {
                Some(left) if !left.is_empty() => (left, false),
                _ => (&*self.large, true),
            };
            if !bytes.is_empty() {
                // TLS may have sent one record of what fails with the next.
                self.touched |= wire.is_tls();
                self.flushed = false;
                let written = match ready!(wire.as_mut().poll_write(cx, bytes)) {
                    Ok(0) => return Poll::Ready(Err(Unwritten::Wire(io::ErrorKind::WriteZero.into()))),
                    Ok(written) => written,
                    Err(error) => return Poll::Ready(Err(Unwritten::Wire(error))),
                };
                self.touched = true;
                if is_large {
                    self.large.advance(written)
                } else {
                    self.written += written
                }
                continue;
            }
            let Some(streaming) = &mut self.rest else {
                ready!(wire.poll_flush(cx)).map_err(Unwritten::Wire)?;
                self.flushed = true;
                return Poll::Ready(Ok(()));
            };
            let Poll::Ready(frame) = Pin::new(&mut streaming.body).poll_frame(cx) else {
                ready!(wire.poll_flush(cx)).map_err(Unwritten::Wire)?;
                return Poll::Pending;
            };
            self.written = 0;
            self.buffer.clear();
            self.add_frame(frame).map_err(Unwritten::Body)?;
        }
    }

    fn add(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED {
            self.buffer.extend_from_slice(&bytes);
        } else {
            self.large = bytes;
        }
    }

    fn add_frame(&mut self, frame: Option<Result<Frame<Bytes>, BoxError>>) -> Result<(), BoxError> {
        let Some(streaming) = &mut self.rest else { return Ok(()) };
        let frame = frame.transpose()?.map(Frame::into_data);
        match (&mut streaming.framing, frame) {
            (Framing::Length(left), Some(Ok(data))) => {
                *left = left.checked_sub(data.len() as u64).ok_or("a body longer than it said")?;
                if *left == 0 {
                    self.rest = None;
                }
                self.add(data);
            }
            (Framing::Length(_), Some(Err(_trailers))) => {}
            (Framing::Length(_), None) => return Err("a body shorter than it said".into()),
            // An empty chunk would end the body.
            (Framing::Chunked(_), Some(Ok(data))) if data.is_empty() => {}
            (Framing::Chunked(_), Some(Ok(data))) => {
                write!(self.buffer, "{:x}\r\n", data.len())?;
                self.buffer.extend_from_slice(&data);
                self.buffer.extend_from_slice(b"\r\n");
            }
            (Framing::Chunked(announced), Some(Err(frame))) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                end(&mut self.buffer, &trailers, announced);
                self.rest = None;
            }
            (Framing::Chunked(_), None) => {
                end(&mut self.buffer, &HeaderMap::new(), &[]);
                self.rest = None;
            }
        }
        Ok(())
    }
}

/// Writes a head, and says how the body behind it ends, unless it is all here.
fn head(buffer: &mut Vec<u8>, request: &Request<Body>, whole: Option<&Bytes>) -> Framing {
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    buffer.extend_from_slice(request.method().as_str().as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(target.as_bytes());
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
    let mut said = None;
    for (name, value) in request.headers() {
        if *name == CONTENT_LENGTH {
            said = value.to_str().ok().and_then(|length| length.parse().ok());
        } else if *name != TRANSFER_ENCODING {
            field(buffer, name, value.as_bytes());
        }
    }
    let length = match whole {
        Some(bytes) => Some(bytes.len() as u64).filter(|length| *length > 0 || said.is_some()),
        None => said.or_else(|| request.body().size_hint().exact()),
    };
    let framing = match length {
        Some(length) => {
            field(buffer, &CONTENT_LENGTH, length.to_string().as_bytes());
            Framing::Length(length)
        }
        None if whole.is_some() => Framing::Length(0),
        None => {
            field(buffer, &TRANSFER_ENCODING, b"chunked");
            Framing::Chunked(announced(request.headers()))
        }
    };
    buffer.extend_from_slice(b"\r\n");
    framing
}

fn field(buffer: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    buffer.extend_from_slice(name.as_str().as_bytes());
    buffer.extend_from_slice(b": ");
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(b"\r\n");
}

/// Ends a chunked body. Only what was announced can follow it: a provider may read nothing else.
fn end(buffer: &mut Vec<u8>, trailers: &HeaderMap, announced: &[HeaderName]) {
    buffer.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if announced.contains(name) && may_follow(name) {
            field(buffer, name, value.as_bytes());
        }
    }
    buffer.extend_from_slice(b"\r\n");
}

fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(TRAILER).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}
