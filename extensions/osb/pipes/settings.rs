//! `[extensions.osb-pipes]`: what offers say of connecting, and what becomes of credentials.

use std::time::Duration;

use serde::Deserialize;
use standpipe_api::{Problem, Problems, Settings};

use crate::osb::offered::Offered;
use crate::osb::visibility::fits;

/// How long credentials that cannot be read again are kept for whoever asks after the binding.
const HAND_OVER: Duration = Duration::from_secs(600);
/// How long a broker, or the other end, is tried.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// The table, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PipeSettings {
    /// Whether credentials are kept, sealed, that the broker does not tell again.
    pub keep_credentials: bool,
    /// How long they are kept otherwise.
    pub hand_over: Duration,
    /// How long a broker, or the other end, is tried.
    pub give_up_after: Duration,
    /// Whether the other end is told that its pipe is gone (decision 44).
    pub tell_deletions: bool,
    rules: Vec<Rule>,
}

/// What the plans it fits offer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    providers: Option<Vec<String>>,
    services: Option<Vec<String>>,
    plans: Option<Vec<String>>,
    /// The protos, the first of which is the default.
    pub protos: Option<Vec<String>>,
    /// The adapters.
    pub adapters: Option<Vec<String>>,
    /// Those that a binding gets which names none.
    pub default_adapters: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    keep_credentials: bool,
    hand_over: Option<String>,
    give_up_after: Option<String>,
    #[serde(default)]
    tell_deletions: bool,
    #[serde(default)]
    offers: Vec<toml::Table>,
}

impl Default for PipeSettings {
    fn default() -> Self {
        Self {
            keep_credentials: false,
            hand_over: HAND_OVER,
            give_up_after: GIVE_UP_AFTER,
            tell_deletions: false,
            rules: Vec::new(),
        }
    }
}

impl PipeSettings {
    /// Reads the table.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let (table, mut problems) = Settings::examine::<Table>(table);
        let Some(table) = table else { return Err(problems) };
        let Table { keep_credentials, tell_deletions, .. } = table;
        let mut settings = Self { keep_credentials, tell_deletions, ..Self::default() };
        for (key, text, span) in [
            ("hand_over", table.hand_over, &mut settings.hand_over),
            ("give_up_after", table.give_up_after, &mut settings.give_up_after),
        ] {
            match text.as_deref().map(humantime::parse_duration) {
                None => {}
                Some(Ok(read)) if !read.is_zero() => *span = read,
                Some(_) => problems.push(Problem::at(key, "must be a span, as \"10m\"")),
            }
        }
        for (at, rule) in table.offers.iter().enumerate() {
            let under = format!("offers[{at}]");
            match Settings::read::<Rule>(rule) {
                Ok(rule) => {
                    problems.extend(rule.problems().into_iter().map(|problem| problem.under(&under)));
                    settings.rules.push(rule);
                }
                Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(&under))),
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// The first rule for a plan.
    pub(super) fn of(&self, offered: &Offered) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            fits(rule.providers.as_deref(), [offered.provider.as_str()])
                && fits(rule.services.as_deref(), [&*offered.service, &*offered.service_id])
                && fits(rule.plans.as_deref(), [&*offered.plan, &*offered.plan_id])
        })
    }
}

impl Rule {
    fn problems(&self) -> Problems {
        let adapters = self.adapters.as_deref().unwrap_or_default();
        let strange = self.default_adapters.iter().flatten().filter(|id| !adapters.contains(id));
        let text = |id: &String| format!("{id} is none of this rule's `adapters`");
        strange.map(|id| Problem::at("default_adapters", text(id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let table =
            "hand_over = \"soon\"\n[[offers]]\nservice = \"db\"\n[[offers]]\ndefault_adapters = [\"a\"]";
        let problems = PipeSettings::read(&table.parse().unwrap()).unwrap_err();
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        for place in ["hand_over", "offers[0]", "offers[1].default_adapters"] {
            assert!(text.contains(place), "{place} in {text}");
        }
    }
}
