//! `[[peer]]`: other standpipes, what they may tell this one, and what this one tells them.

use std::time::Duration;

use standpipe_api::{Kind, PeerId, ProviderId};
use toml::Table;

use super::access::check_kind;
use super::load::Known;
use super::providers::{is_name, tls};
use super::reader::Reader;
use super::{Config, Listener, UpstreamTls};
use crate::forward::origin::Origin;

/// How long mappings last when nobody says otherwise.
const HOUR: Duration = Duration::from_secs(3600);

/// Another standpipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name here.
    pub id: PeerId,
    /// Its public url, without a trailing slash.
    pub url: String,
    /// The providers it sits next to.
    pub beside: Vec<ProviderId>,
    /// How it is recognised.
    pub trust: PeerTrust,
    /// What it may give this standpipe.
    pub may_inject: Grant,
    /// Whether it is told of what is created at the providers it sits next to.
    pub inject: bool,
    /// How long what it is given lasts at most.
    pub lifetime: Duration,
    /// TLS towards it; `None`: the platform's roots.
    pub tls: Option<UpstreamTls>,
}

/// How a peer is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// By tokens of this issuer, whose keys are at the peer's url.
    Issuer(String),
    /// By a client certificate of this name, which a listener has verified.
    Certificate(String),
}

/// What a peer may give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Mappings of resources of these kinds.
    pub kinds: Vec<Kind>,
    /// Mappings that lead to these providers.
    pub providers: Vec<ProviderId>,
    /// Whether it may give those providers' tokens.
    pub tokens: bool,
    /// How long they last at most.
    pub max_lifetime: Duration,
}

/// All peers; the rest of the configuration has been read.
pub(super) fn read(top: &mut Reader<'_>, config: &Config, known: &Known) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for (at, table) in top.tables("peer").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("peer[{at}]"));
        let peer = peer(&mut reader, at, config, known);
        if peers.iter().any(|earlier| earlier.id == peer.id && !peer.id.as_str().is_empty()) {
            reader.wrong("name", format!("another peer is named `{}`", peer.id));
        }
        if peers.iter().any(|earlier| earlier.trust == peer.trust) {
            let key = if let PeerTrust::Issuer(_) = peer.trust { "issuer" } else { "certificate" };
            reader.wrong(key, "another peer has the same, so that the two cannot be told apart");
        }
        reader.finish();
        peers.push(peer);
    }
    peers
}

fn peer(reader: &mut Reader<'_>, at: usize, config: &Config, known: &Known) -> Peer {
    let name = reader.required("name").unwrap_or_default();
    if !name.is_empty() && !is_name(&name) {
        reader.wrong("name", "must be lower-case letters, digits and hyphens, at most 63, beginning and ending without a hyphen");
    }
    let url = reader.required("url").unwrap_or_default().trim_end_matches('/').to_owned();
    if let Err(error) = Origin::parse(&url)
        && !url.is_empty()
    {
        reader.wrong("url", error.to_string());
    }
    if url == config.public_url {
        reader.wrong("url", "is this standpipe's own");
    }
    let beside = providers(reader, "beside", config).unwrap_or_default();
    let trust = trust(reader, &url, config);
    let may_inject = grant(reader, at, &beside, config, known);
    Peer {
        id: PeerId::from(name),
        trust,
        may_inject,
        inject: reader.switch("inject").unwrap_or(false),
        lifetime: reader.span("lifetime").unwrap_or(HOUR),
        tls: tls(reader, &config.folder),
        url,
        beside,
    }
}

fn providers(reader: &mut Reader<'_>, key: &'static str, config: &Config) -> Option<Vec<ProviderId>> {
    let names = reader.texts(key)?;
    for name in &names {
        if !config.providers.iter().any(|provider| provider.id.as_str() == name) {
            reader.wrong(key, format!("no provider is named `{name}`"));
        }
    }
    Some(names.into_iter().map(ProviderId::from).collect())
}

fn trust(reader: &mut Reader<'_>, url: &str, config: &Config) -> PeerTrust {
    let (issuer, certificate) = (reader.text("issuer"), reader.text("certificate"));
    let verified = |listener: &Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
    match (issuer, certificate) {
        (Some(_), Some(certificate)) => {
            reader.wrong("certificate", "choose one of `issuer` and `certificate`");
            PeerTrust::Certificate(certificate)
        }
        (None, Some(certificate)) => {
            if !config.listeners.iter().any(verified) {
                reader.wrong("certificate", "is never seen: no listener's tls has client_roots");
            }
            PeerTrust::Certificate(certificate)
        }
        (issuer, None) => PeerTrust::Issuer(issuer.unwrap_or_else(|| url.to_owned())),
    }
}

fn grant(reader: &mut Reader<'_>, at: usize, beside: &[ProviderId], config: &Config, known: &Known) -> Grant {
    let empty = Table::new();
    let table = reader.table("may_inject").unwrap_or(&empty);
    let mut inside = reader.inside(table, format!("peer[{at}].may_inject"));
    let kinds = inside.texts("kinds").unwrap_or_default();
    for kind in &kinds {
        check_kind(&mut inside, "kinds", kind, known);
    }
    let grant = Grant {
        kinds: kinds.into_iter().map(Kind::read).collect(),
        providers: providers(&mut inside, "providers", config).unwrap_or_else(|| beside.to_vec()),
        tokens: inside.switch("tokens").unwrap_or(false),
        max_lifetime: inside.span("max_lifetime").unwrap_or(HOUR),
    };
    inside.finish();
    grant
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Known, read};
    use super::*;

    fn known() -> Known {
        Known {
            dialects: vec!["cloudpipe"],
            faces: vec!["peer"],
            authenticators: vec!["anonymous"],
            credentials: vec!["none"],
            kinds: vec![Kind::of("pipe")],
            ..Known::default()
        }
    }

    fn peers(text: &str) -> Result<Vec<Peer>, Vec<String>> {
        let provider = "[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://a\"\n";
        let read = read(&format!("{provider}{text}"), Path::new("/etc/standpipe"), &known());
        read.map(|config| config.peers).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_peer_is_trusted_by_its_url_and_may_do_nothing_until_it_is_said() {
        let text = "[[peer]]\nname = \"west\"\nurl = \"https://west.example/\"\nbeside = [\"alpha\"]\n";
        let peer = &peers(text).unwrap()[0];
        assert_eq!(peer.trust, PeerTrust::Issuer("https://west.example".into()));
        assert_eq!((peer.may_inject.kinds.len(), peer.may_inject.tokens, peer.inject), (0, false, false));
        assert_eq!((&peer.may_inject.providers, peer.may_inject.max_lifetime), (&peer.beside, HOUR));
        let text = format!(
            "{text}may_inject = {{ kinds = [\"pipe\"], providers = [], tokens = true, max_lifetime = \"5m\" }}\n"
        );
        let grant = &peers(&text).unwrap()[0].may_inject;
        let (kinds, five) = (vec![Kind::of("pipe")], Duration::from_secs(300));
        assert_eq!(*grant, Grant { kinds, providers: Vec::new(), tokens: true, max_lifetime: five });
    }

    #[test]
    fn every_mistake_has_its_key_path() {
        let found = peers(
            r#"
            [[peer]]
            name = "West"
            url = "west"
            beside = ["beta"]
            certificate = "west.example"
            may_inject = { kinds = "pipe", providers = ["gamma"], token = true }
            [[peer]]
            name = "own"
            url = "http://127.0.0.1:8080"
            issuer = "http://x"
            certificate = "y"
            lifetime = "0s"
            may_inject = { kinds = ["pipe", "sausage"] }
            [[peer]]
            name = "own"
            url = "http://b"
            issuer = "http://c"
            [[peer]]
            name = "copy"
            url = "http://d"
            issuer = "http://c"
            "#,
        );
        let keys: Vec<String> =
            found.unwrap_err().iter().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect();
        let expected = [
            "peer[0].name",
            "peer[0].url",
            "peer[0].beside",
            "peer[0].certificate",
            "peer[0].may_inject.kinds",
            "peer[0].may_inject.providers",
            "peer[0].may_inject.token",
            "peer[1].url",
            "peer[1].certificate",
            "peer[1].may_inject.kinds",
            "peer[1].lifetime",
            "peer[2].name",
            "peer[3].issuer",
        ];
        assert_eq!(keys, expected);
    }
}
