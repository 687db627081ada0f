//! Checks every byte of an HTTP/1 connection before hyper reads it (decision 2).
//!
//! hyper accepts, unseen by a service, bare LF in heads, `Transfer-Encoding` together with `Content-Length`, and
//! equal duplicate lengths: each lets two parsers in a row disagree about where a message ends. The guard knows
//! one reading only. It follows the framing over keep-alive, and where a head breaks a rule it overwrites the
//! offending byte with NUL, so that hyper itself answers 400 and closes; in a body the read fails.

mod chunks;
mod head;

use std::io;

use self::chunks::Chunks;
use self::head::{Head, Line};

/// What may not be passed on, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str);

/// Where in the stream of messages a connection is.
#[derive(Debug)]
pub(super) struct Guard {
    at: At,
    /// Bytes of the line that has not ended yet.
    line: Vec<u8>,
    /// Bytes a head, or the trailers, may have.
    most: usize,
    taken: usize,
    /// Why the connection was refused.
    pub(super) refused: Option<Refusal>,
}

#[derive(Debug)]
enum At {
    Head(Head),
    Body(u64),
    Chunked(Chunks),
    Trailers,
    /// Not HTTP/1, or refused: nothing is looked at any more.
    Blind,
}

impl Guard {
    /// A connection that begins with a request; a head has at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { at: At::Head(Head::default()), line: Vec::new(), most, taken: 0, refused: None }
    }

    /// A connection whose framing is somebody else's work.
    pub(super) fn blind() -> Self {
        Self { at: At::Blind, ..Self::new(0) }
    }

    /// Looks at bytes that were just read; gives back how many of them may pass.
    ///
    /// # Errors
    /// A body's framing is broken.
    pub(super) fn check(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.refused.is_some() {
            return Ok(0);
        }
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let in_head = matches!(self.at, At::Head(_));
            match self.step(rest) {
                Ok(taken) => at += taken,
                Err((offset, refusal)) => {
                    self.refused = Some(refusal);
                    if !in_head {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.0));
                    }
                    if let Some(byte) = rest.get_mut(offset) {
                        *byte = 0;
                    }
                    return Ok(at + offset + 1);
                }
            }
        }
        Ok(bytes.len())
    }

    /// Takes some of the bytes, at least one; an error carries the offset of the byte to spoil.
    fn step(&mut self, rest: &[u8]) -> Result<usize, (usize, Refusal)> {
        match &mut self.at {
            At::Blind => Ok(rest.len()),
            At::Body(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.at = At::Head(Head::default());
                }
                Ok(taken)
            }
            At::Chunked(chunks) => {
                let taken = chunks.step(rest).map_err(|refusal| (0, refusal))?;
                if chunks.is_over() {
                    self.at = At::Trailers;
                }
                Ok(taken)
            }
            At::Head(_) | At::Trailers => self.line(rest),
        }
    }

    /// Takes the bytes up to the end of a line, and looks at the line when it is whole.
    fn line(&mut self, rest: &[u8]) -> Result<usize, (usize, Refusal)> {
        let end = memchr::memchr(b'\n', rest);
        let taken = end.map_or(rest.len(), |end| end + 1);
        let last = taken - 1;
        self.taken += taken;
        if self.taken > self.most {
            return Err((last, Refusal("the head is too long")));
        }
        let part = rest.get(..taken).unwrap_or_default();
        if end.is_none() {
            self.line.extend_from_slice(part);
            return Ok(taken);
        }
        let whole = if self.line.is_empty() {
            Self::whole(&mut self.at, part)
        } else {
            self.line.extend_from_slice(part);
            let whole = Self::whole(&mut self.at, &self.line);
            self.line.clear();
            whole
        };
        match whole.map_err(|refusal| (last, refusal))? {
            Line::More => {}
            Line::Over(next) => {
                self.at = next.map_or_else(
                    || At::Head(Head::default()),
                    |body| match body {
                        head::Body::Length(length) => At::Body(length),
                        head::Body::Chunked => At::Chunked(Chunks::default()),
                    },
                );
                self.taken = 0;
            }
        }
        Ok(taken)
    }

    fn whole(at: &mut At, line: &[u8]) -> Result<Line, Refusal> {
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal("a line ends without CR"))?;
        match at {
            At::Head(head) => head.line(line),
            At::Trailers if line.is_empty() => Ok(Line::Over(None)),
            _ => head::field(line).map(|_| Line::More),
        }
    }
}

#[cfg(test)]
mod tests;
