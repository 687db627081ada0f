//! Token mappings as the store sees them: keys without tokens, values that are sealed.

use std::fmt;

use standpipe_api::{CredentialAlias, PeerId, ProviderId, RemoteScope, Timestamp};

use super::SecretBytes;

/// Which token: whose, where, in which scope, by which credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenKey {
    /// The keyed hash of the caller's token.
    pub subject: Subject,
    /// The provider it is for.
    pub provider: ProviderId,
    /// The scope inside the provider.
    pub remote_scope: Option<RemoteScope>,
    /// The provider's credential that obtained it.
    pub credential: CredentialAlias,
}

/// The keyed hash (HMAC-SHA-256) of a caller's token; empty for standpipe's own credentials.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Vec<u8>);

/// Bytes of a subject that are shown; enough to tell rows apart, useless for anything else.
const SHOWN: usize = 4;

impl Subject {
    /// Standpipe itself.
    pub const STANDPIPE: Self = Self(Vec::new());

    /// A caller, by the keyed hash of its token.
    pub fn hashed(hash: &[u8]) -> Self {
        Self(hash.to_vec())
    }

    /// The bytes as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A short prefix, or `-` for standpipe itself.
    pub fn short(&self) -> String {
        if self.0.is_empty() { "-".to_owned() } else { hex(self.0.get(..SHOWN).unwrap_or_default()) }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A provider's token, opened.
#[derive(Clone)]
pub struct StoredToken {
    /// The word of the strategy that obtained it.
    pub kind: String,
    /// A hash of the settings it was obtained under.
    pub settings: [u8; 32],
    /// What the request carries.
    pub value: SecretBytes,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// What an operator sees of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Whose and where.
    pub key: TokenKey,
    /// The word of the strategy that obtained it.
    pub kind: String,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The peer that gave it, if one did.
    pub peer: Option<PeerId>,
}

/// Which tokens are listed or removed; an absent field takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFilter {
    /// Those for one provider.
    pub provider: Option<ProviderId>,
    /// Those that ended before; for removing.
    pub ended_before: Option<Timestamp>,
    /// Those that a peer gave; for listing.
    pub peer: Option<PeerId>,
}
