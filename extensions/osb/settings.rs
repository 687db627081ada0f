//! The keys that an OSB provider has beside the engine's.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use standpipe_api::{Problem, Problems, Provider, Settings, SigningAlgorithm};

/// How often a catalog is read again when the operator does not say.
const CATALOG_REFRESH: Duration = Duration::from_secs(300);
/// The shortest of all spans.
const LEAST_SPAN: Duration = Duration::from_secs(1);
/// The version said in standpipe's own questions. Calls of platforms keep theirs.
const API_VERSION: &str = "2.17";

/// How long an operation is left to its platform before standpipe sees to it.
const RECONCILE_AFTER: Duration = Duration::from_secs(60);
/// How long an operation may take when neither plan nor operator say (decision 51).
const MAXIMUM_POLLING: Duration = Duration::from_secs(7 * 24 * 3600);

/// An OSB provider's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderSettings {
    /// How long after one reading of the catalog the next begins.
    pub catalog_refresh: Duration,
    /// What stands before its service and plan ids on the federated face; empty: nothing.
    pub id_prefix: String,
    /// `X-Broker-API-Version` of standpipe's own questions.
    pub api_version: String,
    /// What the platform's context is signed with; `None`: it is not.
    pub sign_context: Option<SigningAlgorithm>,
    /// Whether standpipe itself settles operations that nobody asks about, and cleans up after those that were lost.
    pub reconcile: bool,
    /// How long an operation must have been left alone before it does.
    pub reconcile_after: Duration,
    /// How long an operation may take whose plan does not say.
    pub maximum_polling_duration: Duration,
    /// Whether a DELETE of an instance that nobody knows succeeds.
    pub force_delete_instances: bool,
    /// The same of bindings.
    pub force_delete_bindings: bool,
    /// The statuses by which the broker says that it does not know what is to be deleted.
    pub unknown_answers: Vec<StatusCode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    catalog_refresh: Option<String>,
    #[serde(default)]
    id_prefix: String,
    api_version: Option<String>,
    sign_context: Option<String>,
    #[serde(default)]
    reconcile: bool,
    reconcile_after: Option<String>,
    maximum_polling_duration: Option<String>,
    #[serde(default)]
    force_delete_unknown: ForceDelete,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceDelete {
    #[serde(default)]
    instances: bool,
    #[serde(default)]
    bindings: bool,
    answers: Option<Vec<u16>>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            catalog_refresh: CATALOG_REFRESH,
            id_prefix: String::new(),
            api_version: API_VERSION.to_owned(),
            sign_context: None,
            reconcile: false,
            reconcile_after: RECONCILE_AFTER,
            maximum_polling_duration: MAXIMUM_POLLING,
            force_delete_instances: false,
            force_delete_bindings: false,
            unknown_answers: vec![StatusCode::NOT_FOUND, StatusCode::GONE],
        }
    }
}

impl ProviderSettings {
    /// What a provider was configured with.
    pub(super) fn of(provider: &Provider) -> Self {
        provider.settings.of::<Self>().cloned().unwrap_or_default()
    }

    /// Whether bodies must be read even on their way to a provider that the caller named: something in them is changed, or
    /// standpipe itself has to be able to delete what they make.
    pub(super) fn needs_bodies(&self) -> bool {
        self.sign_context.is_some() || self.reconcile || !self.id_prefix.is_empty()
    }

    /// Reads a provider's table.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let (table, mut problems) = Settings::examine::<Table>(table);
        let Some(table) = table else { return Err(problems) };
        let mut settings = Self {
            id_prefix: table.id_prefix,
            reconcile: table.reconcile,
            force_delete_instances: table.force_delete_unknown.instances,
            force_delete_bindings: table.force_delete_unknown.bindings,
            ..Self::default()
        };
        for (key, text, span) in [
            ("catalog_refresh", table.catalog_refresh, &mut settings.catalog_refresh),
            ("reconcile_after", table.reconcile_after, &mut settings.reconcile_after),
            (
                "maximum_polling_duration",
                table.maximum_polling_duration,
                &mut settings.maximum_polling_duration,
            ),
        ] {
            match text.as_deref().map(humantime::parse_duration) {
                None => {}
                Some(Ok(read)) if read >= LEAST_SPAN => *span = read,
                Some(_) => problems.push(Problem::at(key, "must be a span of at least a second, as \"5m\"")),
            }
        }
        for code in table.force_delete_unknown.answers.iter().flatten() {
            if !(400..500).contains(code) {
                let text =
                    format!("{code} is no status by which a broker can say that it does not know something");
                problems.push(Problem::at("force_delete_unknown.answers", text));
            }
        }
        if let Some(codes) = table.force_delete_unknown.answers {
            settings.unknown_answers =
                codes.iter().filter_map(|code| StatusCode::from_u16(*code).ok()).collect();
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if settings.id_prefix.len() > 64 || !settings.id_prefix.bytes().all(is_plain) {
            problems
                .push(Problem::at("id_prefix", "must be at most 64 letters, digits, `-`, `.`, `_` and `~`"));
        }
        match table.sign_context.as_deref() {
            None => {}
            Some("RS256") => settings.sign_context = Some(SigningAlgorithm::Rs256),
            Some("ES256") => settings.sign_context = Some(SigningAlgorithm::Es256),
            Some(_) => problems.push(Problem::at("sign_context", "must be \"RS256\" or \"ES256\"")),
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
