//! Step 5: (caller, provider) to credential. One file per strategy.
//!
//! A caller's own `Authorization` goes to nobody, except where `passthrough` says so. Which of a provider's
//! credentials is used was decided when the resource was created; its alias stands in the mapping.

mod basic;
mod bearer;
mod issued;
mod none;
mod passthrough;
mod secrets;

use std::sync::Arc;

use standpipe_api::{
    Credential, CredentialAlias, CredentialRequest, CredentialSource, CredentialStrategy, Error, ErrorKind,
    Fault, Problems, ProviderId, Result, Secrets, Signer,
};

pub use self::secrets::ProcessSecrets;
use crate::assemble::Tools;
use crate::config;

/// The built-in strategies.
pub fn strategies(tools: &Tools) -> Vec<Arc<dyn CredentialStrategy>> {
    let signer = tools.issuer.clone().map(|issuer| issuer as Arc<dyn Signer>);
    vec![
        Arc::new(none::None),
        Arc::new(basic::Basic),
        Arc::new(bearer::Bearer),
        Arc::new(passthrough::Passthrough),
        Arc::new(issued::Issued(signer)),
    ]
}

/// The credentials of one provider, the default first.
pub struct Credentials(Vec<(CredentialAlias, Arc<dyn CredentialSource>)>);

impl Credentials {
    /// Builds the sources a provider's configuration asks for.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the provider's table.
    pub fn build(
        configured: &[config::Credential],
        strategies: &[Arc<dyn CredentialStrategy>],
        secrets: &dyn Secrets,
    ) -> Result<Self, Problems> {
        let mut sources = Vec::with_capacity(configured.len());
        let mut problems = Problems::new();
        for (at, credential) in configured.iter().enumerate() {
            let path =
                if configured.len() == 1 { "credential".to_owned() } else { format!("credentials[{at}]") };
            let Some(strategy) = strategies.iter().find(|strategy| strategy.kind() == credential.kind) else {
                let text = format!("unknown credential kind `{}`", credential.kind);
                problems.push(standpipe_api::Problem::at(format!("{path}.kind"), text));
                continue;
            };
            match strategy.source(&credential.table, secrets) {
                Ok(source) => sources.push((credential.alias.clone(), source)),
                Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(&path))),
            }
        }
        if problems.is_empty() { Ok(Self(sources)) } else { Err(problems) }
    }

    /// The source a request is to use: the one its mapping names, else the default.
    ///
    /// # Errors
    /// The mapping names a credential that is no longer configured; another one may not be let in, or see other things.
    pub fn source(
        &self,
        provider: &ProviderId,
        alias: Option<&CredentialAlias>,
    ) -> Result<&Arc<dyn CredentialSource>> {
        let found = match alias {
            Some(alias) => self.0.iter().find(|(name, _)| name == alias),
            None => self.0.first(),
        };
        found.map(|(_, source)| source).ok_or_else(|| {
            let alias = alias.map_or("default", CredentialAlias::as_str);
            let public =
                format!("the resource was created with the credential {alias} of {provider}, which is gone");
            Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public)
                .advise("an operator can configure it again")
        })
    }

    /// The alias a new resource is created under: the default's, when there is a choice at all.
    pub fn default_alias(&self) -> Option<&CredentialAlias> {
        if self.0.len() > 1 { self.0.first().map(|(alias, _)| alias) } else { None }
    }

    /// Whether the default credential is standpipe's own and not its callers'.
    pub fn is_unattended(&self) -> bool {
        self.0.first().is_some_and(|(_, source)| source.is_unattended())
    }

    /// The credential for a request, if it is at hand.
    pub fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.source(request.provider, request.alias).ok()?.recall(request)
    }

    /// Obtains the credential for a request.
    ///
    /// # Errors
    /// As [`Credentials::source`], or the source cannot give one.
    pub async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let source = self.source(request.provider, request.alias)?;
        match source.recall(request) {
            Some(credential) => Ok(credential),
            None => source.obtain(request).await,
        }
    }
}
