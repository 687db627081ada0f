//! What a peer gave, as if it had been obtained here.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use secrecy::SecretString;
use standpipe_api::{CredentialRequest, Keeping, RemoteScope, Result, Timestamp};

use super::super::fields;
use super::Kept;
use crate::store::{StoredToken, TokenKey};

/// A provider's token that somebody else obtained for a caller.
pub struct Foreign<'a> {
    /// SHA-256 of the caller's own token.
    pub caller: &'a [u8; 32],
    /// The scope inside the provider.
    pub remote_scope: Option<&'a RemoteScope>,
    /// The provider's token.
    pub token: &'a SecretString,
    /// When it was given.
    pub given_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl Kept {
    /// The row by which a call that brings the caller's token finds it; `None` where nothing is kept for such calls.
    pub(in crate::token) async fn foreign(
        &self,
        foreign: &Foreign<'_>,
    ) -> Result<Option<(TokenKey, StoredToken)>> {
        let place = &self.0.place;
        let head = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer any"))]);
        let any = CredentialRequest { head: Some(&head), ..self.0.own_request(foreign.remote_scope) };
        if !matches!(self.0.source.keeping(&any), Keeping::Token(_)) {
            return Ok(None);
        }
        let carried = self.0.source.carry(foreign.token)?;
        let key = TokenKey {
            subject: self.0.mappings.subject_of(foreign.caller).await?,
            provider: place.provider.clone(),
            remote_scope: foreign.remote_scope.cloned(),
            credential: place.credential.clone(),
        };
        let stored = StoredToken {
            kind: place.kind.clone(),
            settings: place.settings,
            value: fields::write(&carried.headers),
            obtained_at: foreign.given_at,
            expires_at: foreign.expires_at,
        };
        Ok(Some((key, stored)))
    }
}
