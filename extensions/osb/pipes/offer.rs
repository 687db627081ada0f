//! A bindable plan as a blueprint.
//!
//! What it says of connecting stands in the operator's rules (`[[extensions.osb-pipes.offers]]`), else in the `metadata` of the
//! plan, else of the service (`protos`, `adapters`, `defaultAdapters`: lists of names), else it follows from the service's tags,
//! else it is the proto `osb`: credentials of whatever shape the broker has.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::settings::PipeSettings;
use crate::cloudpipe::broker::blueprint::Blueprint;
use crate::cloudpipe::broker::pipe::{BlueprintName, Side, TemplateId};
use crate::cloudpipe::broker::template::Template;
use crate::osb::offered::Offered;

/// The proto of services that nothing is known of.
const GENERIC: &str = "osb";
/// Tags, and names of services, whose meaning platforms share, and the protos of the services that have them.
const TAGS: &[(&str, &str)] = &[
    ("postgresql", "postgresqls"),
    ("postgres", "postgresqls"),
    ("redis", "rediss"),
    ("valkey", "rediss"),
    ("https", "https"),
    ("http", "https"),
];
/// Names of one list that are read.
const MOST: usize = 64;

/// An offer, and the plan behind it.
#[derive(Debug)]
pub(super) struct Offer {
    /// The plan.
    pub plan: Offered,
    /// As cloudpipe shows it.
    pub blueprint: Blueprint,
}

impl Offer {
    /// The offer of a plan; `None` when it cannot be bound.
    pub(super) fn of(settings: &PipeSettings, plan: Offered) -> Option<Self> {
        if !plan.is_bindable() {
            return None;
        }
        let rule = settings.of(&plan);
        let told = |key: &str| {
            let inside = |fields: &Map<String, Value>| names(fields.get("metadata")?.get(key)?);
            inside(&plan.plan_fields).or_else(|| inside(&plan.service_fields))
        };
        let protos = rule.and_then(|rule| rule.protos.clone()).or_else(|| told("protos"));
        let protos = protos.unwrap_or_else(|| vec![tagged(&plan).to_owned()]);
        let adapters = rule.and_then(|rule| rule.adapters.clone()).or_else(|| told("adapters"));
        let adapters = adapters.unwrap_or_default();
        let defaults =
            rule.and_then(|rule| rule.default_adapters.clone()).or_else(|| told("defaultAdapters"));
        let mut defaults = defaults.unwrap_or_default();
        defaults.retain(|id| adapters.contains(id));
        let templates = |ids: Vec<String>| {
            ids.into_iter().map(|id| Arc::new(Template::named(TemplateId(id)))).collect::<Vec<_>>()
        };
        let blueprint = Blueprint {
            side: Side::Offers,
            // A slash would be two segments.
            name: BlueprintName(format!("{}-{}", plan.service, plan.plan).replace('/', "-")),
            protos: templates(protos),
            adapters: templates(adapters),
            default_adapters: defaults.into_iter().map(TemplateId).collect(),
            max_pipes: 0,
        };
        Some(Self { plan, blueprint })
    }
}

/// The names of a list, or of the objects in it.
fn names(list: &Value) -> Option<Vec<String>> {
    let name = |one: &Value| one.as_str().or_else(|| one.get("id")?.as_str()).map(str::to_owned);
    Some(list.as_array()?.iter().filter_map(name).take(MOST).collect())
}

fn tagged(plan: &Offered) -> &'static str {
    let tags = plan.service_fields.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(Value::as_str).take(MOST);
    let mut words = tags.chain([plan.service.as_str()]);
    let proto =
        |word: &str| TAGS.iter().find(|(tag, _)| tag.eq_ignore_ascii_case(word)).map(|(_, proto)| *proto);
    words.find_map(proto).unwrap_or(GENERIC)
}

/// What a pipe shows of a binding: the credentials, and beside them what else the broker gave. The reference protos of
/// cloudpipe call the address `URI`, brokers mostly `uri`: with such a proto it is called so.
pub(super) fn data(mut binding: Map<String, Value>, proto: Option<&TemplateId>) -> Map<String, Value> {
    let mut data = match binding.shift_remove("credentials") {
        Some(Value::Object(credentials)) => credentials,
        Some(Value::Null) | None => Map::new(),
        Some(other) => Map::from_iter([("credentials".to_owned(), other)]),
    };
    for key in ["syslog_drain_url", "route_service_url", "volume_mounts", "endpoints"] {
        if let Some(value) = binding.shift_remove(key).filter(|value| !value.is_null()) {
            data.entry(key).or_insert(value);
        }
    }
    let is_reference = proto.is_some_and(|proto| TAGS.iter().any(|(_, known)| *known == proto.0));
    let is_named = data.contains_key("URI") || !data.get("uri").is_some_and(Value::is_string);
    if let Some(uri) = data.get("uri").cloned().filter(|_| is_reference && !is_named) {
        data.shift_remove("uri");
        data.insert("URI".to_owned(), uri);
    }
    data
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(service: Value, plan: Value) -> Offered {
        let fields = |value: Value| value.as_object().unwrap().clone();
        Offered {
            provider: "alpha".into(),
            service_id: "s".into(),
            service: "db".into(),
            plan_id: "p".into(),
            plan: "small".into(),
            service_fields: fields(service),
            plan_fields: fields(plan),
        }
    }

    fn protos(settings: &str, offered: Offered) -> Vec<String> {
        let settings = PipeSettings::read(&settings.parse().unwrap()).unwrap();
        let offer = Offer::of(&settings, offered).unwrap();
        offer.blueprint.protos.iter().map(|template| template.id.0.clone()).collect()
    }

    #[test]
    fn the_operator_knows_better_than_the_plan_and_the_plan_than_the_tags() {
        let all = || {
            let metadata = json!({"metadata": {"protos": ["mine", {"id": "other"}]}});
            plan(json!({"bindable": true, "tags": ["Redis"], "metadata": {"protos": ["service"]}}), metadata)
        };
        let rule = "[[offers]]\nservices = [\"d*\"]\nprotos = [\"operator\"]";
        assert_eq!(protos(rule, all()), ["operator"]);
        assert_eq!(protos(&rule.replace("d*", "x"), all()), ["mine", "other"]);
        let mut less = all();
        less.plan_fields.clear();
        assert_eq!(protos("", less.clone()), ["service"]);
        less.service_fields.shift_remove("metadata");
        assert_eq!(protos("", less.clone()), ["rediss"]);
        less.service_fields.shift_remove("tags");
        assert_eq!(protos("", less), ["osb"]);
        let not = plan(json!({"bindable": true}), json!({"bindable": false}));
        assert!(Offer::of(&PipeSettings::default(), not).is_none());
    }

    #[test]
    fn a_pipe_shows_all_that_the_broker_gave() {
        let binding = json!({"credentials": {"uri": "u", "endpoints": 1}, "syslog_drain_url": "s",
            "endpoints": [], "volume_mounts": null, "operation": "o"});
        let shown = |proto: &str| {
            Value::from(data(binding.as_object().unwrap().clone(), Some(&TemplateId(proto.to_owned()))))
        };
        assert_eq!(shown("osb"), json!({"uri": "u", "endpoints": 1, "syslog_drain_url": "s"}));
        assert_eq!(shown("rediss"), json!({"URI": "u", "endpoints": 1, "syslog_drain_url": "s"}));
    }
}
