//! Checks every byte of an HTTP/1 connection before hyper reads it (decision 2).
//!
//! hyper accepts, unseen by a service, bare LF in heads, `Transfer-Encoding` together with `Content-Length`, and
//! equal duplicate lengths: each lets two parsers in a row disagree about where a message ends. The guard knows
//! one reading only, and follows the framing over keep-alive. From the byte on that breaks a rule nothing passes:
//! in a head, hyper reads a NUL in its place, answers 400 (431 when the head is too large) once it has answered
//! what came before, and closes; in a body, the read fails.

mod chunks;
mod head;

use std::io;

use self::chunks::Chunks;
use self::head::{Head, Line};
use super::refused::{Reason, Refusal};

/// What hyper reads in place of the rest of a refused head. Without an end it would wait for more of the head.
const SPOILT: &[u8] = b"\0\r\n\r\n";

/// Where in the stream of messages a connection is.
#[derive(Debug)]
pub(super) struct Guard {
    at: At,
    /// Bytes of the line that has not ended yet.
    line: Vec<u8>,
    most: Most,
    /// Of the head or the trailers so far.
    taken: Most,
    refused: Option<Refused>,
}

/// What a head may have, and trailers as well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Most {
    /// All of it, line ends included.
    pub(super) bytes: usize,
    /// Field lines.
    pub(super) fields: usize,
}

#[derive(Debug)]
enum At {
    Head(Head),
    Body(u64),
    Chunked(Chunks),
    Trailers,
    /// Not HTTP/1: nothing is looked at.
    Blind,
}

#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    /// What is still to be read in place of the rest; `None`: reading fails.
    rest: Option<&'static [u8]>,
}

/// How many bytes may pass before the rule is broken, and the rule.
type Broken = (usize, Refusal);

impl Guard {
    /// A connection that begins with a request.
    pub(super) fn new(most: Most) -> Self {
        let at = At::Head(Head::default());
        Self { at, line: Vec::new(), most, taken: Most::default(), refused: None }
    }

    /// A connection whose framing is somebody else's work.
    pub(super) fn blind() -> Self {
        Self { at: At::Blind, ..Self::new(Most::default()) }
    }

    /// Why nothing passes any more.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refused.as_ref().map(|refused| refused.refusal)
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        self.taken.bytes > 0 && matches!(self.at, At::Head(_))
    }

    /// Whether the last message ended and no other has begun.
    pub(super) fn at_rest(&self) -> bool {
        match self.at {
            At::Head(_) => self.taken.bytes == 0 && self.refused.is_none(),
            At::Blind => true,
            At::Body(_) | At::Chunked(_) | At::Trailers => false,
        }
    }

    /// Looks at bytes that were just read; gives back how many of them may pass. Once [`Self::refused`] has an
    /// answer, all that can be read is [`Self::instead`].
    pub(super) fn check(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(taken) => at += taken,
                Err((passed, refusal)) => {
                    let in_head = matches!(self.at, At::Head(_));
                    let spoilt = if refusal.reason == Reason::TooLong { &[] } else { SPOILT };
                    self.refused = Some(Refused { refusal, rest: in_head.then_some(spoilt) });
                    return at + passed;
                }
            }
        }
        at
    }

    /// Bytes to read after a refusal, at most `room`; none at the end of the stream.
    ///
    /// # Errors
    /// A body was refused: what is left of it must not look like its end.
    pub(super) fn instead(&mut self, room: usize) -> io::Result<&'static [u8]> {
        let Some(Refused { refusal, rest }) = &mut self.refused else { return Ok(&[]) };
        let rest = rest.as_mut().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, refusal.rule))?;
        let (now, later) = rest.split_at(room.min(rest.len()));
        *rest = later;
        Ok(now)
    }

    /// Takes some of the bytes, at least one.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Broken> {
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
    fn line(&mut self, rest: &[u8]) -> Result<usize, Broken> {
        let end = memchr::memchr(b'\n', rest);
        let taken = end.map_or(rest.len(), |end| end + 1);
        let room = self.most.bytes - self.taken.bytes;
        if taken > room {
            // As many bytes pass as make hyper, which knows the same limit, answer 431.
            return Err((room, Refusal::TOO_LONG));
        }
        self.taken.bytes += taken;
        let part = rest.get(..taken).unwrap_or_default();
        if end.is_none() {
            self.line.extend_from_slice(part);
            return Ok(taken);
        }
        let line = if self.line.is_empty() {
            Self::whole(&mut self.at, part)
        } else {
            self.line.extend_from_slice(part);
            let line = Self::whole(&mut self.at, &self.line);
            // A connection that waits for its next request keeps no memory for a line.
            self.line = Vec::new();
            line
        };
        // All but the last byte of a line that breaks a rule passes: hyper acts on whole lines only.
        match line.map_err(|refusal| (taken - 1, refusal))? {
            Line::Begun => {}
            Line::Field => {
                self.taken.fields += 1;
                if self.taken.fields > self.most.fields {
                    // The field that is one too many passes: with it hyper answers 431.
                    return Err((taken, Refusal::TOO_MANY));
                }
            }
            Line::Over(body) => {
                self.at = match body {
                    None => At::Head(Head::default()),
                    Some(head::Body::Length(length)) => At::Body(length),
                    Some(head::Body::Chunked) => At::Chunked(Chunks::default()),
                };
                self.taken = Most::default();
            }
        }
        Ok(taken)
    }

    fn whole(at: &mut At, line: &[u8]) -> Result<Line, Refusal> {
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal::syntax("a line ends without CR"))?;
        match at {
            At::Head(head) => head.line(line),
            _ if line.is_empty() => Ok(Line::Over(None)),
            _ => head::trailer(line).map(|()| Line::Field),
        }
    }
}

#[cfg(test)]
mod tests;
