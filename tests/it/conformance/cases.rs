//! The cases, one group a file, by the names of the two public checkers: OC is the one in Go, OK the one in Kotlin; what
//! neither has is named after the section of the specification.

mod authentication;
mod binding;
mod catalog;
mod contract;
mod deprovision;
mod fetch;
mod mitigation;
mod odd;
mod polling;
mod provision;
mod steps;
mod unbinding;
mod update;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::platform::{Ask, Exchange, Platform, Reply};

/// What a group is called, and what tries its cases.
type Group = (&'static str, fn(&mut Suite));

const GROUPS: [Group; 12] = [
    ("catalog", catalog::cases),
    ("contract", contract::cases),
    ("authentication", authentication::cases),
    ("provision", provision::cases),
    ("update", update::cases),
    ("fetch", fetch::cases),
    ("binding", binding::cases),
    ("unbinding", unbinding::cases),
    ("deprovision", deprovision::cases),
    ("polling", polling::cases),
    ("orphan mitigation", mitigation::cases),
    ("odd", odd::cases),
];

/// Whether a broker does as the specification says, or why not.
pub type Verdict = Result<(), String>;

/// What became of a case.
#[derive(Clone)]
pub struct Outcome {
    pub group: &'static str,
    pub case: String,
    /// The plan it was tried with; empty where none is needed.
    pub plan: String,
    pub verdict: Verdict,
    pub exchanges: Vec<Exchange>,
}

/// A plan of a catalog.
#[derive(Clone, Debug)]
pub struct Offer {
    pub service: Value,
    pub plan: Value,
    /// Service and plan of another entry of the same broker's catalog.
    pub other: (String, String),
}

impl Offer {
    pub fn service_id(&self) -> &str {
        self.service["id"].as_str().unwrap_or_default()
    }

    pub fn plan_id(&self) -> &str {
        self.plan["id"].as_str().unwrap_or_default()
    }

    /// A word of the service's, which is false when it is left out.
    pub fn says(&self, word: &str) -> bool {
        self.service[word].as_bool().unwrap_or_default()
    }
}

/// Cases tried at one place.
#[derive(Clone)]
pub struct Suite {
    platform: Platform,
    pub offers: Vec<Offer>,
    group: &'static str,
    pub outcomes: Vec<Outcome>,
}

impl Suite {
    /// Tries all cases, with every plan of the catalog that is shown there. Of its services, each of these sets is one
    /// broker's; an empty list: all are.
    pub fn run(platform: Platform, brokers: &[BTreeSet<String>]) -> Self {
        let catalog = platform.send(&Ask::new("GET", "/v2/catalog")).reply;
        assert_eq!(catalog.status, 200, "{}", catalog.body.escape_ascii());
        let offers = offers(&catalog.json(), brokers);
        let mut suite = Self { platform, offers, group: "", outcomes: Vec::new() };
        for (group, cases) in GROUPS {
            suite.group = group;
            cases(&mut suite);
        }
        suite
    }

    /// A case that needs no plan.
    pub fn once(&mut self, case: impl Into<String>, check: impl FnOnce(&mut Talk) -> Verdict) {
        self.tried(case.into(), "", check);
    }

    /// A case for every plan of the catalog.
    pub fn each(&mut self, case: &str, check: impl Fn(&mut Talk, &Offer) -> Verdict) {
        self.each_where(case, |_| true, check);
    }

    /// A case for those plans of the catalog of which this is true.
    pub fn each_where(
        &mut self,
        case: &str,
        applies: impl Fn(&Offer) -> bool,
        check: impl Fn(&mut Talk, &Offer) -> Verdict,
    ) {
        for offer in self.offers.clone().iter().filter(|offer| applies(offer)) {
            self.tried(case.to_owned(), offer.plan_id(), |talk| check(talk, offer));
        }
    }

    fn tried(&mut self, case: String, plan: &str, check: impl FnOnce(&mut Talk) -> Verdict) {
        let mut talk =
            Talk { platform: &self.platform, about: format!("{case} {plan}"), exchanges: Vec::new() };
        let verdict = check(&mut talk);
        let exchanges = talk.exchanges;
        self.outcomes.push(Outcome { group: self.group, case, plan: plan.to_owned(), verdict, exchanges });
    }
}

/// The plans of a catalog. Of its services, each of these sets is one broker's; an empty list: all are.
fn offers(catalog: &Value, brokers: &[BTreeSet<String>]) -> Vec<Offer> {
    let none = Vec::new();
    let services = catalog["services"].as_array().unwrap_or(&none);
    let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
    let mut offers = Vec::new();
    for service in services {
        let broker = brokers.iter().find(|broker| broker.contains(&id(service)));
        let other = services.iter().find(|other| {
            id(other) != id(service) && broker.is_none_or(|broker| broker.contains(&id(other)))
        });
        let other = other.map(|other| (id(other), id(&other["plans"][0]))).unwrap_or_default();
        for plan in service["plans"].as_array().unwrap_or(&none) {
            offers.push(Offer { service: service.clone(), plan: plan.clone(), other: other.clone() });
        }
    }
    offers
}

/// What is said in one case.
pub struct Talk<'a> {
    platform: &'a Platform,
    about: String,
    exchanges: Vec<Exchange>,
}

impl Talk<'_> {
    pub fn ask(&mut self, ask: &Ask) -> Reply {
        let exchange = self.platform.send(ask);
        let reply = exchange.reply.clone();
        self.exchanges.push(exchange);
        reply
    }

    /// An id of its own for this case, the same in every run.
    pub fn id(&self, word: &str) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.about, word).hash(&mut hasher);
        let digits = format!("{:016x}", hasher.finish());
        format!("{}-{}-4{}-8000-{word:0>12}", &digits[..8], &digits[8..12], &digits[13..])
    }
}
