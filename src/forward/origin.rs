//! A base URL, parsed once: where to connect, what `Host` says, what stands before every path.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use rustls_pki_types::ServerName;

/// Where a provider's requests go.
#[derive(Debug)]
pub struct Origin {
    /// Tells pooled connections of different origins apart; never reused in a process.
    pub id: OriginId,
    /// The host to connect to, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name that the certificate must have; `None` for plain HTTP.
    pub server_name: Option<ServerName<'static>>,
    /// The `Host` field.
    pub authority: HeaderValue,
    /// What stands before every path; empty or `/a/b`.
    pub prefix: String,
}

/// Tells origins apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginId(u64);

/// A base URL that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBase {
    /// Not an absolute URL.
    #[error("is not an absolute URL")]
    NotAbsolute,
    /// Not http or https.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// With user name, query or fragment.
    #[error("must not hold a user name, query or fragment")]
    Extra,
    /// A host that no certificate can name.
    #[error("has a host that is neither a DNS name nor an address")]
    Host,
}

impl Origin {
    /// Parses a base URL.
    ///
    /// # Errors
    /// Why it cannot be a base.
    pub fn parse(base: &str) -> Result<Self, BadBase> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if base.contains(['#', '?', '@']) {
            return Err(BadBase::Extra);
        }
        let uri: Uri = base.parse().map_err(|_| BadBase::NotAbsolute)?;
        let authority = uri.authority().ok_or(BadBase::NotAbsolute)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadBase::Scheme),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = tls.then(|| server_name(&host)).transpose()?;
        Ok(Self {
            id: OriginId(NEXT.fetch_add(1, Ordering::Relaxed)),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            host,
            server_name,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| BadBase::Host)?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// The target of a request in origin form (RFC 9112, section 3.2.1). Path and query go byte for byte.
    ///
    /// # Errors
    /// The bytes do not make a target, which a listener would have refused.
    pub fn target(&self, path: &str, query: Option<&str>) -> Result<Uri, http::Error> {
        target(&self.prefix, path, query)
    }
}

/// A request target behind a prefix.
///
/// # Errors
/// The bytes do not make a target.
pub fn target(prefix: &str, path: &str, query: Option<&str>) -> Result<Uri, http::Error> {
    let room = prefix.len() + path.len() + query.map_or(0, |query| query.len() + 1);
    let mut target = String::with_capacity(room.max(1));
    target.push_str(prefix);
    target.push_str(path);
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Ok(Uri::from(PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))?))
}

fn server_name(host: &str) -> Result<ServerName<'static>, BadBase> {
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| BadBase::Host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_go_byte_for_byte_behind_the_prefix() {
        let origin = Origin::parse("https://[::1]:8443/apps/").unwrap();
        assert_eq!((origin.host.as_str(), origin.port), ("::1", 8443));
        assert_eq!(origin.authority, "[::1]:8443");
        assert!(origin.server_name.is_some());
        let target = |path, query| origin.target(path, query).unwrap().to_string();
        assert_eq!(target("/db/pipes/a%2Fb", Some("x=&y")), "/apps/db/pipes/a%2Fb?x=&y");
        assert_eq!(target("/db", Some("")), "/apps/db?");
        assert_eq!(target("", None), "/apps");
        assert_eq!(Origin::parse("http://broker").unwrap().target("", None).unwrap().to_string(), "/");
    }

    #[test]
    fn a_base_must_be_plain() {
        for (base, problem) in [
            ("broker:80/x", BadBase::NotAbsolute),
            ("ftp://broker", BadBase::Scheme),
            ("http://user@broker", BadBase::Extra),
            ("http://broker/?a", BadBase::Extra),
        ] {
            assert_eq!(Origin::parse(base).unwrap_err(), problem, "{base}");
        }
    }
}
