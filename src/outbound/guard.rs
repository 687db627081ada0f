//! Which addresses that users and brokers name may be asked: whoever can name an address must not reach through us what
//! only we can reach (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::config::{Allowed, Host, IpRange, Outbound};

/// Why an address is not asked, as a sentence.
pub(super) type Forbidden = String;

/// An address taken apart.
#[derive(Debug)]
pub(super) struct Address<'a> {
    scheme: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> Address<'a> {
    /// Takes an absolute http or https URL without user name apart.
    pub(super) fn of(uri: &'a Uri) -> Result<Self, Forbidden> {
        let authority = uri.authority().ok_or("it is no absolute URL")?;
        if authority.as_str().contains('@') {
            return Err("it holds a user name".into());
        }
        let (scheme, usual) = match uri.scheme_str() {
            Some(scheme @ "http") => (scheme, 80),
            Some(scheme @ "https") => (scheme, 443),
            _ => return Err("it is neither http nor https".into()),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self { scheme, host, port: authority.port_u16().unwrap_or(usual) })
    }

    /// Whether both are at the same scheme, host and port.
    pub(super) fn is_origin_of(&self, other: &Address<'_>) -> bool {
        self.scheme == other.scheme && self.port == other.port && self.host.eq_ignore_ascii_case(other.host)
    }

    /// Whether the operator allows this address at this IP.
    pub(super) fn check(&self, ip: IpAddr, rules: &Outbound) -> Result<(), Forbidden> {
        if rules.allow.iter().any(|allowed| self.is_allowed(ip, allowed)) {
            return Ok(());
        }
        if !is_public(ip) {
            return Err(format!("{ip} is not an address of the public network"));
        }
        match (rules.public, self.scheme) {
            (true, "https") => Ok(()),
            (true, _) => Err("it is not https".into()),
            (false, _) => Err("it is not among the addresses that outbound.allow names".into()),
        }
    }

    fn is_allowed(&self, ip: IpAddr, allowed: &Allowed) -> bool {
        let host = match &allowed.host {
            Host::Named(name) => self.host.eq_ignore_ascii_case(name),
            Host::Within(domain) => {
                let host = self.host.to_ascii_lowercase();
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Host::Range(range) => contains(range, ip),
        };
        let scheme = allowed.scheme.as_ref().is_none_or(|scheme| scheme == self.scheme);
        host && scheme && allowed.port.is_none_or(|port| port == self.port)
    }
}

fn contains(range: &IpRange, ip: IpAddr) -> bool {
    let cut = |bits: u128, width: u32| bits.checked_shr(width - u32::from(range.prefix)).unwrap_or(0);
    match (range.address, ip.to_canonical()) {
        (IpAddr::V4(range), IpAddr::V4(ip)) => {
            cut(u32::from(range).into(), 32) == cut(u32::from(ip).into(), 32)
        }
        (IpAddr::V6(range), IpAddr::V6(ip)) => cut(range.into(), 128) == cut(ip.into(), 128),
        _ => false,
    }
}

/// Whether an address belongs to the public network (IANA's special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(ip),
        },
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || a == 0
        || a >= 240
        // Shared address space (RFC 6598), protocol assignments, benchmarks, 6to4 relays.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 192 && b == 88 && c == 99);
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    // Global unicast is 2000::/3 today; Teredo, documentation and the like are not, nor is anything else.
    (0x2000..0x4000).contains(&first)
        && !(first == 0x2001 && second < 0x0200)
        && !(first == 0x2001 && second == 0x0db8)
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0, 0, 0, 0, 0xffff, 0) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Outbound;

    fn check(url: &str, ip: &str, allow: &[&str]) -> Result<(), String> {
        let allow = allow.iter().map(|text| Allowed::parse(text).unwrap()).collect();
        let uri: Uri = url.parse().unwrap();
        Address::of(&uri)?.check(ip.parse().unwrap(), &Outbound { public: true, allow })
    }

    #[test]
    fn only_the_public_network_is_asked_unless_allowed() {
        for ip in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "2001:0:1::",
            "2001:db8::1",
            "fe80::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(check("https://broker.example/x", ip, &[]).is_err(), "{ip}");
        }
        for ip in ["93.184.216.34", "2606:4700::1111", "64:ff9b::5db8:d822"] {
            assert_eq!(check("https://broker.example/x", ip, &[]), Ok(()), "{ip}");
        }
        assert!(check("http://broker.example/x", "93.184.216.34", &[]).is_err(), "not encrypted");
    }

    #[test]
    fn patterns_are_anchored() {
        let own = &["https://*.example.com", "http://127.0.0.1:9001", "10.0.0.0/8"];
        assert_eq!(check("https://a.example.com", "10.9.9.9", own), Ok(()));
        assert_eq!(check("https://A.B.Example.com", "192.168.0.1", own), Ok(()));
        assert_eq!(check("http://127.0.0.1:9001/x", "127.0.0.1", own), Ok(()));
        assert_eq!(check("http://anything:1/x", "10.0.0.1", own), Ok(()));
        for (url, ip) in [
            ("https://example.com", "192.168.0.1"),
            ("https://badexample.com", "192.168.0.1"),
            ("https://a.example.com.evil.org", "192.168.0.1"),
            ("http://a.example.com", "192.168.0.1"),
            ("http://127.0.0.1:9002", "127.0.0.1"),
            ("https://127.0.0.1:9001", "127.0.0.1"),
            ("http://127.0.0.1.evil.org:9001", "127.0.0.1"),
        ] {
            assert!(check(url, ip, own).is_err(), "{url}");
        }
    }

    #[test]
    fn odd_addresses_are_refused() {
        for url in ["ftp://h/", "https://user@h/", "//h/x", "/x"] {
            assert!(url.parse::<Uri>().map_or(true, |uri| Address::of(&uri).is_err()), "{url}");
        }
    }
}
