//! Which name in the merged catalog belongs to whom. Once given, a name is never given to another (decision 50).

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use standpipe_api::ProviderId;

use super::{Member, Service};

/// Names that are kept; over it those of offerings that nobody has any more are forgotten, for brokers may change theirs for ever.
const MOST: usize = 10_000;

/// The names of service offerings in the merged catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    /// Each name, and the offering that has it.
    given: BTreeMap<String, Offering>,
}

/// An offering of one provider, or of several that share its id on the federated face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offering {
    provider: ProviderId,
    service: String,
    id: String,
}

impl Names {
    /// Gives a name to every offering that has none, in the order of the providers: its own, if that is free, else
    /// `<name>-<provider>`.
    #[must_use]
    pub(super) fn with(mut self, members: &[Member]) -> Self {
        if self.given.len() > MOST {
            let id = |member: &Member| {
                member
                    .snapshot
                    .iter()
                    .flat_map(|known| &known.services)
                    .map(|one| member.federated(one))
                    .collect::<Vec<_>>()
            };
            let offered: HashSet<String> = members.iter().flat_map(id).collect();
            self.given.retain(|_, offering| offered.contains(&offering.id));
        }
        for member in members {
            for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
                if self.of(member, service).is_some() {
                    continue;
                }
                let offering = Offering {
                    provider: member.provider.id.clone(),
                    service: service.id.clone(),
                    id: member.federated(service),
                };
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

    /// The name in the merged catalog of a member's offering. Whoever steps in for another with the same id has its name.
    pub(super) fn of(&self, member: &Member, service: &Service) -> Option<&str> {
        let (provider, id) = (&member.provider.id, member.federated(service));
        let belongs = |offering: &Offering| {
            offering.id == id || (offering.provider == *provider && offering.service == service.id)
        };
        if let Some((name, _)) =
            self.given.get_key_value(&service.name).filter(|(_, offering)| belongs(offering))
        {
            return Some(name);
        }
        // It may have had to take another name, or have changed its own since.
        let derived = |name: &str, offering: &Offering| {
            name.strip_prefix(&*service.name)
                .and_then(|rest| rest.strip_prefix('-'))
                .is_some_and(|rest| rest.starts_with(offering.provider.as_str()))
        };
        let alike = self.given.range::<str, _>((Bound::Included(&*service.name), Bound::Unbounded));
        let mut alike = alike.take_while(|(name, _)| name.starts_with(&*service.name));
        alike.find(|(name, offering)| belongs(offering) && derived(name, offering)).map(|(name, _)| &**name)
    }
}
