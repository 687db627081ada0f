//! What HTTP lets through and standpipe does not, as far as it can be seen in a parsed request.

use http::header::{HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Version};
use standpipe_api::{Error, ErrorKind, Fault};

/// Why a request is refused before anybody sees it.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Error> {
    let headers = request.headers();
    if request.method() == Method::CONNECT || headers.contains_key(UPGRADE) {
        return Some(unsupported("CONNECT and protocol upgrades are not forwarded"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (!coding.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        return Some(unsupported("transfer codings other than exactly `chunked` are not forwarded"));
    }
    host(request).or_else(|| path(request.uri().path()))
}

fn unsupported(public: &'static str) -> Error {
    Error::new(ErrorKind::NotImplemented, Fault::Caller, public)
}

fn host<B>(request: &Request<B>) -> Option<Error> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some(Error::bad_request("more than one Host"));
    }
    let target = request.uri().authority();
    match (host, target) {
        (None, None) if request.version() == Version::HTTP_11 => Some(Error::bad_request("no Host")),
        (Some(host), Some(target)) if !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()) => {
            Some(Error::bad_request("Host and the request's target name different hosts"))
        }
        (Some(host), _) => {
            let bytes = host.as_bytes();
            let wrong = bytes.is_empty() || bytes.iter().any(|byte| b"/?#@\\ \t,".contains(byte));
            wrong.then(|| Error::bad_request("Host is not a host"))
        }
        (None, _) => None,
    }
}

/// A path that a provider might read as another one: it could escape its face.
fn path(path: &str) -> Option<Error> {
    if !path.starts_with('/') {
        return Some(Error::bad_request("the target is not a path"));
    }
    // Only these bytes can make a path mean something else; most paths have none of them.
    if !path.bytes().any(|byte| matches!(byte, b'.' | b'%' | b'\\' | b'#')) {
        return None;
    }
    if path.contains('#') {
        return Some(Error::bad_request("the target holds a fragment"));
    }
    let Some(decoded) = decode(path) else {
        return Some(Error::bad_request("the path holds a % that does not begin an encoded byte"));
    };
    if decoded.iter().any(u8::is_ascii_control) {
        return Some(Error::bad_request("the path holds an encoded control byte"));
    }
    let dots = |segment: &[u8]| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    };
    let stepping = decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(dots);
    stepping.then(|| Error::bad_request("the path holds a dot segment, which could lead out of its place"))
}

fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: http::request::Builder) -> Option<ErrorKind> {
        refusal(&request.body(()).unwrap()).map(|error| error.kind())
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
        ] {
            assert_eq!(status(get(path)), Some(ErrorKind::BadRequest), "{path}");
        }
        for path in ["/", "/db/pipes", "/arn:rds:db/x", "/a%2Fb", "/a.b/..c", "/a%20b/...", "/a?x=../.."] {
            assert_eq!(status(get(path)), None, "{path}");
        }
    }

    #[test]
    fn hosts_must_be_one_and_agree() {
        assert_eq!(status(Request::get("/")), Some(ErrorKind::BadRequest));
        assert_eq!(status(get("/").header(HOST, "b")), Some(ErrorKind::BadRequest));
        assert_eq!(status(get("http://other/")), Some(ErrorKind::BadRequest));
        assert_eq!(status(get("http://A/")), None);
        assert_eq!(status(Request::get("/").header(HOST, "a/b")), Some(ErrorKind::BadRequest));
        assert_eq!(status(Request::get("/").version(Version::HTTP_10)), None);
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
