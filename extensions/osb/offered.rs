//! What a caller can have: the plans it sees, with their services, as extensions look for them.

use serde_json::{Map, Value};
use standpipe_api::{Federation, ProviderId};

use super::Brokers;
use super::dialect::NAME;
use super::visibility::{Shown, User};

/// A plan of a service that a caller sees.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offered {
    /// Whose it is; of several that offer it alike, the first.
    pub provider: ProviderId,
    /// The service's id on the federated face.
    pub service_id: String,
    /// Its name in the merged catalog.
    pub service: String,
    /// The plan's id on the federated face.
    pub plan_id: String,
    /// Its name.
    pub plan: String,
    /// The service's fields, as its broker wrote them.
    pub service_fields: Map<String, Value>,
    /// The plan's fields, as its broker wrote them.
    pub plan_fields: Map<String, Value>,
}

impl Offered {
    /// Whether it can be bound: the plan says so, else the service.
    pub(crate) fn is_bindable(&self) -> bool {
        self.says("bindable")
    }

    /// Whether an instance can be moved to it from another plan: the plan says so, else the service.
    pub(crate) fn is_updateable(&self) -> bool {
        self.says("plan_updateable")
    }

    /// Whether a binding can be fetched again.
    pub(crate) fn is_retrievable(&self) -> bool {
        self.service_fields.get("bindings_retrievable").and_then(Value::as_bool).unwrap_or_default()
    }

    fn says(&self, key: &str) -> bool {
        let says = |fields: &Map<String, Value>| fields.get(key).and_then(Value::as_bool);
        says(&self.plan_fields).or_else(|| says(&self.service_fields)).unwrap_or_default()
    }
}

impl Brokers {
    /// What a caller sees of the catalogs, in their order. Providers that take nothing new are left out.
    pub(crate) fn offered(&self, fed: &dyn Federation) -> Vec<Offered> {
        self.offered_to(fed, &User::default())
    }

    /// The same for a user behind the caller, who may see less.
    pub(super) fn offered_to(&self, fed: &dyn Federation, user: &User) -> Vec<Offered> {
        let now = self.catalogs.now();
        let sight = self.visibility().and_then(|rules| rules.of(fed.caller(), user));
        let mut offered = Vec::new();
        for (member, service) in now.shown(|provider| Self::sees(fed, provider)) {
            let (service_fields, name) = (service.fields(), now.name(member, service));
            let service_id = format!("{}{}", member.prefix, service.id);
            for plan in &service.plans {
                let plan_id = format!("{}{}", member.prefix, plan.id);
                let shown = Shown {
                    provider: &member.provider.id,
                    service: [&service_id, name],
                    plan: [&plan_id, &plan.name],
                };
                if sight.as_ref().is_none_or(|sight| sight.sees(shown)) {
                    offered.push(Offered {
                        provider: member.provider.id.clone(),
                        service_id: service_id.clone(),
                        service: name.to_owned(),
                        plan_id,
                        plan: plan.name.clone(),
                        service_fields: service_fields.clone(),
                        plan_fields: plan.fields(),
                    });
                }
            }
        }
        offered
    }

    /// Providers that a caller sees and whose catalog nobody has ever seen: what they offer is missing.
    pub(crate) fn missing(&self, fed: &dyn Federation) -> Vec<ProviderId> {
        let now = self.catalogs.now();
        let silent = now.members.iter().filter(|member| member.snapshot.is_none());
        let silent = silent.map(|member| member.provider.id.clone()).filter(|id| Self::sees(fed, id));
        let unread = fed.left_out(NAME).into_iter().filter(|id| now.member(id).is_none());
        silent.chain(unread).collect()
    }
}
