//! Who is trusted, what is issued, and whom others may make us ask.

use std::net::IpAddr;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::IpRange;
use super::load::range;
use super::reader::Reader;

/// `[issuer]`: standpipe's own tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// How often a new signing key takes over.
    pub rotate_every: Duration,
}

/// `[outbound]`: addresses that users and brokers name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Whether https addresses of the public network may be asked.
    pub public: bool,
    /// What else may be.
    pub allow: Vec<Allowed>,
}

/// An address, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// `http` or `https`; `None`: both.
    pub scheme: Option<String>,
    /// Which hosts.
    pub host: Host,
    /// Which port; `None`: all.
    pub port: Option<u16>,
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// This one.
    Named(String),
    /// Those below this domain, which is in lower case.
    Within(String),
    /// Those whose address is in this range.
    Range(IpRange),
}

/// `[[trusted_issuer]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// Part of its callers' ids: `oidc:<name>:<subject>`.
    pub name: String,
    /// Exactly as its tokens name it.
    pub issuer: String,
    /// Whom its tokens must be for.
    pub audience: String,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are; `None`: where its discovery document says.
    pub jwks_url: Option<String>,
    /// The claim that names the caller.
    pub caller_claim: String,
    /// The claim that names the tenant.
    pub tenant_claim: Option<String>,
    /// The claim that lists the groups.
    pub groups_claim: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

pub(super) fn issuer(top: &mut Reader<'_>) -> Issuer {
    let empty = toml::Table::new();
    let table = top.table("issuer").unwrap_or(&empty);
    let mut reader = top.inside(table, "issuer".to_owned());
    let rotate_every = reader.span("rotate_every").unwrap_or(Duration::from_secs(30 * 86_400));
    if rotate_every < Duration::from_secs(86_400) {
        reader.wrong("rotate_every", "must be at least a day: others keep keys for hours");
    }
    reader.finish();
    Issuer { rotate_every }
}

pub(super) fn outbound(top: &mut Reader<'_>) -> Outbound {
    let empty = toml::Table::new();
    let table = top.table("outbound").unwrap_or(&empty);
    let mut reader = top.inside(table, "outbound".to_owned());
    let public = reader.switch("public").unwrap_or(true);
    let mut allow = Vec::new();
    for text in reader.texts("allow").unwrap_or_default() {
        match Allowed::parse(&text) {
            Ok(allowed) => allow.push(allowed),
            Err(why) => reader.wrong("allow", format!("`{text}` {why}")),
        }
    }
    reader.finish();
    Outbound { public, allow }
}

impl Allowed {
    /// Reads `https://*.example.com`, `http://127.0.0.1:9001`, `http://127.0.0.1:*`, `10.0.0.0/8`.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            let range = range(text).ok_or("is neither a URL pattern nor a range of addresses")?;
            return Ok(Self { scheme: None, host: Host::Range(range), port: None });
        };
        if scheme != "http" && scheme != "https" {
            return Err("must begin with http:// or https://".into());
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => Some(if scheme == "http" { 80 } else { 443 }),
            Some("*") => None,
            Some(port) => Some(port.parse().map_err(|_| "has a port that is neither a number nor `*`")?),
        };
        let plain = |host: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(letter))
        };
        let host = match host.strip_prefix("*.") {
            Some(domain) if plain(domain) => Host::Within(domain.to_ascii_lowercase()),
            None if plain(host) => Host::Named(host.to_owned()),
            _ => return Err("must name a host, or all below a domain as *.example.com, and no path".into()),
        };
        Ok(Self { scheme: Some(scheme.to_owned()), host, port })
    }
}

pub(super) fn trusted_issuers(top: &mut Reader<'_>, public_url: &str) -> Vec<TrustedIssuer> {
    let mut all: Vec<TrustedIssuer> = Vec::new();
    for (at, table) in top.tables("trusted_issuer").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("trusted_issuer[{at}]"));
        let trusted = trusted_issuer(&mut reader, public_url);
        for (key, same) in [
            ("name", all.iter().any(|earlier| earlier.name == trusted.name)),
            ("issuer", all.iter().any(|earlier| earlier.issuer == trusted.issuer)),
        ] {
            if same && !trusted.issuer.is_empty() && !trusted.name.is_empty() {
                reader.wrong(key, "another trusted issuer has the same");
            }
        }
        reader.finish();
        all.push(trusted);
    }
    all
}

fn trusted_issuer(reader: &mut Reader<'_>, public_url: &str) -> TrustedIssuer {
    let name = reader.required("name").unwrap_or_default();
    if name.contains(':') {
        reader.wrong("name", "must not hold a colon: it is part of callers' ids");
    }
    let issuer = reader.required("issuer").unwrap_or_default();
    let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
    if !issuer.is_empty() && !is_url(&issuer) {
        reader.wrong("issuer", "must be an http or https URL, exactly as its tokens name it");
    }
    let jwks_url = reader.text("jwks_url");
    if jwks_url.as_ref().is_some_and(|url| !is_url(url)) {
        reader.wrong("jwks_url", "must be an http or https URL");
    }
    let mut algorithms = Vec::new();
    for word in reader.texts("algorithms").unwrap_or_else(|| vec!["RS256".into(), "ES256".into()]) {
        match word.parse::<Algorithm>() {
            Ok(algorithm) if !word.starts_with("HS") => algorithms.push(algorithm),
            _ => reader.wrong("algorithms", format!("`{word}` is no algorithm with a public key")),
        }
    }
    let leeway = reader.span("leeway").unwrap_or(Duration::from_secs(30));
    if leeway > Duration::from_secs(300) {
        reader.wrong("leeway", "must be at most five minutes");
    }
    TrustedIssuer {
        name,
        issuer,
        audience: reader.text("audience").unwrap_or_else(|| public_url.to_owned()),
        algorithms,
        jwks_url,
        caller_claim: reader.text("caller_claim").unwrap_or_else(|| "sub".into()),
        tenant_claim: reader.text("tenant_claim"),
        groups_claim: reader.text("groups_claim"),
        leeway,
    }
}
