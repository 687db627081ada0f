//! Text configuration in, validated configuration out; all mistakes reported at once.
//!
//! The types here are what the rest of standpipe works with: durations are `Duration`, names are
//! newtypes, paths are absolute, references point somewhere. How each is written in TOML, with its default,
//! stands in `config/standpipe.toml`, which a test holds against these types.

mod access;
mod admin;
mod identity;
mod load;
mod peers;
mod providers;
mod reader;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use standpipe_api::{CredentialAlias, ProviderId, SecretRef};

pub(crate) use self::access::known_kind;
pub use self::access::{AccessRule, Allowance, Quota, Retention};
pub use self::identity::{Allowed, Host, Issuer, Outbound, TrustedIssuer};
pub use self::load::{Known, examine, load, read};
pub use self::peers::{Grant, Peer, PeerTrust};
pub use self::providers::{is_name, one as provider};
use crate::token::DocumentSource;

/// Everything an operator decided, or left to its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where relative paths begin: the folder of the configuration file.
    pub folder: Arc<Path>,
    /// The base URL under which callers reach standpipe, without a trailing slash. Links and issuer come from it.
    pub public_url: String,
    /// Where the database, the generated master key, the lock and the admin socket live.
    pub data_dir: PathBuf,
    /// The key that seals secrets at rest; `None`: generated into `data_dir/master.key` at first start.
    pub master_key: Option<SecretRef>,
    /// Worker threads, one listener and one set of upstream pools each.
    pub threads: NonZeroUsize,
    /// The public sockets, at least one.
    pub listeners: Vec<Listener>,
    /// The operator's socket.
    pub admin: Admin,
    /// Where identified callers administer standpipe; `None`: nowhere.
    pub admin_listener: Option<AdminListener>,
    /// Bounds on everything a stranger can make us hold.
    pub limits: Limits,
    /// How resources are found.
    pub resolve: Resolve,
    /// What is written where.
    pub log: Log,
    /// standpipe's own tokens.
    pub issuer: Issuer,
    /// Which addresses that others name may be asked.
    pub outbound: Outbound,
    /// Whose tokens the `oidc` authenticator accepts.
    pub trusted_issuers: Vec<TrustedIssuer>,
    /// The callers of the `basic` authenticator.
    pub callers: Vec<BasicCaller>,
    /// From these addresses `Forwarded`, `X-Forwarded-*` and `Standpipe-*` are believed.
    pub trusted_proxies: Vec<IpRange>,
    /// The providers, in the order that lists and candidates keep.
    pub providers: Vec<Provider>,
    /// Other standpipes.
    pub peers: Vec<Peer>,
    /// Who may reach what, in order; without one, everybody reaches everything.
    pub access: Vec<AccessRule>,
    /// How many resources of a kind a tenant may have, in order.
    pub quotas: Vec<Quota>,
    /// How long what was done is remembered.
    pub audit: Retention,
    /// How long the feed can be read back.
    pub events: Retention,
    /// `[extensions.<name>]`, handed to each extension.
    pub extensions: toml::Table,
}

impl Config {
    /// The keys that differ and count only after a restart.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let addresses = |config: &Self| config.listeners.iter().map(|one| one.address).collect::<Vec<_>>();
        let admin_address = |config: &Self| {
            let admin = config.admin_listener.as_ref();
            admin.map(|admin| (admin.listener.address, admin.listener.tls.is_some()))
        };
        [
            ("data_dir", self.data_dir == other.data_dir),
            ("master_key", self.master_key == other.master_key),
            ("threads", self.threads == other.threads),
            ("public_url", self.public_url == other.public_url),
            ("listener.address", addresses(self) == addresses(other)),
            ("admin", self.admin == other.admin && admin_address(self) == admin_address(other)),
            ("log", self.log == other.log),
            ("resolve", self.resolve == other.resolve),
            ("issuer", self.issuer == other.issuer),
            ("extensions", self.extensions == other.extensions),
        ]
        .into_iter()
        .filter_map(|(key, same)| (!same).then_some(key))
        .collect()
    }
}

/// A public socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it binds; port 0 binds one free port on all cores.
    pub address: SocketAddr,
    /// The faces it answers on; empty: all.
    pub faces: Vec<String>,
    /// The names of the authenticators tried, in order.
    pub callers: Vec<String>,
    /// TLS, or plain.
    pub tls: Option<ListenerTls>,
}

/// Files for TLS; re-read at a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// PEM, the leaf first.
    pub certificate: PathBuf,
    /// PEM, PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
    /// PEM roots that client certificates must chain to; `None`: none is asked for.
    pub client_roots: Option<PathBuf>,
}

/// Where operators ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// A Unix socket, mode 0600.
    Socket(PathBuf),
    /// A TCP address on loopback, with a bearer token in a file.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The file that holds the token.
        token_file: PathBuf,
    },
}

/// A TCP listener for operators who are recognised as callers are. Who may do what there, and who comes in, changes with
/// a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminListener {
    /// Where it binds, its authenticators, and its TLS, which off loopback it has.
    pub listener: Listener,
    /// The names, with or without a port, that `Host` may hold beside loopback and the address itself.
    pub hosts: Vec<String>,
    /// Who may do what; the first that fits counts.
    pub roles: Vec<AdminRole>,
}

/// What a caller may do on the admin listener. A list that is left out holds for everybody; one of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminRole {
    /// What it may do.
    pub role: Role,
    /// Patterns of callers' ids.
    pub callers: Option<Vec<String>>,
    /// Patterns of callers' tenants.
    pub tenants: Option<Vec<String>>,
    /// Patterns of which one of a caller's groups must match one.
    pub groups: Option<Vec<String>>,
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Administrator,
    /// Read, but nothing that providers in this process keep.
    Auditor,
}

/// Bounds, each with its default in `config/standpipe.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections of this process.
    pub connections: usize,
    /// Requests in flight of this process.
    pub requests_in_flight: usize,
    /// Bytes of a request head.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// From the first byte of a head to its last.
    pub header_read: Duration,
    /// Between requests on a connection, and between bytes of a body.
    pub idle: Duration,
    /// One call from its head to the head of its answer.
    pub call: Duration,
    /// Bytes of a request body that is buffered because an extension or dialect reads it.
    pub body_buffer: usize,
    /// Bytes of a provider's answer that is buffered because it is merged or rewritten.
    pub answer_buffer: usize,
    /// Hops through standpipes before a request counts as going in a circle.
    pub hops: u32,
    /// From SIGTERM to the end of the process.
    pub drain: Duration,
    /// What one caller may ask for; `None`: as much as it likes.
    pub caller: Option<Allowance>,
    /// What the callers of one tenant together may ask for.
    pub tenant: Option<Allowance>,
}

/// How resources are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Whether an unknown resource is searched for at all candidate providers.
    pub search: bool,
    /// How long "nobody has it" is believed.
    pub negative_cache: Duration,
    /// How long a deleted resource's mapping still routes polls and repeated deletes.
    pub tombstone: Duration,
    /// Mappings kept in memory.
    pub cached_mappings: u64,
}

/// What is written where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A filter as in `RUST_LOG`.
    pub level: String,
    /// The form of log lines and access events, on standard error.
    pub format: LogFormat,
    /// Whether each call leaves an access event.
    pub access: AccessLog,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// Whether each call leaves an access event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// A caller that comes with a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicCaller {
    /// The name sent in the credentials; the caller's id is `basic:<name>`.
    pub name: String,
    /// A PHC string, as `standpipe hash-password` writes it.
    pub password_hash: String,
    /// The tenant it acts for.
    pub tenant: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
}

/// Addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    /// Any address of the range.
    pub address: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

/// A provider, before its dialect and credential have read their tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name.
    pub id: ProviderId,
    /// The word for its dialect.
    pub dialect: String,
    /// Where it is.
    pub at: At,
    /// Its credentials; the first is the default. The table goes to the strategy of its `kind`.
    pub credentials: Vec<Credential>,
    /// What of a request chooses one of them.
    pub credential_by: CredentialBy,
    /// A document that holds more of them.
    pub credentials_document: Option<DocumentSource>,
    /// Providers of one group may be asked with the same passed-through credential.
    pub credential_group: Option<String>,
    /// Whether what cannot be resolved goes here when searching is off.
    pub local: bool,
    /// TCP and TLS handshake.
    pub connect_timeout: Duration,
    /// From the end of the request to the head of the answer.
    pub response_timeout: Duration,
    /// Between bytes of an answer's body, and of an idle pooled connection.
    pub idle_timeout: Duration,
    /// Requests in flight on all cores together.
    pub concurrency: NonZeroU32,
    /// How long a request waits for its turn.
    pub queue_wait: Duration,
    /// When to stop asking for a while.
    pub breaker: Breaker,
    /// TLS towards the provider; `None`: the platform's roots.
    pub tls: Option<UpstreamTls>,
    /// The keys the engine does not know, for the dialect.
    pub dialect_settings: toml::Table,
}

/// Where a provider is.
#[derive(Clone, Debug, PartialEq)]
pub enum At {
    /// At a base URL without a trailing slash, `http` or `https`; may hold a dialect's placeholders.
    Url(String),
    /// In this process, served by the extension whose `upstream_kind` is the key, from this table.
    InProcess {
        /// The extension's word.
        kind: String,
        /// Its settings for this provider.
        table: toml::Table,
    },
}

/// One credential of a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// Its name, kept with the mappings of what it created.
    pub alias: CredentialAlias,
    /// The strategy's word: `none`, `basic`, `bearer`, `passthrough`, ...
    pub kind: String,
    /// The tenants that may use it; without any, and without groups: everybody.
    pub tenants: Vec<String>,
    /// The groups that may use it.
    pub groups: Vec<String>,
    /// The strategy's settings.
    pub table: toml::Table,
}

/// The parts of a request that may choose one of a provider's credentials by its alias; the first that is there counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialBy {
    /// A header field.
    pub header: Option<String>,
    /// A parameter of the query.
    pub query: Option<String>,
    /// A text in a JSON body, by the names of the members that lead to it.
    pub body: Option<Vec<String>>,
    /// Whether it belongs to the provider's own API and travels on.
    pub forwarded: bool,
}

impl CredentialBy {
    /// Whether anything of a request may choose.
    pub fn is_some(&self) -> bool {
        self.header.is_some() || self.query.is_some() || self.body.is_some()
    }
}

/// When to stop asking a provider for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it; failures are what standpipe answers with 502, 503 or 504 itself.
    pub failures: NonZeroU32,
    /// How long it stays open before one request may try.
    pub open: Duration,
}

/// TLS towards a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM roots in place of the platform's.
    pub roots: Option<PathBuf>,
    /// PEM certificate chain and key to present.
    pub client: Option<(PathBuf, PathBuf)>,
}
