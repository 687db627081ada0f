//! The whole file: top-level keys, listeners, admin, limits, log, callers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use standpipe_api::{Kind, Problem, Problems, SecretRef};
use toml::Table;

use super::reader::Reader;
use super::{
    AccessLog, BasicCaller, Config, IpRange, Limits, Listener, ListenerTls, Log, LogFormat, Resolve,
};
use super::{access, admin, identity, peers, providers};

/// What `mtls` among the callers of a listener needs.
pub(super) const MTLS_ASKS: &str =
    "`mtls` needs tls.client_roots: otherwise nobody is asked for a certificate";

/// The words that extensions and the engine bring; others are mistakes.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Dialects.
    pub dialects: Vec<&'static str>,
    /// Faces.
    pub faces: Vec<&'static str>,
    /// Tables that stand in place of a provider's `url`.
    pub upstreams: Vec<&'static str>,
    /// Authenticators.
    pub authenticators: Vec<&'static str>,
    /// Kinds of credentials.
    pub credentials: Vec<&'static str>,
    /// Kinds of resources.
    pub kinds: Vec<Kind>,
    /// Extensions.
    pub extensions: Vec<&'static str>,
}

/// Reads a configuration file; without one, everything has its default.
///
/// # Errors
/// Every mistake, with its key path.
pub fn load(path: Option<&Path>, known: &Known) -> Result<Config, Problems> {
    examine(path, known).and_then(whole)
}

/// Reads a configuration file as far as it goes: with its mistakes come the keys that have none, and defaults.
///
/// # Errors
/// It cannot be read at all.
pub fn examine(path: Option<&Path>, known: &Known) -> Result<(Config, Problems), Problems> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| vec![Problem::at("", format!("cannot read {}: {error}", path.display()))])?,
        None => String::new(),
    };
    let folder = path.and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    examine_text(&text, folder.unwrap_or(Path::new(".")), known)
}

fn whole((config, problems): (Config, Problems)) -> Result<Config, Problems> {
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// Reads a configuration text; relative paths are relative to `folder`.
///
/// # Errors
/// Every mistake, with its key path.
pub fn read(text: &str, folder: &Path, known: &Known) -> Result<Config, Problems> {
    examine_text(text, folder, known).and_then(whole)
}

fn examine_text(text: &str, folder: &Path, known: &Known) -> Result<(Config, Problems), Problems> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| vec![syntax(text, &error)])?;
    let mut problems = Problems::new();
    let mut top = Reader::new(&table, "", &mut problems);
    let listeners = listeners(&mut top, folder, known);
    let loopback = listeners.iter().all(|listener| listener.address.ip().is_loopback());
    let data_dir = folder.join(top.text("data_dir").unwrap_or_else(|| "standpipe-data".into()));
    let (admin, admin_listener) = admin::read(&mut top, folder, &data_dir, known);
    let public_url = public_url(&mut top, &listeners, loopback);
    let config = Config {
        folder: folder.into(),
        issuer: identity::issuer(&mut top),
        outbound: identity::outbound(&mut top),
        trusted_issuers: identity::trusted_issuers(&mut top, &public_url),
        public_url,
        master_key: top.parsed("master_key", SecretRef::parse).map(|key| in_folder(key, folder)),
        threads: top.count("threads").and_then(NonZeroUsize::new).unwrap_or_else(cores),
        admin,
        admin_listener,
        limits: limits(&mut top),
        resolve: resolve(&mut top),
        log: log(&mut top),
        callers: callers(&mut top),
        trusted_proxies: trusted_proxies(&mut top),
        quotas: access::quotas(&mut top, known),
        audit: access::retention(&mut top, "audit", "events"),
        events: access::retention(&mut top, "events", "most"),
        providers: providers::read(&mut top, folder, known),
        access: Vec::new(),
        peers: Vec::new(),
        extensions: extensions(&mut top, known),
        listeners,
        data_dir,
    };
    // Rules and peers name providers, which are known only now.
    let config = Config { access: access::rules(&mut top, &config.providers, known), ..config };
    let config = Config { peers: peers::read(&mut top, &config, known), ..config };
    let oidc = |listener: &Listener| listener.callers.iter().any(|caller| caller == "oidc");
    let admin = config.admin_listener.iter().map(|admin| &admin.listener);
    if config.trusted_issuers.is_empty() && config.listeners.iter().chain(admin).any(oidc) {
        top.wrong(
            "trusted_issuer",
            "is missing: a listener's callers name `oidc`, and nobody's tokens are trusted",
        );
    }
    top.finish();
    Ok((config, problems))
}

fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    Problem::at(format!("line {line}, column {column}"), error.message().to_owned())
}

fn cores() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

pub(super) fn in_folder(secret: SecretRef, folder: &Path) -> SecretRef {
    match secret {
        SecretRef::File(path) => SecretRef::File(folder.join(path)),
        other => other,
    }
}

fn public_url(top: &mut Reader<'_>, listeners: &[Listener], loopback: bool) -> String {
    let given = top.parsed("public_url", |text| {
        let good =
            (text.starts_with("http://") || text.starts_with("https://")) && !text.contains(['?', '#', '@']);
        match text.parse::<http::Uri>() {
            Ok(uri) if good && uri.host().is_some() => Ok(text.trim_end_matches('/').to_owned()),
            _ => Err("must be an absolute http or https URL without user, query or fragment".into()),
        }
    });
    if given.is_none() && !loopback && top.value("public_url").is_none() {
        top.wrong(
            "public_url",
            "is required when a listener is not on loopback: links in answers begin with it",
        );
    }
    given.unwrap_or_else(|| {
        let first = listeners.first();
        let scheme = if first.is_some_and(|listener| listener.tls.is_some()) { "https" } else { "http" };
        first.map_or_else(String::new, |listener| format!("{scheme}://{}", listener.address))
    })
}

fn listeners(top: &mut Reader<'_>, folder: &Path, known: &Known) -> Vec<Listener> {
    let tables = top.tables("listener");
    if tables.is_empty() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        return vec![Listener { address, faces: Vec::new(), callers: vec!["anonymous".into()], tls: None }];
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (at, table) in tables.into_iter().enumerate() {
        let mut reader = top.inside(table, format!("listener[{at}]"));
        let address = reader.required("address").and_then(|text| {
            let parsed = text.parse::<SocketAddr>();
            parsed
                .map_err(|_| {
                    reader.wrong(
                        "address",
                        format!("`{text}` is not an address with a port, as 127.0.0.1:8080"),
                    )
                })
                .ok()
        });
        let address = address.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        if address.port() != 0 && listeners.iter().any(|earlier| earlier.address == address) {
            reader.wrong("address", "another listener has this address");
        }
        let faces = words(&mut reader, "faces", &known.faces).unwrap_or_default();
        let callers = words(&mut reader, "callers", &known.authenticators).unwrap_or_else(|| {
            vec![if address.ip().is_loopback() { "anonymous".into() } else { "basic".into() }]
        });
        if callers.is_empty() {
            reader.wrong("callers", "must name an authenticator");
        }
        if callers.iter().any(|caller| caller == "anonymous") && !address.ip().is_loopback() {
            reader.wrong("callers", "`anonymous` is for loopback addresses: here it would let everybody in");
        }
        let tls = listener_tls(&mut reader, folder);
        let asks = tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
        if callers.iter().any(|caller| caller == "mtls") && !asks {
            reader.wrong("callers", MTLS_ASKS);
        }
        reader.finish();
        listeners.push(Listener { address, faces, callers, tls });
    }
    listeners
}

/// The table `tls` of a listener.
pub(super) fn listener_tls(reader: &mut Reader<'_>, folder: &Path) -> Option<ListenerTls> {
    let table = reader.table("tls")?;
    let path = reader.at("tls");
    let mut tls = reader.inside(table, path);
    let certificate = tls.required("certificate").map(|path| folder.join(path));
    let key = tls.required("key").map(|path| folder.join(path));
    let client_roots = tls.text("client_roots").map(|path| folder.join(path));
    tls.finish();
    Some(ListenerTls { certificate: certificate?, key: key?, client_roots })
}

/// A list of words, each of which must be known.
pub(super) fn words(
    reader: &mut Reader<'_>,
    key: &'static str,
    known: &[&'static str],
) -> Option<Vec<String>> {
    let words = reader.texts(key)?;
    for word in words.iter().filter(|word| !known.contains(&word.as_str())) {
        reader.wrong(key, format!("`{word}` is unknown; known are {}", known.join(", ")));
    }
    Some(words)
}

fn limits(top: &mut Reader<'_>) -> Limits {
    let empty = Table::new();
    let table = top.table("limits").unwrap_or(&empty);
    let mut reader = top.inside(table, "limits".into());
    let default = Limits::default();
    let limits = Limits {
        connections: reader.count("connections").unwrap_or(default.connections),
        requests_in_flight: reader.count("requests_in_flight").unwrap_or(default.requests_in_flight),
        header_bytes: reader.size("header_bytes").unwrap_or(default.header_bytes),
        header_count: reader.count("header_count").unwrap_or(default.header_count),
        header_read: reader.span("header_read").unwrap_or(default.header_read),
        idle: reader.span("idle").unwrap_or(default.idle),
        call: reader.span("call").unwrap_or(default.call),
        body_buffer: reader.size("body_buffer").unwrap_or(default.body_buffer),
        answer_buffer: reader.size("answer_buffer").unwrap_or(default.answer_buffer),
        hops: reader.count("hops").unwrap_or(default.hops),
        drain: reader.span("drain").unwrap_or(default.drain),
        caller: access::allowance(&mut reader, "caller"),
        tenant: access::allowance(&mut reader, "tenant"),
    };
    if limits.header_bytes < 8192 {
        reader.wrong("header_bytes", "must be at least 8KiB");
    }
    reader.finish();
    limits
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            requests_in_flight: 4096,
            header_bytes: 64 << 10,
            header_count: 100,
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            call: Duration::from_secs(60),
            body_buffer: 1 << 20,
            answer_buffer: 8 << 20,
            hops: 10,
            drain: Duration::from_secs(30),
            caller: None,
            tenant: None,
        }
    }
}

fn resolve(top: &mut Reader<'_>) -> Resolve {
    let empty = Table::new();
    let table = top.table("resolve").unwrap_or(&empty);
    let mut reader = top.inside(table, "resolve".into());
    let resolve = Resolve {
        search: reader.switch("search").unwrap_or(true),
        negative_cache: reader.span("negative_cache").unwrap_or(Duration::from_secs(5)),
        tombstone: reader.span("tombstone").unwrap_or(Duration::from_secs(7 * 24 * 3600)),
        cached_mappings: reader.count("cached_mappings").unwrap_or(100_000),
    };
    reader.finish();
    resolve
}

fn log(top: &mut Reader<'_>) -> Log {
    let empty = Table::new();
    let table = top.table("log").unwrap_or(&empty);
    let mut reader = top.inside(table, "log".into());
    let level = reader.text("level").unwrap_or_else(|| "info".into());
    let is_word =
        |part: &str| part.contains('=') || part.trim().parse::<tracing::level_filters::LevelFilter>().is_ok();
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&level) {
        reader.wrong("level", format!("{error}; write it as in RUST_LOG"));
    } else if let Some(part) = level.split(',').find(|part| !is_word(part)) {
        reader.wrong(
            "level",
            format!("`{part}` is no level; there are off, error, warn, info, debug and trace"),
        );
    }
    let format = reader.parsed("format", |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be \"text\" or \"json\"".into()),
    });
    let access = if reader.switch("access").unwrap_or(true) { AccessLog::On } else { AccessLog::Off };
    reader.finish();
    Log { level, format: format.unwrap_or(LogFormat::Text), access }
}

fn callers(top: &mut Reader<'_>) -> Vec<BasicCaller> {
    let mut callers: Vec<BasicCaller> = Vec::new();
    for (at, table) in top.tables("caller").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("caller[{at}]"));
        let name = reader.required("name").unwrap_or_default();
        if name.contains(':') {
            reader.wrong("name", "must not hold a colon (RFC 7617)");
        }
        if !name.is_empty() && callers.iter().any(|earlier| earlier.name == name) {
            reader.wrong("name", format!("another caller is named `{name}`"));
        }
        let password_hash = reader.required("password_hash").unwrap_or_default();
        if !password_hash.is_empty() && !is_argon2(&password_hash) {
            reader.wrong("password_hash", "is no Argon2 hash; `standpipe hash-password` makes one");
        }
        let tenant = reader.text("tenant");
        let groups = reader.texts("groups").unwrap_or_default();
        reader.finish();
        callers.push(BasicCaller { name, password_hash, tenant, groups });
    }
    callers
}

fn is_argon2(hash: &str) -> bool {
    let parsed = argon2::password_hash::phc::PasswordHash::new(hash);
    parsed.is_ok_and(|hash| hash.algorithm.as_str().starts_with("argon2") && hash.hash.is_some())
}

fn trusted_proxies(top: &mut Reader<'_>) -> Vec<IpRange> {
    let mut ranges = Vec::new();
    for text in top.texts("trusted_proxies").unwrap_or_default() {
        match range(&text) {
            Some(range) => ranges.push(range),
            None => {
                top.wrong("trusted_proxies", format!("`{text}` is not a range of addresses, as 10.0.0.0/8"))
            }
        }
    }
    ranges
}

pub(super) fn range(text: &str) -> Option<IpRange> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(widest), |prefix| prefix.parse().ok())?;
    (prefix <= widest).then_some(IpRange { address, prefix })
}

fn extensions(top: &mut Reader<'_>, known: &Known) -> Table {
    let Some(table) = top.table("extensions") else { return Table::new() };
    for (name, value) in table {
        if !known.extensions.contains(&name.as_str()) {
            let text = format!("no extension has this name; known are {}", known.extensions.join(", "));
            top.problems().push(Problem::at(format!("extensions.{name}"), text));
        } else if !value.is_table() {
            top.problems().push(Problem::at(format!("extensions.{name}"), "must be a table"));
        }
    }
    table.clone()
}
