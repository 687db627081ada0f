//! The keys that an OSB provider has beside the engine's.

use std::time::Duration;

use serde::Deserialize;
use standpipe_api::{Problem, Problems, Provider, Settings};

/// How often a catalog is read again when the operator does not say.
const CATALOG_REFRESH: Duration = Duration::from_secs(300);
/// The shortest interval between two readings of a catalog.
const LEAST_REFRESH: Duration = Duration::from_secs(1);
/// The version said in standpipe's own questions. Calls of platforms keep theirs.
const API_VERSION: &str = "2.17";

/// An OSB provider's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderSettings {
    /// How long after one reading of the catalog the next begins.
    pub catalog_refresh: Duration,
    /// What stands before its service and plan ids on the federated face; empty: nothing.
    pub id_prefix: String,
    /// `X-Broker-API-Version` of standpipe's own questions.
    pub api_version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    catalog_refresh: Option<String>,
    #[serde(default)]
    id_prefix: String,
    api_version: Option<String>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            catalog_refresh: CATALOG_REFRESH,
            id_prefix: String::new(),
            api_version: API_VERSION.to_owned(),
        }
    }
}

impl ProviderSettings {
    /// What a provider was configured with.
    pub(super) fn of(provider: &Provider) -> Self {
        provider.settings.of::<Self>().cloned().unwrap_or_default()
    }

    /// Reads a provider's table.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let table: Table = Settings::read(table)?;
        let mut problems = Problems::new();
        let mut settings = Self { id_prefix: table.id_prefix, ..Self::default() };
        if let Some(text) = table.catalog_refresh {
            match humantime::parse_duration(&text) {
                Ok(span) if span >= LEAST_REFRESH => settings.catalog_refresh = span,
                _ => problems
                    .push(Problem::at("catalog_refresh", "must be a span of at least a second, as \"5m\"")),
            }
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if settings.id_prefix.len() > 64 || !settings.id_prefix.bytes().all(is_plain) {
            problems
                .push(Problem::at("id_prefix", "must be at most 64 letters, digits, `-`, `.`, `_` and `~`"));
        }
        if let Some(version) = table.api_version {
            match version.split_once('.') {
                Some((major, minor)) if [major, minor].iter().all(|part| part.parse::<u16>().is_ok()) => {
                    settings.api_version = version;
                }
                _ => problems.push(Problem::at("api_version", "must be a version, as \"2.17\"")),
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}
