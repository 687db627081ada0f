//! The head of an answer (RFC 9112, sections 4, 5 and 6.3).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Response, StatusCode};
use httparse::{ParserConfig, Status};

use super::answer::Framing;

/// Fields of an answer.
const MOST_FIELDS: usize = 100;

/// An answer's head.
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection can be used again.
    pub(super) keeps_open: bool,
    /// Its bytes.
    pub(super) length: usize,
}

/// What the fields of a head say of its message.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    codings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

/// Whether there may be a whole head in what was read, the first `seen` bytes of which had none. Most heads come at once; in one
/// that does not, an empty line must have come.
pub(super) fn may_end(read: &[u8], seen: usize) -> bool {
    if seen == 0 {
        return true;
    }
    let new = read.get(seen.saturating_sub(3)..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).any(|at| {
        let next = new.get(at + 1..).unwrap_or_default();
        next.starts_with(b"\n") || next.starts_with(b"\r\n")
    })
}

/// The first head in what was read; `None`: it has not all come.
///
/// # Errors
/// It is none that can be passed on.
pub(super) fn parse(read: &Bytes, method: &Method) -> Result<Option<Head>, &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, read, &mut fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("more than 100 header fields"),
        Err(_) => return Err("something that is not HTTP"),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or("a status that there is not")?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + 4);
    let mut said = Said::default();
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else { return Err("something that is not HTTP") };
        // Said twice, a length is passed on once.
        if !(said.length.is_some() && name == CONTENT_LENGTH) {
            said.hear(&name, &value)?;
            headers.append(name, value);
        } else if said.length != length_of(&value) {
            return Err("lengths that contradict each other");
        }
    }
    // HTTP/1.0 knows no chunks; whoever sends them all the same has faulty framing (RFC 9112, section 6.1).
    let is_kept = parsed.version == Some(1) || (said.keep_alive && said.codings == 0);
    let keeps_open = is_kept && !said.close;
    let framing = said.framing(method, status)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Some(Head { response, framing, keeps_open, length }))
}

/// A length is digits, and nothing else: no sign, no list.
fn length_of(value: &HeaderValue) -> Option<u64> {
    let digit = |byte: &u8| char::from(*byte).to_digit(10).map(u64::from);
    let digits = value.as_bytes();
    let next = |length: u64, byte| length.checked_mul(10)?.checked_add(digit(byte)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, next) }
}

impl Said {
    fn hear(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), &'static str> {
        if *name == CONTENT_LENGTH {
            self.length = Some(length_of(value).ok_or("a Content-Length that is no number")?);
        } else if *name == TRANSFER_ENCODING {
            self.codings += 1;
            self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
        } else if *name == CONNECTION {
            for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    /// Where the body ends. What others might read differently nobody may read (RFC 9112, sections 6.1 and 6.3).
    fn framing(&self, method: &Method, status: StatusCode) -> Result<Framing, &'static str> {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err("a switch of protocols that nobody asked for");
        }
        if self.codings > 0 && !(self.codings == 1 && self.chunked) {
            return Err("a transfer coding other than chunked");
        }
        if self.codings > 0 && self.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(if *method == Method::HEAD || bodiless || status.is_informational() {
            Framing::Length(0)
        } else if self.chunked {
            Framing::Chunked
        } else {
            self.length.map_or(Framing::ToTheEnd, Framing::Length)
        })
    }
}
