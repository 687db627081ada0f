//! What an operator can do with what is sealed: see which tokens are kept, throw them away, change the master key.
//!
//! The admin listener and the command line share it, so that both say the same. Nothing that leaves here holds a token.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use standpipe_api::{
    CredentialAlias, PeerId, ProviderId, RemoteScope, Result, SecretRef, Secrets as _, Timestamp,
};

use crate::store::{Keys, Rotated, Store, TokenFilter, TokenKey, TokenRow};
use crate::token::{ProcessSecrets, TokenMappings};

/// A store's secrets, behind their owner's back.
pub struct Vault {
    tokens: Arc<TokenMappings>,
    store: Arc<dyn Store>,
    keys: Keys,
}

/// A token as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// The provider it is for.
    pub provider: ProviderId,
    /// The scope inside the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_scope: Option<RemoteScope>,
    /// The provider's credential that obtained it.
    pub credential: CredentialAlias,
    /// The word of its strategy.
    pub kind: String,
    /// The first digits of the keyed hash of the caller's token; `-` for what is standpipe's own.
    pub subject: String,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The peer that gave it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
}

impl From<&TokenRow> for TokenView {
    fn from(row: &TokenRow) -> Self {
        Self {
            provider: row.key.provider.clone(),
            remote_scope: row.key.remote_scope.clone(),
            credential: row.key.credential.clone(),
            kind: row.kind.clone(),
            subject: row.key.subject.short(),
            obtained_at: row.obtained_at,
            expires_at: row.expires_at,
            peer: row.peer.clone(),
        }
    }
}

impl Vault {
    /// The vault of a store.
    pub fn new(tokens: Arc<TokenMappings>, store: Arc<dyn Store>, keys: Keys) -> Self {
        Self { tokens, store, keys }
    }

    /// Tokens in key order behind a key.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn tokens(
        &self,
        provider: Option<ProviderId>,
        after: Option<TokenKey>,
        limit: usize,
    ) -> Result<Vec<TokenRow>> {
        let filter = TokenFilter { provider, ..TokenFilter::default() };
        Ok(self.store.tokens(filter, after, limit).await?)
    }

    /// Removes tokens, from memory too; the number of those that were stored.
    ///
    /// # Errors
    /// The store does not answer; some may be removed.
    pub async fn purge(&self, provider: Option<ProviderId>) -> Result<usize> {
        self.tokens.purge(&TokenFilter { provider, ..TokenFilter::default() }).await
    }

    /// Seals everything anew under another master key.
    ///
    /// # Errors
    /// See [`Keys::rotate`].
    pub async fn rotate(&self, to: Option<&SecretRef>) -> Result<Rotated> {
        let rotated = self.keys.rotate(&*self.store, to, |reference| ProcessSecrets.read(reference)).await;
        let rotated = rotated.map_err(|error| match error {
            error @ crate::store::StoreError::Key(_) => standpipe_api::Error::invalid(error.to_string()),
            other => other.into(),
        })?;
        tracing::info!(values = rotated.values, "everything is sealed anew under another master key");
        Ok(rotated)
    }
}
