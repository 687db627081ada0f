//! The lines of a request head (RFC 9112, sections 2 to 6), and what they say of the body.

use crate::listener::charset::Charset;
use crate::listener::refused::Refusal;

/// A head, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Head {
    version: Option<Version>,
    skipped: bool,
    length: Option<u64>,
    coded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Old,
    Current,
}

/// What a line did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Fields follow.
    Begun,
    /// It is a field, and more lines follow.
    Field,
    /// The head is over, and this body follows.
    Over(Option<Body>),
}

/// How a body is framed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// By its length.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl Head {
    /// Looks at a line without its line end.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Line, Refusal> {
        if self.version.is_none() {
            return self.request_line(line);
        }
        if line.is_empty() {
            return self.over();
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            self.content_length(value)?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value)?;
        }
        Ok(Line::Field)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<Line, Refusal> {
        if line.is_empty() && !self.skipped {
            // One empty line before a request is tolerated (RFC 9112, section 2.2).
            self.skipped = true;
            return Ok(Line::Begun);
        }
        let mut words = line.split(|byte| *byte == b' ');
        let words = (words.next(), words.next(), words.next(), words.next());
        let (Some(method), Some(target), Some(version), None) = words else {
            return Err(Refusal::syntax("the request line is not three words with one space between"));
        };
        if method.is_empty() || !TOKEN.holds_all(method) {
            return Err(Refusal::syntax("the method is no token"));
        }
        if target.is_empty() || target.iter().any(|byte| !byte.is_ascii_graphic() || *byte == b'#') {
            return Err(Refusal::syntax("the target holds what a target cannot"));
        }
        self.version = Some(match version {
            b"HTTP/1.1" => Version::Current,
            b"HTTP/1.0" => Version::Old,
            _ => return Err(Refusal::syntax("the version is neither HTTP/1.0 nor HTTP/1.1")),
        });
        Ok(Line::Begun)
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::framing("more than one Content-Length"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::framing("Content-Length is not a number"));
        }
        let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        self.length = Some(length.ok_or(Refusal::framing("Content-Length is too large"))?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.coded {
            return Err(Refusal::framing("more than one Transfer-Encoding"));
        }
        self.coded = true;
        if self.version == Some(Version::Old) {
            return Err(Refusal::framing("Transfer-Encoding on HTTP/1.0"));
        }
        // Other codings before it are refused later, with an answer that says so; the framing is this one.
        let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let last = codings.next_back().unwrap_or_default();
        let repeated = codings.any(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if repeated || !last.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::framing("chunked is not the last transfer coding, or stands there twice"));
        }
        Ok(())
    }

    fn over(&self) -> Result<Line, Refusal> {
        match (self.length, self.coded) {
            (Some(_), true) => Err(Refusal::framing("both Content-Length and Transfer-Encoding")),
            (None, true) => Ok(Line::Over(Some(Body::Chunked))),
            (Some(0) | None, false) => Ok(Line::Over(None)),
            (Some(length), false) => Ok(Line::Over(Some(Body::Length(length)))),
        }
    }
}

/// Name and value of a field line.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::syntax("a field has no colon"))?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !TOKEN.holds_all(name) {
        // A space before the name continues the line above; one behind it hides the field from others.
        return Err(Refusal::syntax("a field's name is no token"));
    }
    let value = value.get(1..).unwrap_or_default();
    // Without an early end the compiler looks at many bytes at once.
    if value.iter().fold(false, |found, byte| found | (byte.is_ascii_control() & (*byte != b'\t'))) {
        return Err(Refusal::syntax("a field's value holds a control character"));
    }
    Ok((name, value.trim_ascii()))
}

/// Looks at a trailer. Fields that frame or route a message cannot come behind it (RFC 9110, section 6.5.1): the
/// next parser might merge them into the head.
pub(super) fn trailer(line: &[u8]) -> Result<(), Refusal> {
    let (name, _) = field(line)?;
    let forbidden: [&[u8]; 4] = [b"content-length", b"transfer-encoding", b"host", b"connection"];
    if forbidden.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
        return Err(Refusal::chunk("a trailer would frame or route the message"));
    }
    Ok(())
}

/// RFC 9110, section 5.6.2.
static TOKEN: Charset = Charset::alphanumeric_and(b"!#$%&'*+-.^_`|~");
