//! From events to lifetimes, and from lifetimes to what they cost, by team, app or provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use standpipe_api::{Event, Timestamp};
use standpipe_extensions::osb::event::{Cost, InstanceEvent, kind};

use super::By;
use super::money::{Money, hours};

/// Ids are unique for a tenant at a provider, which the events' subjects tell, else their payloads.
type Instance = (String, Option<String>, String);

/// Adds events up, the oldest first.
pub(super) struct Lifetimes {
    by: By,
    from: Timestamp,
    to: Timestamp,
    living: HashMap<Instance, Living>,
    groups: BTreeMap<String, Group>,
    /// Changes of instances whose creation is not among the events.
    pub(super) headless: BTreeSet<Instance>,
    /// Events that say nothing of their instance.
    pub(super) unreadable: u64,
    /// Costs that cannot be counted exactly.
    pub(super) uncounted: u64,
}

/// An instance as it is since some moment.
struct Living {
    since: Timestamp,
    group: String,
    costs: Vec<Cost>,
}

/// What one team, app or provider used.
#[derive(Default)]
pub(super) struct Group {
    instances: BTreeSet<Instance>,
    lived: Duration,
    /// By currency.
    pub(super) costs: BTreeMap<String, Money>,
    /// Prices of what is not time, as `0.99 usd per 1GB`: how much of it was used only the provider knows.
    pub(super) metered: BTreeSet<String>,
}

impl Group {
    /// How many instances lived.
    pub(super) fn instances(&self) -> usize {
        self.instances.len()
    }

    /// The hours of all together, to the thousandth.
    pub(super) fn hours(&self) -> String {
        let thousandths = (self.lived.as_millis() + 1800) / 3600;
        format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
    }
}

impl Lifetimes {
    /// Counts what lies between two moments.
    pub(super) fn new(by: By, from: Timestamp, to: Timestamp) -> Self {
        let (living, groups, headless) = (HashMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { by, from, to, living, groups, headless, unreadable: 0, uncounted: 0 }
    }

    /// Takes the next event.
    pub(super) fn take(&mut self, event: &Event) {
        let created = match event.kind.as_str() {
            kind::INSTANCE_CREATED => true,
            kind::INSTANCE_UPDATED | kind::INSTANCE_DELETED => false,
            _ => return,
        };
        let Some(told) = read(event) else {
            self.unreadable += 1;
            return;
        };
        let scope = event.subject.as_ref().map(|subject| subject.scope.as_str().to_owned());
        let instance = (told.provider.clone(), scope.or(told.tenant.clone()), told.instance.clone());
        let before = self.living.remove(&instance);
        match &before {
            Some(living) => self.count(&instance, living, event.at),
            None if created => {}
            None => drop(self.headless.insert(instance.clone())),
        }
        if event.kind != kind::INSTANCE_DELETED {
            // An update need not say again whose the instance is.
            let says_whose = told.organization.is_some() || told.space.is_some() || told.app.is_some();
            let group = match before.filter(|_| !created && !says_whose) {
                Some(living) => living.group,
                None => self.by.group(&told),
            };
            self.living.insert(instance, Living { since: event.at, group, costs: told.costs });
        }
    }

    /// What all have used until the end, also those that live on.
    pub(super) fn groups(&mut self) -> &BTreeMap<String, Group> {
        let to = self.to;
        for (instance, living) in std::mem::take(&mut self.living) {
            self.count(&instance, &living, to);
        }
        &self.groups
    }

    fn count(&mut self, instance: &Instance, living: &Living, until: Timestamp) {
        let (since, until) = (living.since.max(self.from), until.min(self.to));
        let Ok(millis) = u64::try_from(until.as_millis() - since.as_millis()) else { return };
        if until < self.from {
            return;
        }
        let span = Duration::from_millis(millis);
        let group = self.groups.entry(living.group.clone()).or_default();
        group.instances.insert(instance.clone());
        group.lived += span;
        for cost in &living.costs {
            for (currency, price) in &cost.amount {
                let Some(unit) = hours(&cost.unit) else {
                    group.metered.insert(format!("{price} {currency} per {}", cost.unit));
                    continue;
                };
                match Money::of(price, unit, span) {
                    Some(money) => *group.costs.entry(currency.to_lowercase()).or_default() += money,
                    None => self.uncounted += 1,
                }
            }
        }
    }
}

fn read(event: &Event) -> Option<InstanceEvent> {
    let mut told: InstanceEvent = serde_json::from_value(event.payload.clone()).ok()?;
    if told.provider.is_empty() {
        told.provider = event.provider.as_ref().map(ToString::to_string).unwrap_or_default();
    }
    (!told.instance.is_empty()).then_some(told)
}

impl By {
    fn group(self, told: &InstanceEvent) -> String {
        let name = match self {
            Self::Team => told.organization.as_ref().or(told.tenant.as_ref()),
            Self::App => told.app.as_ref().or(told.space.as_ref()),
            Self::Provider => Some(&told.provider),
        };
        name.cloned().unwrap_or_else(|| "-".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use standpipe_api::NewEvent;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn event(kind: &'static str, hour: i64, instance: &str, more: serde_json::Value) -> Event {
        let mut payload = json!({ "instance": instance, "provider": "alpha" });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        NewEvent::new(kind, &payload).written(1, Timestamp::from_millis(hour * HOUR))
    }

    fn costs(price: &str, unit: &str) -> serde_json::Value {
        serde_json::from_str(&format!(
            r#"{{"organization":"blue","costs":[{{"amount":{{"usd":{price}}},"unit":"{unit}"}}]}}"#
        ))
        .unwrap()
    }

    fn lifetimes(by: By, from: i64, to: i64, events: &[Event]) -> Lifetimes {
        let mut lifetimes =
            Lifetimes::new(by, Timestamp::from_millis(from * HOUR), Timestamp::from_millis(to * HOUR));
        events.iter().for_each(|event| lifetimes.take(event));
        lifetimes
    }

    fn told(mut lifetimes: Lifetimes) -> Vec<String> {
        let line = |(name, group): (&String, &Group)| {
            let costs: Vec<String> =
                group.costs.iter().map(|(currency, money)| format!("{} {currency}", money.shown())).collect();
            format!("{name}: {} in {} h, {}", group.instances(), group.hours(), costs.join(" + "))
        };
        lifetimes.groups().iter().map(line).collect()
    }

    #[test]
    fn an_instance_costs_what_its_plan_of_the_time_does_until_it_is_deleted() {
        let life = [
            event(kind::INSTANCE_CREATED, 10, "i", costs("0.06", "HOURLY")),
            event(kind::INSTANCE_UPDATED, 20, "i", costs("1", "HOURLY")),
            event(kind::INSTANCE_DELETED, 30, "i", json!({})),
            event(kind::INSTANCE_DELETED, 40, "i", json!({})),
        ];
        assert_eq!(told(lifetimes(By::Team, 0, 100, &life)), ["blue: 1 in 20.000 h, 10.60 usd"]);
        assert_eq!(
            told(lifetimes(By::Team, 0, 25, &life[..2])),
            ["blue: 1 in 15.000 h, 5.60 usd"],
            "it lives on"
        );
        assert_eq!(
            told(lifetimes(By::Team, 15, 22, &life)),
            ["blue: 1 in 7.000 h, 2.30 usd"],
            "a part of it"
        );
        assert_eq!(told(lifetimes(By::Team, 31, 99, &life)), Vec::<String>::new());
        assert_eq!(told(lifetimes(By::Team, 0, 9, &life)), Vec::<String>::new());
    }

    #[test]
    fn an_update_that_does_not_say_whose_the_instance_is_leaves_it_there() {
        let mut update = costs("1", "HOURLY");
        update["organization"] = serde_json::Value::Null;
        let life = [
            event(kind::INSTANCE_CREATED, 0, "i", costs("1", "HOURLY")),
            event(kind::INSTANCE_UPDATED, 1, "i", update),
        ];
        assert_eq!(told(lifetimes(By::Team, 0, 2, &life)), ["blue: 1 in 2.000 h, 2.00 usd"]);
    }

    #[test]
    fn a_repeated_creation_is_no_second_instance_and_the_same_id_at_another_provider_is() {
        let elsewhere = json!({ "provider": "beta", "organization": "blue" });
        let events = [
            event(kind::INSTANCE_CREATED, 0, "i", costs("1", "HOURLY")),
            event(kind::INSTANCE_CREATED, 1, "i", costs("1", "HOURLY")),
            event(kind::INSTANCE_CREATED, 1, "i", elsewhere),
        ];
        assert_eq!(told(lifetimes(By::Team, 0, 2, &events)), ["blue: 2 in 3.000 h, 2.00 usd"]);
        assert_eq!(
            told(lifetimes(By::Provider, 0, 2, &events)),
            ["alpha: 1 in 2.000 h, 2.00 usd", "beta: 1 in 1.000 h, "]
        );
    }

    #[test]
    fn teams_and_apps_are_named_by_what_is_known() {
        let events = [
            event(
                kind::INSTANCE_CREATED,
                0,
                "1",
                json!({"organization": "org", "tenant": "t", "space": "s", "app": "web"}),
            ),
            event(kind::INSTANCE_CREATED, 0, "2", json!({"tenant": "t", "space": "s"})),
            event(kind::INSTANCE_CREATED, 0, "3", json!({})),
        ];
        let names = |by| {
            let mut lifetimes = lifetimes(by, 0, 1, &events);
            lifetimes.groups().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(By::Team), ["-", "org", "t"]);
        assert_eq!(names(By::App), ["-", "s", "web"]);
    }

    #[test]
    fn what_cannot_be_added_up_is_told() {
        let nothing =
            NewEvent::new(kind::INSTANCE_CREATED, &"x".repeat(20_000)).written(1, Timestamp::from_millis(0));
        let events = [
            event(kind::INSTANCE_UPDATED, 0, "old", costs("1", "HOURLY")),
            event(kind::INSTANCE_CREATED, 0, "metered", costs("0.99", "1GB over 20GB")),
            event(kind::INSTANCE_CREATED, 0, "fine", costs("0.00000000000001", "HOURLY")),
            nothing,
        ];
        let mut lifetimes = lifetimes(By::Team, 0, 1, &events);
        let metered = &lifetimes.groups()["blue"].metered;
        assert_eq!(metered.iter().collect::<Vec<_>>(), ["0.99 usd per 1GB over 20GB"]);
        assert_eq!((lifetimes.headless.len(), lifetimes.unreadable, lifetimes.uncounted), (1, 1, 1));
    }
}
