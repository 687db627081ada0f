//! What a proxy must change in a message's fields, and nothing else.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, TE, VIA,
};
use standpipe_api::{CallerAuthorization, Credential, Error, ErrorKind, Fault, Result};

use super::fields::{HOP_BY_HOP, HOP_BY_HOP_FIELDS};
use crate::config::IpRange;
use crate::respond::{Earlier, add_via};

/// How many standpipes a request has passed; believed from trusted proxies only.
pub const HOPS: HeaderName = HeaderName::from_static("standpipe-hops");
/// The caller's choice of a provider on a federated face.
pub const PIN: HeaderName = crate::respond::PROVIDER;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// This process among proxies: its entry in `Via` and how far requests may travel.
#[derive(Debug)]
pub struct Hop {
    /// `1.1 standpipe-1f2e3d4c`
    pub via: HeaderValue,
    pseudonym: String,
}

impl Hop {
    /// A pseudonym of its own (RFC 9110, section 7.6.3), so that a request that comes back is recognised.
    pub fn new(pseudonym: u32) -> Self {
        let pseudonym = format!("standpipe-{pseudonym:08x}");
        let via = HeaderValue::try_from(format!("1.1 {pseudonym}"));
        Self { via: via.unwrap_or_else(|_| HeaderValue::from_static("1.1 standpipe")), pseudonym }
    }

    /// Counts the hops a request has made.
    ///
    /// # Errors
    /// 508: it has been here, or has passed too many standpipes.
    pub fn count(&self, headers: &HeaderMap, trust: Trust, most: u32) -> Result<u32> {
        let mut hops = 0;
        for entries in headers.get_all(VIA) {
            let entries = entries.to_str().unwrap_or_default();
            if entries.contains(self.pseudonym.as_str()) {
                return Err(Error::new(
                    ErrorKind::Loop,
                    Fault::Proxy,
                    "the request has come back to this standpipe",
                )
                .advise("a provider's url leads back here; an operator has to change it"));
            }
            hops += u32::try_from(entries.matches(" standpipe-").count()).unwrap_or(u32::MAX);
        }
        if trust == Trust::Trusted {
            let claimed = headers.get(HOPS).and_then(|hops| hops.to_str().ok()?.parse().ok());
            hops = hops.max(claimed.unwrap_or(0));
        }
        if hops >= most {
            let public = format!("the request has passed {hops} standpipes, and the limit is {most}");
            return Err(Error::new(ErrorKind::Loop, Fault::Proxy, public));
        }
        Ok(hops)
    }
}

/// Whether the other side of a connection is a configured proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What it says of its own callers counts.
    Trusted,
    /// It does not.
    Untrusted,
}

impl Trust {
    /// Trust in a peer; a Unix socket has the trust of whoever may open it.
    pub fn of(peer: Option<SocketAddr>, trusted: &[IpRange]) -> Self {
        let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return Self::Trusted };
        if trusted.iter().any(|range| contains(range, peer)) { Self::Trusted } else { Self::Untrusted }
    }
}

fn contains(range: &IpRange, address: IpAddr) -> bool {
    let cut = |bits: u128, width: u32| bits.checked_shr(width - u32::from(range.prefix)).unwrap_or(0);
    match (range.address, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => {
            cut(u128::from(u32::from(range)), 32) == cut(u128::from(u32::from(address)), 32)
        }
        (IpAddr::V6(range), IpAddr::V6(address)) => cut(range.into(), 128) == cut(address.into(), 128),
        _ => false,
    }
}

/// What a request to a provider says beside what its caller said.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The `Host` of the provider.
    pub authority: &'a HeaderValue,
    /// What lets it in.
    pub credential: &'a Credential,
    /// This process.
    pub hop: &'a Hop,
    /// Hops so far.
    pub hops: u32,
    /// The other side of the caller's connection.
    pub peer: Option<SocketAddr>,
    /// `http` or `https`, on the caller's connection.
    pub scheme: &'static str,
    /// The host the caller asked for, on HTTP/2 from `:authority`.
    pub host: Option<&'a str>,
    /// Whether the caller's connection is a trusted proxy's.
    pub trust: Trust,
}

/// Turns a caller's fields into a provider's. Gives back the caller's `Authorization` where it does not travel on.
pub fn to_provider(headers: &mut HeaderMap, outgoing: &Outgoing<'_>) -> Option<HeaderValue> {
    // Six fields join the caller's; making room once is cheaper than growing on the way.
    headers.reserve(6);
    let trusted = outgoing.trust == Trust::Trusted;
    let seen =
        remove(headers, |name| !trusted && (*name == FORWARDED || name.as_str().starts_with("x-forwarded-")));
    let mut authorization = None;
    if seen.authorization && outgoing.credential.authorization == CallerAuthorization::Removed {
        authorization = headers.remove(AUTHORIZATION);
    }
    if seen.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if seen.cookie {
        join_cookies(headers);
    }
    let host = headers.insert(HOST, outgoing.authority.clone());
    forwarded(headers, outgoing, host, seen.forwarded);
    headers.insert(HOPS, hops(outgoing.hops.saturating_add(1)));
    add_via(headers, &outgoing.hop.via, seen.via);
    for (name, value) in &outgoing.credential.headers {
        headers.insert(name.clone(), value.clone());
    }
    authorization
}

/// Turns a provider's fields into an answer's.
pub fn to_caller(headers: &mut HeaderMap, hop: &Hop) {
    let seen = remove(headers, |_| false);
    add_via(headers, &hop.via, seen.via);
}

fn hops(count: u32) -> HeaderValue {
    // Almost every request comes from a caller that is no standpipe.
    if count == 1 { HeaderValue::from_static("1") } else { HeaderValue::from(count) }
}

/// Which fields a head holds, seen in one pass: looking for each by name costs a hash each.
#[derive(Default)]
struct Seen {
    authorization: bool,
    cookie: bool,
    forwarded: Earlier,
    trailers: bool,
    via: Earlier,
}

/// Removes what is for one connection only (RFC 9110, section 7.6.1) and our own names, which nobody else may use.
fn remove(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) -> Seen {
    let mut seen = Seen::default();
    let mut hops = [false; HOP_BY_HOP_FIELDS];
    let mut doomed: Vec<HeaderName> = Vec::new();
    for (name, value) in &*headers {
        if *name == CONNECTION && !names_nothing(value.as_bytes()) {
            let others = tokens(value).filter(|token| !names_nothing(token));
            doomed.extend(others.filter_map(|token| HeaderName::from_bytes(token).ok()));
        }
        if let Some(hop) = HOP_BY_HOP.iter().zip(&mut hops).find(|(hop, _)| *hop == name) {
            seen.trailers |=
                *name == TE && tokens(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            *hop.1 = true;
            continue;
        }
        if name.as_str().starts_with("standpipe-") || also(name) {
            doomed.push(name.clone());
            continue;
        }
        seen.authorization |= *name == AUTHORIZATION;
        seen.cookie |= *name == COOKIE;
        if name.as_str().starts_with("x-forwarded-") {
            seen.forwarded = Earlier::Some;
        }
        if *name == VIA {
            seen.via = Earlier::Some;
        }
    }
    let hops = HOP_BY_HOP.iter().zip(hops).filter(|(_, is_there)| *is_there).map(|(name, _)| name);
    hops.chain(&doomed).for_each(|name| drop(headers.remove(name)));
    seen
}

/// The members of a list. A byte that belongs in none spoils its own member only.
fn tokens(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The tokens of `Connection` that name what is removed anyhow, or nothing; most of these fields hold one of them alone.
fn names_nothing(token: &[u8]) -> bool {
    token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
}

/// HTTP/2 may split cookies into several fields, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let Some(first) = cookies.next() else { return };
    let mut joined = first.as_bytes().to_vec();
    let mut several = false;
    for cookie in cookies {
        several = true;
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if several && let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Says for whom the request is. What a trusted proxy said before stands.
fn forwarded(headers: &mut HeaderMap, outgoing: &Outgoing<'_>, host: Option<HeaderValue>, earlier: Earlier) {
    let said = |headers: &HeaderMap, name| earlier == Earlier::Some && headers.contains_key(name);
    if let Some(peer) = outgoing.peer {
        let peer = peer.ip().to_canonical();
        let line = if earlier == Earlier::Some { headers.get(X_FORWARDED_FOR) } else { None };
        let joined = line.and_then(|line| line.to_str().ok()).map(|line| format!("{line}, {peer}"));
        let value = joined.and_then(|line| HeaderValue::try_from(line).ok());
        headers.insert(X_FORWARDED_FOR, value.unwrap_or_else(|| address(peer)));
    }
    if !said(headers, X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(outgoing.scheme));
    }
    let host = outgoing.host.and_then(|host| HeaderValue::from_str(host).ok()).or(host);
    if let Some(host) = host.filter(|_| !said(headers, X_FORWARDED_HOST)) {
        headers.insert(X_FORWARDED_HOST, host);
    }
}

/// An address as a field's value. The formatting machinery takes longer than all other fields together.
fn address(address: IpAddr) -> HeaderValue {
    let IpAddr::V4(address) = address else {
        return HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
    };
    let mut text = Vec::with_capacity(15);
    for octet in address.octets() {
        if !text.is_empty() {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let parsed = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(parsed) {
            headers.append(name, value);
        }
        headers
    }

    fn sent(trust: Trust, credential: &Credential, lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = map(lines);
        let outgoing = Outgoing {
            authority: &HeaderValue::from_static("broker:9001"),
            credential,
            hop: &Hop::new(1),
            hops: 0,
            peer: Some("10.1.2.3:5".parse().unwrap()),
            scheme: "http",
            host: None,
            trust,
        };
        let _callers = to_provider(&mut headers, &outgoing);
        headers
    }

    #[test]
    fn what_is_for_one_connection_stays_on_it() {
        let headers = sent(
            Trust::Untrusted,
            &Credential::none(),
            &[
                ("host", "standpipe.example"),
                ("connection", "close, X-Secret-Hop"),
                ("x-secret-hop", "1"),
                ("keep-alive", "5"),
                ("te", "trailers"),
                ("trailer", "x-sum"),
                ("expect", "100-continue"),
                ("transfer-encoding", "chunked"),
                ("proxy-authorization", "Basic x"),
                ("standpipe-provider", "alpha"),
                ("standpipe-anything", "x"),
                ("x-kept", "y"),
            ],
        );
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "host",
            "standpipe-hops",
            "te",
            "trailer",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-kept",
        ];
        assert_eq!(names, expected);
        assert_eq!(headers[HOST], "broker:9001");
        assert_eq!(headers[X_FORWARDED_HOST], "standpipe.example");
    }

    #[test]
    fn only_trusted_proxies_speak_for_their_callers() {
        let lines =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=1.1.1.1")];
        let stranger = sent(Trust::Untrusted, &Credential::none(), &lines);
        assert_eq!(stranger[X_FORWARDED_FOR], "10.1.2.3");
        assert_eq!(stranger[X_FORWARDED_PROTO], "http");
        assert!(!stranger.contains_key(FORWARDED));
        let proxy = sent(Trust::Trusted, &Credential::none(), &lines);
        assert_eq!(proxy[X_FORWARDED_FOR], "1.1.1.1, 10.1.2.3");
        assert_eq!(proxy[X_FORWARDED_PROTO], "https");
        assert_eq!(proxy[FORWARDED], "for=1.1.1.1");
    }

    #[test]
    fn a_callers_authorization_travels_only_where_it_is_passed_on() {
        let lines = [("authorization", "Bearer callers")];
        assert!(!sent(Trust::Untrusted, &Credential::none(), &lines).contains_key(AUTHORIZATION));
        let own = Credential::authorization(HeaderValue::from_static("Basic own"));
        assert_eq!(sent(Trust::Untrusted, &own, &lines)[AUTHORIZATION], "Basic own");
        let passed = Credential { authorization: CallerAuthorization::PassedOn, ..Credential::none() };
        assert_eq!(sent(Trust::Untrusted, &passed, &lines)[AUTHORIZATION], "Bearer callers");
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for text in ["0.0.0.0", "10.1.2.3", "127.0.0.1", "255.255.255.255", "192.168.99.100", "2001:db8::1"] {
            assert_eq!(address(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn cookies_of_http2_become_one_field() {
        let headers = sent(Trust::Untrusted, &Credential::none(), &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_request_that_comes_back_or_travels_too_far_is_stopped() {
        let hop = Hop::new(7);
        let count = |lines: &[(&str, &str)], trust| hop.count(&map(lines), trust, 3);
        assert_eq!(count(&[("via", "1.1 standpipe-00000001, 1.0 squid")], Trust::Untrusted).unwrap(), 1);
        assert_eq!(count(&[("standpipe-hops", "9")], Trust::Untrusted).unwrap(), 0);
        assert_eq!(count(&[("standpipe-hops", "3")], Trust::Trusted).unwrap_err().kind(), ErrorKind::Loop);
        let back = count(&[("via", "1.1 x"), ("via", "1.1 standpipe-00000007")], Trust::Untrusted);
        assert_eq!(back.unwrap_err().kind(), ErrorKind::Loop);
    }

    #[test]
    fn ranges_of_addresses_are_compared_by_their_prefix() {
        let range = |address: &str, prefix| IpRange { address: address.parse().unwrap(), prefix };
        let ranges = [range("10.0.0.0", 8), range("fd00::", 8)];
        let trust = |peer: &str| Trust::of(Some(peer.parse().unwrap()), &ranges);
        assert_eq!(trust("10.200.0.1:1"), Trust::Trusted);
        assert_eq!(trust("11.0.0.1:1"), Trust::Untrusted);
        assert_eq!(trust("[::ffff:10.0.0.1]:1"), Trust::Trusted);
        assert_eq!(trust("[fd12::1]:1"), Trust::Trusted);
        assert_eq!(Trust::of(Some("1.2.3.4:1".parse().unwrap()), &[range("0.0.0.0", 0)]), Trust::Trusted);
        assert_eq!(Trust::of(Some("[::1]:1".parse().unwrap()), &[range("::", 0)]), Trust::Trusted);
    }
}
