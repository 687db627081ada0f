//! Which name in the merged catalog belongs to whom. Once given, a name is never given to another (decision 50).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use standpipe_api::ProviderId;

use super::Member;

/// The names of service offerings in the merged catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    /// Each name, and the offering that has it.
    given: BTreeMap<String, Offering>,
}

/// An offering of one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offering {
    provider: ProviderId,
    service: String,
}

impl Names {
    /// Gives a name to every offering that has none, in the order of the providers: its own, if that is free, else
    /// `<name>-<provider>`.
    #[must_use]
    pub(super) fn with(mut self, members: &[Member]) -> Self {
        for member in members {
            for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
                let offering = Offering { provider: member.provider.id.clone(), service: service.id.clone() };
                if self.of(&member.provider.id, &service.id, &service.name).is_some() {
                    continue;
                }
                let second = format!("{}-{}", service.name, member.provider.id);
                let numbered = (2..).map(|number| format!("{second}-{number}"));
                let mut names = [service.name.clone(), second.clone()].into_iter().chain(numbered);
                if let Some(free) = names.find(|name| !self.given.contains_key(name)) {
                    self.given.insert(free, offering);
                }
            }
        }
        self
    }

    /// The name in the merged catalog of an offering that calls itself `own`.
    pub(super) fn of(&self, provider: &ProviderId, service: &str, own: &str) -> Option<&str> {
        let belongs = |offering: &Offering| offering.provider == *provider && offering.service == service;
        if let Some((name, _)) = self.given.get_key_value(own).filter(|(_, offering)| belongs(offering)) {
            return Some(name);
        }
        // It may have had to take another name, or have changed its own since.
        let derived = |name: &str| {
            name.strip_prefix(own)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|rest| rest.starts_with(provider.as_str()))
        };
        self.given.iter().find(|(name, offering)| belongs(offering) && derived(name)).map(|(name, _)| &**name)
    }
}
