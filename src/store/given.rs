//! What other standpipes gave, as the store sees it.

use serde::{Deserialize, Serialize};
use standpipe_api::{Kind, PeerId, ProviderId, ResourceId};

use super::{Imported, StoredToken, TokenKey};

/// A provider's token that a peer gave.
#[derive(Clone)]
pub struct GivenToken {
    /// Who gave it.
    pub peer: PeerId,
    /// For whom, and where.
    pub key: TokenKey,
    /// The token; `obtained_at` is when it was given.
    pub token: StoredToken,
}

/// What became of what a peer gave, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Of each resource mapping.
    pub mappings: Vec<Imported>,
    /// Of each token; one that stays is `learned` when it was obtained here, else `injected`.
    pub tokens: Vec<Imported>,
}

/// Which of a peer's mappings are taken back; an absent field takes all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Whose.
    pub peer: PeerId,
    /// Those at one provider.
    pub provider: Option<ProviderId>,
    /// Those of one kind of resource; tokens are of none.
    pub kind: Option<Kind>,
    /// Those of one id; tokens have none.
    pub id: Option<ResourceId>,
}

/// How much a peer gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Resource mappings.
    pub mappings: u64,
    /// Tokens.
    pub tokens: u64,
}
