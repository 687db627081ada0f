//! What the admin listener's paths name, and with which methods.

use http::Method;

use super::Side;

/// What a path names.
pub(super) enum Page<'a> {
    Live,
    Ready,
    Metrics,
    Providers,
    Provider {
        name: &'a str,
    },
    Act {
        name: &'a str,
        act: Act,
    },
    Tokens,
    RotateKey,
    Audit,
    Events,
    Peers,
    Peer {
        name: &'a str,
        side: Side,
    },
    Mappings,
    Mapping {
        kind: &'a str,
        id: &'a str,
    },
    Outbox,
    Job {
        extension: &'a str,
        id: &'a str,
    },
    Retry {
        extension: &'a str,
        id: &'a str,
    },
    /// A path of a provider that is served in this process.
    Inside {
        provider: &'a str,
        path: &'a str,
    },
}

/// What can be done with a provider beside changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Drain,
    Undrain,
    Refresh,
}

impl Act {
    fn of(word: &str) -> Option<Self> {
        match word {
            "drain" => Some(Self::Drain),
            "undrain" => Some(Self::Undrain),
            "refresh" => Some(Self::Refresh),
            _ => None,
        }
    }
}

impl Page<'_> {
    pub(super) fn of(path: &str) -> Option<Page<'_>> {
        if let Some((provider, _)) = path.strip_prefix("/providers/").and_then(|rest| rest.split_once('/')) {
            let path = path.get("/providers/".len() + provider.len()..)?;
            if let Some(act) = path.strip_prefix('/').and_then(Act::of) {
                return Some(Page::Act { name: provider, act });
            }
            return Some(Page::Inside { provider, path });
        }
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            ["live"] => Page::Live,
            ["ready"] => Page::Ready,
            ["metrics"] => Page::Metrics,
            ["providers"] => Page::Providers,
            ["providers", name] => Page::Provider { name },
            ["tokens"] => Page::Tokens,
            ["keys", "rotate"] => Page::RotateKey,
            ["audit"] => Page::Audit,
            ["events"] => Page::Events,
            ["peers"] => Page::Peers,
            ["peers", name, "gave"] => Page::Peer { name, side: Side::Gave },
            ["peers", name, "given"] => Page::Peer { name, side: Side::Given },
            ["mappings"] => Page::Mappings,
            ["mappings", kind, id] => Page::Mapping { kind, id },
            ["outbox"] => Page::Outbox,
            ["outbox", extension, id] => Page::Job { extension, id },
            ["outbox", extension, id, "retry"] => Page::Retry { extension, id },
            _ => return None,
        })
    }

    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Page::Live
            | Page::Ready
            | Page::Metrics
            | Page::Audit
            | Page::Events
            | Page::Peers
            | Page::Outbox => &[Method::GET, Method::HEAD],
            Page::Tokens | Page::Peer { .. } => &[Method::GET, Method::HEAD, Method::DELETE],
            Page::RotateKey | Page::Act { .. } => &[Method::POST],
            Page::Providers => &[Method::GET, Method::HEAD, Method::POST],
            Page::Provider { .. } => &[Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE],
            Page::Job { .. } => &[Method::DELETE],
            Page::Retry { .. } => &[Method::POST],
            Page::Mappings => &[Method::GET, Method::HEAD, Method::POST],
            Page::Mapping { .. } => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Page::Inside { .. } => {
                &[Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]
            }
        }
    }

    /// Whether an orchestrator that has no token may ask.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Page::Live | Page::Ready)
    }
}
