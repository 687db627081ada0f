//! A chunked body (RFC 9112, section 7.1), as it comes in.

use std::mem;

use bytes::{Buf as _, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of a chunk's size with its extensions, which are ignored.
const MOST_LINE: usize = 4 * 1024;
/// Bytes and fields behind a body.
const MOST_TRAILERS: usize = 16 * 1024;
const MOST_FIELDS: usize = 100;

const NOT_CHUNKED: &str = "the body is not what its transfer coding says";

/// Where in a chunked body we are.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    AfterData,
    Trailers,
    Ended,
}

/// What stands next in the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Data(Bytes),
    /// The end, and the fields behind it.
    End(HeaderMap),
    /// More has to be read.
    More,
}

impl Chunked {
    /// Takes the next part from what was read.
    ///
    /// # Errors
    /// It is not chunked.
    pub(super) fn next(&mut self, read: &mut Bytes) -> Result<Part, &'static str> {
        loop {
            match self.state {
                State::Data(_) if read.is_empty() => return Ok(Part::More),
                State::Data(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
                    let left = left - length as u64;
                    self.state = if left == 0 { State::AfterData } else { State::Data(left) };
                    return Ok(Part::Data(read.split_to(length)));
                }
                State::Ended => return Ok(Part::End(HeaderMap::new())),
                State::Size | State::AfterData | State::Trailers => {
                    let Some(line) = self.line(read)? else { return Ok(Part::More) };
                    if let Some(trailers) = self.hear(&line)? {
                        return Ok(Part::End(trailers));
                    }
                }
            }
        }
    }

    /// The next line without its end.
    fn line(&mut self, read: &mut Bytes) -> Result<Option<Vec<u8>>, &'static str> {
        let end = memchr::memchr(b'\n', read);
        let length = end.map_or(read.len(), |end| end + 1);
        if self.line.len() + length > MOST_LINE {
            return Err(NOT_CHUNKED);
        }
        self.line.extend_from_slice(read.get(..length).unwrap_or_default());
        read.advance(length);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = mem::take(&mut self.line);
        if !line.ends_with(b"\r\n") {
            return Err(NOT_CHUNKED);
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }

    fn hear(&mut self, line: &[u8]) -> Result<Option<HeaderMap>, &'static str> {
        match self.state {
            State::Size => {
                let size = size(line).ok_or(NOT_CHUNKED)?;
                self.state = if size == 0 { State::Trailers } else { State::Data(size) };
            }
            State::AfterData if line.is_empty() => self.state = State::Size,
            State::AfterData => return Err(NOT_CHUNKED),
            _ => {
                self.trailers.extend_from_slice(line);
                self.trailers.extend_from_slice(b"\r\n");
                if self.trailers.len() > MOST_TRAILERS {
                    return Err("more than 16 KiB behind the body");
                }
                if line.is_empty() {
                    self.state = State::Ended;
                    return fields(&self.trailers).map(Some);
                }
            }
        }
        Ok(None)
    }
}

/// A chunk's size: hexadecimal digits, perhaps white space, perhaps extensions.
fn size(line: &[u8]) -> Option<u64> {
    let said = line.split(|byte| *byte == b';').next()?;
    let last = said.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'))?;
    let digits = said.get(..=last)?;
    // A sign is no digit, though it would parse.
    let digits = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
    u64::from_str_radix(digits, 16).ok()
}

fn fields(lines: &[u8]) -> Result<HeaderMap, &'static str> {
    let mut parsed = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(lines, &mut parsed) else {
        return Err("something behind the body that is no header field");
    };
    let field = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    };
    let mut fields = HeaderMap::new();
    for (name, value) in parsed.iter().filter_map(field) {
        fields.append(name, value);
    }
    Ok(fields)
}
