//! From tables to running providers: those of the configuration, and behind them those registered at run time.

use std::sync::Arc;

use standpipe_api::{
    Availability, CredentialStrategy, Problem, Problems, Provider as Public, ProviderId, Settings,
};

use super::{Front, Parts, Tools};
use crate::config::{self, At, Config};
use crate::engine::Running;
use crate::providers::{Bases, Place, Provider};
use crate::registry::{AtRunTime, LeftOut, Registration};
use crate::route::DialectId;
use crate::telemetry::Metrics;
use crate::token::{Credentials, FollowedSecrets, Site};

/// What providers are made of and with.
pub(super) struct Making<'a> {
    pub(super) config: &'a Config,
    pub(super) parts: &'a Parts,
    pub(super) tools: &'a Tools,
    pub(super) metrics: &'a Metrics,
    /// What ran before; what has not changed is kept, with its pools, breakers and limits.
    pub(super) earlier: Option<&'a Running>,
    pub(super) reread: Reread,
}

/// What may have changed behind the same names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reread {
    /// Secrets and certificates: only a provider without any is kept unread.
    Secrets,
    /// Nothing.
    Nothing,
}

impl Making<'_> {
    /// All providers, in order; the registered ones that cannot be put to work; and every mistake of the configuration.
    pub(super) fn all(&self, said: &AtRunTime) -> (Vec<Arc<Provider>>, Vec<LeftOut>, Problems) {
        let mut problems = Problems::new();
        let mut providers: Vec<Arc<Provider>> = Vec::with_capacity(self.config.providers.len());
        for (at, settings) in self.config.providers.iter().enumerate() {
            match self.kept_or_made(settings, None, said.availability(&settings.id)) {
                Ok(provider) => providers.push(provider),
                Err(found) => problems
                    .extend(found.into_iter().map(|problem| problem.under(&format!("provider[{at}]")))),
            }
        }
        let mut left_out = Vec::new();
        // A broker served alone is in front of nobody.
        let registered = if self.parts.front == Front::Broker { &[] } else { said.registered() };
        for registration in registered {
            let (settings, found) =
                config::provider(&registration.table, &self.config.folder, &self.parts.known);
            match self.registered((&settings, found), registration, &providers, said) {
                Ok(provider) => providers.push(provider),
                Err(problems) => {
                    let availability = said.availability(&settings.id);
                    left_out.push(self.left_out(&settings, registration, availability, problems));
                }
            }
        }
        (providers, left_out, problems)
    }

    /// A registered provider that is not put to work, as far as it can be known.
    fn left_out(
        &self,
        settings: &config::Provider,
        registration: &Registration,
        availability: Availability,
        problems: Problems,
    ) -> LeftOut {
        let dialect = self.parts.router.dialect_named(registration.dialect());
        let public = dialect.and_then(|dialect| match self.public(settings, dialect) {
            (public, found) if found.is_empty() => Some(Public { availability, ..public }),
            _ => None,
        });
        LeftOut { name: registration.name.clone(), dialect, public, problems }
    }

    /// A registered provider, read and checked as the configuration's are.
    fn registered(
        &self,
        (settings, found): (&config::Provider, Problems),
        registration: &Arc<Registration>,
        before: &[Arc<Provider>],
        said: &AtRunTime,
    ) -> Result<Arc<Provider>, Problems> {
        if !found.is_empty() {
            return Err(found);
        }
        if before.iter().any(|other| *other.id() == settings.id) {
            let text = "a provider of the configuration has this name, and counts; choose another name";
            return Err(vec![Problem::at("name", text)]);
        }
        let rival = |other: &&Arc<Provider>| other.public.local && other.public.dialect == settings.dialect;
        if let Some(other) = before.iter().find(rival).filter(|_| settings.local) {
            let text = format!("{} is the local one of {}", other.id(), settings.dialect);
            return Err(vec![Problem::at("local", text)]);
        }
        self.kept_or_made(settings, Some(registration), said.availability(&settings.id))
    }

    fn kept_or_made(
        &self,
        settings: &config::Provider,
        registration: Option<&Arc<Registration>>,
        availability: Availability,
    ) -> Result<Arc<Provider>, Problems> {
        let before = self.earlier.and_then(|earlier| earlier.find(&settings.id));
        let kept = before.filter(|before| before.config == *settings && self.is_same(before, registration));
        match kept {
            Some(kept) if kept.public.availability == availability => Ok(kept.clone()),
            Some(kept) => Ok(Arc::new(kept.with_availability(availability))),
            None => {
                let mut made = self.made(settings, registration, before.map(|before| &**before))?;
                made.registration = registration.cloned();
                Ok(Arc::new(made.with_availability(availability)))
            }
        }
    }

    /// Whether nothing behind a provider's settings can have changed.
    fn is_same(&self, before: &Provider, registration: Option<&Arc<Registration>>) -> bool {
        let registered = match (&before.registration, registration) {
            (None, None) => true,
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        let settings = &before.config;
        let unread = || {
            settings.tls.is_none()
                && settings.credentials_document.is_none()
                && settings.credentials.iter().all(|credential| credential.table.is_empty())
        };
        registered && (self.reread == Reread::Nothing || unread())
    }

    fn made(
        &self,
        settings: &config::Provider,
        registration: Option<&Arc<Registration>>,
        earlier: Option<&Provider>,
    ) -> Result<Provider, Problems> {
        let (parts, tools) = (self.parts, self.tools);
        let id = parts.router.dialect_named(&settings.dialect).unwrap_or(DialectId(0));
        let (public, mut problems) = self.public(settings, id);
        let place = place(settings, &public, parts, earlier);
        let sealed = registration.map(|registration| registration.secrets.clone()).unwrap_or_default();
        let credentials = Credentials::build(&Site {
            provider: settings,
            strategies: &credential_strategies(parts, tools),
            secrets: &FollowedSecrets::new(tools.secret_files.clone()).with_sealed(sealed),
            mappings: &tools.tokens,
            metrics: self.metrics,
        });
        let figures = self.figures(&settings.id, id);
        if public.url.starts_with("https")
            && let Err(found) = crate::forward::tls::client_config(settings.tls.as_ref())
        {
            problems.extend(found);
        }
        match (place, credentials) {
            (Ok(place), Ok(credentials)) if problems.is_empty() => {
                Ok(Provider::new(public, id, settings.clone(), place, credentials, figures))
            }
            (place, credentials) => {
                problems.extend(place.err().into_iter().flatten());
                problems.extend(credentials.err().into_iter().flatten());
                Err(problems)
            }
        }
    }

    /// A provider as extensions know it, and what its dialect finds wrong with its keys.
    fn public(&self, settings: &config::Provider, dialect: DialectId) -> (Public, Problems) {
        let (parts, config) = (self.parts, self.config);
        let dialect = parts.router.dialect(dialect);
        let (read, problems) = match dialect.provider_settings(&settings.dialect_settings) {
            Ok(read) => (read, Problems::new()),
            Err(found) => (Settings::new(()), found),
        };
        let url = match &settings.at {
            At::Url(url) => url.clone(),
            At::InProcess { .. } if parts.front == Front::Broker => config.public_url.clone(),
            At::InProcess { .. } => format!("{}/providers/{}", config.public_url, settings.id),
        };
        let public = Public {
            id: settings.id.clone(),
            dialect: dialect.name(),
            url,
            local: settings.local,
            availability: Availability::Active,
            folder: config.folder.clone(),
            settings: read,
        };
        (public, problems)
    }

    fn figures(&self, provider: &ProviderId, dialect: DialectId) -> crate::telemetry::ProviderMetrics {
        let operations = self.parts.router.dialect(dialect).operations();
        let names: Vec<&'static str> = operations.iter().map(|(_, operation)| operation.name).collect();
        self.metrics.provider(provider, &names)
    }
}

fn place(
    settings: &config::Provider,
    public: &Public,
    parts: &Parts,
    earlier: Option<&Provider>,
) -> Result<Place, Problems> {
    match &settings.at {
        At::Url(url) => {
            let bases = Bases::new(url).map(|bases| Place::Remote(Arc::new(bases)));
            bases.map_err(|error| vec![Problem::at("url", error.to_string())])
        }
        At::InProcess { kind, table } => {
            // What runs in this process has state; a reload changes its settings and leaves it running.
            if let Some(Place::InProcess(upstream)) = earlier.map(|earlier| &earlier.place) {
                upstream.reload(public, table).map_err(|found| under(found, kind))?;
                return Ok(Place::InProcess(upstream.clone()));
            }
            let serving =
                parts.extensions.iter().find(|extension| extension.upstream_kind() == Some(kind.as_str()));
            let unknown = || vec![Problem::at(kind.clone(), "no extension serves such providers")];
            let upstream = serving.ok_or_else(unknown)?.upstream(public, table);
            upstream.map(Place::InProcess).map_err(|found| under(found, kind))
        }
    }
}

fn under(found: Problems, key: &str) -> Problems {
    found.into_iter().map(|problem| problem.under(key)).collect()
}

/// The strategies of the engine and its extensions.
fn credential_strategies(parts: &Parts, tools: &Tools) -> Vec<Arc<dyn CredentialStrategy>> {
    let mut all = tools.strategies();
    all.extend(parts.extensions.iter().flat_map(|extension| extension.credential_strategies()));
    all
}
