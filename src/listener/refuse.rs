//! What HTTP lets through and standpipe does not, as far as it can be seen in a parsed request.

use std::net::Ipv6Addr;

use http::header::{HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Version};
use memchr::memchr;
use standpipe_api::{Error, ErrorKind, Fault};

use super::charset::Charset;

const NO_UPGRADES: &str = "CONNECT and protocol upgrades are not forwarded";
const NO_CODINGS: &str = "transfer codings other than exactly `chunked` are not forwarded";

/// Why a request is refused before anybody sees it. It may have `most_fields` fields: HTTP/2 does not count them.
pub(super) fn refusal<B>(request: &Request<B>, most_fields: usize) -> Option<Error> {
    let headers = request.headers();
    if headers.len() > most_fields {
        let public = "the request has more fields than limits.header_count allows";
        return Some(Error::new(ErrorKind::HeadTooLarge, Fault::Caller, public));
    }
    // One pass: looking for each field by its name costs a hash each.
    let (mut hosts, mut codings) = (None, None);
    for (name, value) in headers {
        let before = if *name == HOST {
            hosts.replace(value)
        } else if *name == TRANSFER_ENCODING {
            codings.replace(value)
        } else if *name == UPGRADE {
            return Some(unsupported(NO_UPGRADES));
        } else {
            None
        };
        if before.is_some() {
            return Some(twice(name));
        }
    }
    if request.method() == Method::CONNECT {
        return Some(unsupported(NO_UPGRADES));
    }
    if codings.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Some(unsupported(NO_CODINGS));
    }
    host(request, hosts).or_else(|| path(request.uri().path()))
}

fn twice(name: &HeaderName) -> Error {
    if *name == HOST { Error::bad_request("more than one Host") } else { unsupported(NO_CODINGS) }
}

fn unsupported(public: &'static str) -> Error {
    Error::new(ErrorKind::NotImplemented, Fault::Caller, public)
}

fn host<B>(request: &Request<B>, host: Option<&HeaderValue>) -> Option<Error> {
    let target = request.uri().authority();
    match (host, target) {
        (None, _) if request.version() == Version::HTTP_11 => Some(Error::bad_request("no Host")),
        (Some(host), Some(target)) if !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()) => {
            Some(Error::bad_request("Host and the request's target name different hosts"))
        }
        (Some(host), _) => not_a_host(host.as_bytes()),
        (None, Some(target)) => not_a_host(target.as_str().as_bytes()),
        (None, None) => None,
    }
}

/// A `Host` that is not a name or address with perhaps a port (RFC 9110, section 7.2; RFC 3986, section 3.2).
fn not_a_host(host: &[u8]) -> Option<Error> {
    let literal = host.strip_prefix(b"[").and_then(|rest| rest.split_at_checked(memchr(b']', rest)?));
    let (right, port) = match literal {
        Some((address, rest)) => {
            let address = std::str::from_utf8(address).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            (address.is_some(), rest.get(1..).unwrap_or_default())
        }
        None => {
            let (name, port) = host.split_at(memchr(b':', host).unwrap_or(host.len()));
            (!name.is_empty() && NAME.holds_all(name), port)
        }
    };
    let right = right && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port));
    (!right).then(|| Error::bad_request("Host is not a host, perhaps with a port"))
}

/// Letters, digits, `unreserved`, `sub-delims` without the comma, which lists, and `%`.
static NAME: Charset = Charset::alphanumeric_and(b"-._~%!$&'()*+;=");

fn is_port(digits: &[u8]) -> bool {
    // Longer numbers, with zeros in front, are nobody's port.
    digits.len() <= 5
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

/// A path that a provider might read as another one: it could escape its face.
fn path(path: &str) -> Option<Error> {
    if !path.starts_with('/') {
        return Some(Error::bad_request("the target is not a path"));
    }
    // Only these bytes, and a dot that begins a segment, can make a path mean something else; most paths have none of them.
    let mut before = b'/';
    let odd = |byte| {
        let odd = matches!(byte, b'%' | b'\\' | b'#') || (byte == b'.' && before == b'/');
        before = byte;
        odd
    };
    if !path.bytes().any(odd) {
        return None;
    }
    if path.contains('#') {
        return Some(Error::bad_request("the target holds a fragment"));
    }
    let mut segment = Segment::Empty;
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match encoded(&mut bytes) {
                Some(byte) if byte.is_ascii_control() => {
                    return Some(Error::bad_request("the path holds an encoded control byte"));
                }
                Some(byte) => byte,
                None => {
                    return Some(Error::bad_request(
                        "the path holds a % that does not begin an encoded byte",
                    ));
                }
            },
            byte => byte,
        };
        if matches!(byte, b'/' | b'\\' | b';') && segment.steps() {
            return Some(stepping());
        }
        segment = segment.with(byte);
    }
    segment.steps().then(stepping)
}

fn stepping() -> Error {
    Error::bad_request("the path holds a dot segment, which could lead out of its place")
}

/// The byte behind a `%`.
fn encoded(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

/// A segment of a path, decoded, as far as it has been read.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    Dot,
    Dots,
    Name,
}

impl Segment {
    /// Whether it is `.` or `..`, which mean another place.
    fn steps(self) -> bool {
        matches!(self, Self::Dot | Self::Dots)
    }

    fn with(self, byte: u8) -> Self {
        match (self, byte) {
            (_, b'/' | b'\\') => Self::Empty,
            (Self::Empty, b'.') => Self::Dot,
            (Self::Dot, b'.') => Self::Dots,
            _ => Self::Name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: http::request::Builder) -> Option<ErrorKind> {
        refusal(&request.body(()).unwrap(), 3).map(|error| error.kind())
    }

    fn get(target: &str) -> http::request::Builder {
        Request::get(target).header(HOST, "a")
    }

    #[test]
    fn a_path_cannot_step_out_of_its_place_however_it_is_written() {
        for path in [
            "/db/../x",
            "/db/./x",
            "/..",
            "/db/%2e%2e/x",
            "/db/.%2E",
            "/a%2f..%2fb",
            "/a%5c..%5cb",
            "/a/..;x/b",
            "/a%00b",
            "/a%0d",
            "/a%2",
            "/a%zz",
            "*",
            "/a/%2e;x",
            "/a/.%2e;x/b",
            "/a%2f%2e%2e",
        ] {
            assert_eq!(status(get(path)), Some(ErrorKind::BadRequest), "{path}");
        }
        for path in [
            "/",
            "/db/pipes",
            "/arn:rds:db/x",
            "/a%2Fb",
            "/a.b/..c",
            "/a%20b/...",
            "/a;..",
            "/.a/x;../...",
            "/a?x=../..",
        ] {
            assert_eq!(status(get(path)), None, "{path}");
        }
    }

    #[test]
    fn hosts_must_be_one_and_agree() {
        assert_eq!(status(Request::get("/")), Some(ErrorKind::BadRequest));
        for host in [
            "a/b", "", "a b", "a,b", "u@a", "a#", "a\\b", "a\u{e9}", ":80", "a:x", "a:65536", "a:000080",
            "a:80:80",
        ] {
            let request = Request::get("/").header(HOST, host.as_bytes());
            assert_eq!(status(request), Some(ErrorKind::BadRequest), "{host}");
        }
        for host in ["[::1", "::1", "[::1]x", "[a]", "[::1]:65536", "[]"] {
            assert_eq!(status(Request::get("/").header(HOST, host)), Some(ErrorKind::BadRequest), "{host}");
        }
        for host in ["a", "a:80", "a:65535", "a:", "[::1]:80", "[::1]", "127.0.0.1:1", "a-b.example"] {
            assert_eq!(status(Request::get("/").header(HOST, host)), None, "{host}");
        }
        assert_eq!(status(Request::get("http://u@a/")), Some(ErrorKind::BadRequest));
        assert_eq!(
            status(Request::get("http://a:99999/").version(Version::HTTP_2)),
            Some(ErrorKind::BadRequest)
        );
        assert_eq!(status(get("/").header(HOST, "b")), Some(ErrorKind::BadRequest));
        assert_eq!(status(get("http://other/")), Some(ErrorKind::BadRequest));
        assert_eq!(status(get("http://A/")), None);
        assert_eq!(status(Request::get("/").header(HOST, "a/b")), Some(ErrorKind::BadRequest));
        assert_eq!(status(Request::get("/").version(Version::HTTP_10)), None);
    }

    #[test]
    fn fields_are_counted() {
        assert_eq!(status(get("/").header("x", "1").header("x", "2")), None);
        let four = get("/").header("x", "1").header("x", "2").header("y", "");
        assert_eq!(status(four), Some(ErrorKind::HeadTooLarge));
    }

    #[test]
    fn what_is_not_forwarded_is_said() {
        assert_eq!(status(get("/").header(UPGRADE, "websocket")), Some(ErrorKind::NotImplemented));
        assert_eq!(
            status(get("/").header(TRANSFER_ENCODING, "gzip, chunked")),
            Some(ErrorKind::NotImplemented)
        );
        assert_eq!(status(get("/").header(TRANSFER_ENCODING, "Chunked")), None);
    }
}
