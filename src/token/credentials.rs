//! The credentials of one provider: built from its configuration, chosen for each call, asked for what they give.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use standpipe_api::{
    Caller, Challenged, Credential, CredentialAlias, CredentialRequest, CredentialSource, CredentialStrategy,
    Problem, Problems, ProviderId, Result, Secrets,
};

use super::choice::{Chosen, Terms, choose};
use super::document::{Document, DocumentSource};
use super::kept::{Counts, Foreign, Kept, Place};
use super::mappings::TokenMappings;
use super::{FollowedSecrets, mtls};
use crate::config;
use crate::store::{StoredToken, TokenKey};
use crate::telemetry::{Metrics, name};

/// The credentials of one provider, the default first.
pub struct Credentials(Vec<Named>);

struct Named {
    terms: Terms,
    kept: Kept,
}

/// What credentials are built with.
pub struct Site<'a> {
    /// The provider's configuration.
    pub provider: &'a config::Provider,
    /// All strategies, the extensions' among them.
    pub strategies: &'a [Arc<dyn CredentialStrategy>],
    /// Where secrets are read.
    pub secrets: &'a FollowedSecrets,
    /// Where tokens are kept.
    pub mappings: &'a Arc<TokenMappings>,
    /// Where is counted.
    pub metrics: &'a Metrics,
}

impl Credentials {
    /// Builds the sources a provider's configuration asks for.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the provider's table.
    pub fn build(site: &Site<'_>) -> Result<Self, Problems> {
        let configured = &site.provider.credentials;
        let mut all = Vec::with_capacity(configured.len());
        let mut problems = Problems::new();
        let document = site.provider.credentials_document.as_ref();
        let secrets = match document {
            Some(source) => &site.secrets.with_document(source.clone()),
            None => site.secrets,
        };
        for (at, credential) in configured.iter().enumerate() {
            let path =
                if configured.len() == 1 { "credential".to_owned() } else { format!("credentials[{at}]") };
            match site.named(credential, Vec::new(), secrets) {
                Ok(named) => all.push(named),
                Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(&path))),
            }
        }
        if let Some(source) = document {
            match site.documented(source, secrets) {
                Ok(named) => all.extend(named),
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.under("credentials_document")))
                }
            }
        }
        if problems.is_empty() { Ok(Self(all)) } else { Err(problems) }
    }

    /// Whether callers get different credentials, or may ask for one.
    pub fn is_choice(&self) -> bool {
        self.0.len() > 1 || self.0.iter().any(|named| named.terms.is_restricted())
    }

    /// The alias of the credential for a call; `None` when there is no choice.
    ///
    /// # Errors
    /// There is none that is for this caller, or the one its resource was created with is gone.
    pub fn alias(
        &self,
        provider: &ProviderId,
        caller: Option<&Caller>,
        chosen: Chosen<'_>,
    ) -> Result<Option<&CredentialAlias>> {
        let at = self.position(provider, caller, chosen)?;
        Ok(self.0.get(at).filter(|_| self.is_choice()).map(|named| &named.terms.alias))
    }

    /// Tells callers apart that get different credentials: what one has read is nobody else's (decision 17).
    pub fn identity(&self, caller: Option<&Caller>) -> Option<&str> {
        let usable = self.0.iter().find(|named| named.terms.allow(caller));
        self.is_choice().then(|| usable.map_or("", |named| named.terms.alias.as_str()))
    }

    fn position(&self, provider: &ProviderId, caller: Option<&Caller>, chosen: Chosen<'_>) -> Result<usize> {
        choose(self.0.iter().map(|named| &named.terms), provider, caller, chosen)
    }

    /// Whether all are standpipe's own and not its callers'.
    pub fn is_unattended(&self) -> bool {
        self.0.iter().all(|named| named.kept.is_unattended())
    }

    /// Whether a caller's own credential may reach the provider.
    pub fn passes_on(&self) -> bool {
        self.0.iter().any(|named| named.kept.passes_on())
    }

    /// The source that a request is to use: by its alias, else the first its caller may use.
    ///
    /// # Errors
    /// None is for the caller, or the one its resource was created with is gone.
    pub fn source(&self, request: &CredentialRequest<'_>) -> Result<&dyn CredentialSource> {
        let chosen = Chosen { kept: request.alias, asked: None };
        let at = match (self.0.as_slice(), request.alias) {
            ([only], None) if !only.terms.is_restricted() => return Ok(&only.kept as &dyn CredentialSource),
            // Standpipe itself needs one that works without a caller, if there is one.
            (all, None) if request.caller.is_none() => {
                all.iter().position(|named| named.kept.is_unattended()).unwrap_or(0)
            }
            _ => self.position(request.provider, request.caller, chosen)?,
        };
        let found = self.0.get(at).map(|named| &named.kept as &dyn CredentialSource);
        found.ok_or_else(|| standpipe_api::Error::internal("a credential was chosen that is not there"))
    }

    /// The credential for a request, if it is at hand.
    pub fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.source(request).ok()?.recall(request)
    }

    /// Obtains the credential for a request.
    ///
    /// # Errors
    /// None is for the caller, the one its resource was created with is gone, or the source cannot give one.
    pub async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let source = self.source(request)?;
        match source.recall(request) {
            Some(credential) => Ok(credential),
            None => source.obtain(request).await,
        }
    }

    /// Tells a source that the provider answered 401 to what it gave.
    pub fn challenged(
        &self,
        request: &CredentialRequest<'_>,
        sent: &Credential,
        answer: &HeaderMap,
    ) -> Challenged {
        self.source(request).map_or(Challenged::Final, |source| source.challenged(request, sent, answer))
    }

    /// The rows that a token becomes which a peer obtained for a caller: one for each credential that keeps what is its
    /// callers' own.
    ///
    /// # Errors
    /// It cannot be carried, or the store does not answer.
    pub async fn foreign(&self, foreign: &Foreign<'_>) -> Result<Vec<(TokenKey, StoredToken)>> {
        let mut rows = Vec::new();
        for named in &self.0 {
            rows.extend(named.kept.foreign(foreign).await?);
        }
        Ok(rows)
    }

    /// Renews standpipe's own tokens that end soon. Must be called where local tasks can be spawned.
    pub fn renew_due(&self) {
        self.0.iter().for_each(|named| named.kept.renew_due());
    }
}

impl Terms {
    fn is_restricted(&self) -> bool {
        !self.tenants.is_empty() || !self.groups.is_empty()
    }
}

impl Site<'_> {
    fn named(
        &self,
        credential: &config::Credential,
        also: Vec<String>,
        secrets: &dyn Secrets,
    ) -> Result<Named, Problems> {
        let unknown = || vec![Problem::at("kind", format!("unknown credential kind `{}`", credential.kind))];
        let strategy = self.strategies.iter().find(|strategy| strategy.kind() == credential.kind);
        let source = strategy.ok_or_else(unknown)?.source(&credential.table, secrets)?;
        if let Some(problem) = mtls::check(credential, self.provider) {
            return Err(vec![problem]);
        }
        let mut settings = [0; 32];
        let text = format!("{}\n{}", credential.kind, credential.table);
        settings.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        let place = Place {
            provider: self.provider.id.clone(),
            credential: credential.alias.clone(),
            kind: credential.kind.clone(),
            settings,
        };
        let terms = Terms {
            alias: credential.alias.clone(),
            also,
            tenants: credential.tenants.clone(),
            groups: credential.groups.clone(),
        };
        Ok(Named { terms, kept: Kept::new(source, self.mappings.clone(), place, self.counts()) })
    }

    /// The credentials that a document gives.
    fn documented(&self, source: &DocumentSource, secrets: &dyn Secrets) -> Result<Vec<Named>, Problems> {
        let document = Document::load(source).map_err(|text| vec![Problem::at("", text)])?;
        let mut all: Vec<Named> = Vec::new();
        for key in document.taken(source.take) {
            let mut table = toml::Table::new();
            table.insert("username".into(), key.username.clone().into());
            table.insert("password".into(), format!("document:{}", key.name).into());
            let credential = config::Credential {
                alias: key.name.as_str().into(),
                kind: source.kind.clone(),
                tenants: Vec::new(),
                groups: Vec::new(),
                table,
            };
            if self.provider.credentials.iter().any(|earlier| earlier.alias == credential.alias) {
                let text = format!("another credential of this provider is named `{}`", key.name);
                return Err(vec![Problem::at("", text)]);
            }
            all.push(self.named(&credential, key.organisations.clone(), secrets)?);
        }
        Ok(all)
    }

    fn counts(&self) -> Counts {
        let provider = self.provider.id.as_str();
        let exchanges = |outcome| {
            self.metrics.counter(name::TOKEN_EXCHANGES, &[("provider", provider), ("outcome", outcome)])
        };
        Counts {
            hits: self.metrics.counter(name::TOKEN_CACHE_HITS, &[("provider", provider)]),
            success: exchanges("success"),
            refused: exchanges("refused"),
            failed: exchanges("failed"),
        }
    }
}
