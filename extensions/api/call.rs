//! One call in flight, as hooks see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Extensions, Method, Uri};
use percent_encoding::percent_decode_str;

use crate::{CallId, CallerId};

/// One request on its way through standpipe.
#[derive(Debug)]
pub struct Call {
    /// Names the call in answers and logs.
    pub id: CallId,
    /// When the caller's patience, or ours, ends. No wait of a hook may go past it.
    pub deadline: Instant,
    /// Who is calling.
    pub caller: Arc<Caller>,
    /// The socket the request came in on.
    pub connection: Arc<Connection>,
    /// The request's method as the caller sent it.
    pub method: Method,
    /// The request's target as the caller sent it.
    pub uri: Uri,
    /// What the pattern of the route that matched found in the path; set anew for each extension.
    pub params: Params,
    /// Typed notes that an extension leaves for its own later hooks.
    pub notes: Extensions,
}

/// A note of an extension that has written down itself what the answer means for the resource: it knows more than the
/// dialect's verdict, which counts no more.
#[derive(Clone, Copy, Debug)]
pub struct Judged;

/// Who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Unique within this standpipe.
    pub id: CallerId,
    /// The tenant the caller acts for.
    pub tenant: Option<String>,
    /// Groups from the configuration or the caller's token.
    pub groups: Vec<String>,
    /// The name of the authenticator that recognised the caller.
    pub authenticator: &'static str,
}

impl Caller {
    /// What stands for the authenticator of a caller whom no authenticator recognised.
    const NOBODY: &'static str = "none";

    /// Somebody whom no authenticator recognised, under an id by which rules can name such callers.
    pub fn nobody(id: impl Into<CallerId>) -> Self {
        Self { id: id.into(), tenant: None, groups: Vec::new(), authenticator: Self::NOBODY }
    }

    /// Whether no authenticator recognised the caller: it has no rights but those that an extension finds out.
    pub fn is_nobody(&self) -> bool {
        self.authenticator == Self::NOBODY
    }

    /// Whether anybody may call so, without showing who it is: a bearer token beside that is somebody else's matter.
    pub fn is_anybody(&self) -> bool {
        self.is_nobody() || self.authenticator == "anonymous"
    }
}

/// What is known of a connection before the first byte of a request.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The other side's address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Whether TLS protects it.
    pub scheme: &'static str,
    /// The client certificate, DER, verified by the listener.
    pub client_certificate: Option<Vec<u8>>,
}

/// Path parameters, percent-decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(Arc<str>, String)>);

impl Params {
    /// Takes the raw path segments a pattern matched and decodes them.
    pub fn decode<'a>(raw: impl IntoIterator<Item = (Arc<str>, &'a str)>) -> Self {
        // One byte is found faster in bytes than in characters.
        let decode = |text: &str| match text.as_bytes().contains(&b'%') {
            true => percent_decode_str(text).decode_utf8_lossy().into_owned(),
            false => text.to_owned(),
        };
        Self(raw.into_iter().map(|(name, text)| (name, decode(text))).collect())
    }

    /// The value of a parameter; `""` for one the pattern does not have, which a test of the extension catches.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| &**known == name).map_or("", |(_, value)| value)
    }
}
