//! Who may talk to the admin listener.
//!
//! On a Unix socket the file's mode decides. On TCP everybody on the machine can connect, and so can a web
//! page in a browser there: hence a token, no browser origins, and only loopback names in `Host`. Elsewhere callers come
//! in as what they are, by names that the operator listed.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{fs, io};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use secrecy::{ExposeSecret, SecretString};
use standpipe_api::{Error, ErrorKind, Fault, Result, bearer};

/// Shortest token accepted, in characters: 16 random ones cannot be guessed over a socket.
const SHORTEST: usize = 16;

/// How a socket is guarded.
#[derive(Debug)]
pub enum Guard {
    /// By its file's mode, 0600.
    Socket,
    /// By a bearer token.
    Token {
        /// What `Authorization: Bearer` must hold.
        token: SecretString,
        /// The port that `Host` may name.
        port: u16,
    },
    /// By who the callers are.
    Callers {
        /// Where it listens; `Host` may name it.
        address: SocketAddr,
        /// What else `Host` may hold.
        hosts: Vec<Authority>,
    },
}

/// Why a TCP admin listener cannot be guarded.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It would be reachable from elsewhere.
    #[error("admin.address: {0} is not a loopback address; use 127.0.0.1 or [::1], or admin.socket")]
    NotLoopback(SocketAddr),
    /// No token to compare with.
    #[error("admin.token_file: cannot read {path}: {source}; make one with: openssl rand -hex 32 > {path}")]
    Unreadable {
        /// The configured file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A token anybody could guess.
    #[error(
        "admin.token_file: {0} holds fewer than {SHORTEST} characters; make one with: openssl rand -hex 32 > {0}"
    )]
    TooShort(PathBuf),
}

impl Guard {
    /// The guard of a TCP listener bound to `address`, with the token in a file (white space around it is cut).
    ///
    /// # Errors
    /// Not loopback, file unreadable, token too short.
    pub fn token_file(address: SocketAddr, path: &Path) -> Result<Self, GuardError> {
        if !address.ip().is_loopback() {
            return Err(GuardError::NotLoopback(address));
        }
        Ok(Self::Token { token: read_token(path)?, port: address.port() })
    }

    /// Whether those who ask are recognised as callers are.
    pub(super) fn takes_callers(&self) -> bool {
        matches!(self, Self::Callers { .. })
    }

    /// Refuses what a browser sends on behalf of a page, and names that only DNS rebinding leads here.
    pub(super) fn check_source(&self, head: &Parts) -> Result<()> {
        if matches!(self, Self::Socket) {
            return Ok(());
        }
        if head.headers.contains_key(ORIGIN) {
            return Err(forbidden("requests with an Origin come from web pages, which may not ask here"));
        }
        // HTTP/1.1 names the host in the field, HTTP/2 in the target.
        let field = head.headers.get(HOST).map(|value| Authority::try_from(value.as_bytes()).ok());
        let target = head.uri.authority().cloned().map(Some);
        let mut named = field.into_iter().chain(target).peekable();
        let known = |host: Option<Authority>| host.is_some_and(|host| self.is_named(&host));
        if named.peek().is_none() || !named.all(known) {
            return Err(forbidden("the Host is no name or address of this listener").advise(
                "use 127.0.0.1 or localhost with the listener's port, or off loopback a name that stands in admin.hosts",
            ));
        }
        Ok(())
    }

    fn is_named(&self, host: &Authority) -> bool {
        match self {
            Self::Socket => true,
            Self::Token { port, .. } => is_local(host, *port),
            Self::Callers { address, hosts } => {
                let port = address.port();
                let same_port =
                    |wanted: Option<u16>| host.port_u16().is_none_or(|named| named == wanted.unwrap_or(port));
                let configured = |known: &Authority| {
                    known.host().eq_ignore_ascii_case(host.host()) && same_port(known.port_u16())
                };
                let own = bare(host).parse() == Ok(address.ip()) && same_port(None);
                !host.as_str().contains('@')
                    && (own
                        || hosts.iter().any(configured)
                        || address.ip().is_loopback() && is_local(host, port))
            }
        }
    }

    /// Refuses who does not hold the token.
    pub(super) fn check_token(&self, head: &Parts) -> Result<()> {
        let Self::Token { token, .. } = self else { return Ok(()) };
        let sent = bearer(&head.headers).unwrap_or_default();
        verify_slices_are_equal(sent.as_bytes(), token.expose_secret().as_bytes()).map_err(|_| {
            Error::new(ErrorKind::Unauthenticated, Fault::Caller, "the admin listener wants its bearer token")
                .advise("send Authorization: Bearer with the content of admin.token_file")
        })
    }
}

/// Reads the token of the admin listener.
///
/// # Errors
/// File unreadable, token too short.
pub(crate) fn read_token(path: &Path) -> Result<SecretString, GuardError> {
    let text = fs::read_to_string(path)
        .map_err(|source| GuardError::Unreadable { path: path.to_owned(), source })?;
    let token = text.trim();
    if token.len() < SHORTEST {
        return Err(GuardError::TooShort(path.to_owned()));
    }
    Ok(SecretString::from(token))
}

fn forbidden(text: &'static str) -> Error {
    Error::new(ErrorKind::Forbidden, Fault::Caller, text)
}

/// A host without the brackets of IPv6.
fn bare(host: &Authority) -> &str {
    host.host().trim_start_matches('[').trim_end_matches(']')
}

fn is_local(host: &Authority, port: u16) -> bool {
    let name = host.host();
    let address = bare(host).parse::<IpAddr>();
    let loopback =
        name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
    let same_port = host.port_u16().is_none_or(|named| named == port);
    loopback && same_port && !host.as_str().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard() -> Guard {
        Guard::Token { token: TOKEN.into(), port: 9901 }
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/metrics");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_exact_token_opens() {
        let good = request(&[("authorization", &format!("Bearer {TOKEN}"))]);
        assert!(guard().check_token(&good).is_ok());
        for wrong in
            ["Bearer 0123456789abcdeF", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "Bearer ", ""]
        {
            let error = guard().check_token(&request(&[("authorization", wrong)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{wrong}");
            assert!(!format!("{error:?} {}", error.advice()).contains(TOKEN));
        }
        assert!(guard().check_token(&request(&[])).is_err());
    }

    #[test]
    fn only_loopback_names_of_this_port_are_hosts() {
        for host in ["localhost:9901", "LOCALHOST", "127.0.0.1:9901", "127.8.8.8", "[::1]:9901"] {
            assert!(guard().check_source(&request(&[("host", host)])).is_ok(), "{host}");
        }
        for host in
            ["evil.example", "localhost:9902", "localhost.evil.example", "a@localhost", "10.0.0.1", ""]
        {
            let error = guard().check_source(&request(&[("host", host)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Forbidden, "{host}");
        }
        assert!(guard().check_source(&request(&[])).is_err());
    }

    #[test]
    fn a_listener_for_callers_is_named_by_its_address_and_the_configured_hosts() {
        let hosts = ["admin.example".parse().unwrap(), "other.example:443".parse().unwrap()];
        let at = |address: &str| Guard::Callers { address: address.parse().unwrap(), hosts: hosts.to_vec() };
        let named = |guard: &Guard, host: &str| guard.check_source(&request(&[("host", host)])).is_ok();
        let open = at("10.0.0.1:9443");
        for host in
            ["admin.example", "ADMIN.example:9443", "10.0.0.1:9443", "other.example:443", "other.example"]
        {
            assert!(named(&open, host), "{host}");
        }
        for host in [
            "evil.example",
            "admin.example:1",
            "other.example:9443",
            "10.0.0.2",
            "localhost",
            "a@admin.example",
        ] {
            assert!(!named(&open, host), "{host}");
        }
        assert!(named(&at("127.0.0.1:9443"), "localhost:9443"));
        assert!(named(&at("[::2]:9443"), "[::2]:9443"));
        let page = request(&[("host", "admin.example"), ("origin", "https://admin.example")]);
        assert!(open.check_source(&page).is_err());
    }

    #[test]
    fn a_web_page_is_refused_even_with_a_good_host() {
        for origin in ["http://localhost:9901", "null", "https://evil.example"] {
            let page = request(&[("host", "localhost:9901"), ("origin", origin)]);
            assert_eq!(guard().check_source(&page).unwrap_err().kind(), ErrorKind::Forbidden);
        }
    }

    #[test]
    fn a_token_file_must_hold_a_token_and_the_address_be_loopback() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let loopback: SocketAddr = "127.0.0.1:1".parse().unwrap();
        assert!(matches!(Guard::token_file(loopback, file.path()), Err(GuardError::TooShort(_))));
        fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
        assert!(Guard::token_file(loopback, file.path()).is_ok());
        let open: SocketAddr = "0.0.0.0:1".parse().unwrap();
        assert!(matches!(Guard::token_file(open, file.path()), Err(GuardError::NotLoopback(_))));
        let absent = file.path().join("absent");
        assert!(matches!(Guard::token_file(loopback, &absent), Err(GuardError::Unreadable { .. })));
    }

    #[test]
    fn debug_output_hides_the_token() {
        assert!(!format!("{:?}", guard()).contains(TOKEN));
    }
}
