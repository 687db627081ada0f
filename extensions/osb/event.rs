//! What the feed says of service instances and bindings: written where they change, read by `standpipe usage` and portals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// Kinds of events.
pub mod kind {
    /// An instance exists: an [`super::InstanceEvent`].
    pub const INSTANCE_CREATED: &str = "instance.created";
    /// An instance has another plan or other parameters: an [`super::InstanceEvent`] as it is from now on.
    pub const INSTANCE_UPDATED: &str = "instance.updated";
    /// An instance is gone: an [`super::InstanceEvent`], of which `instance`, `provider` and `tenant` count.
    pub const INSTANCE_DELETED: &str = "instance.deleted";
    /// A binding exists: a [`super::BindingEvent`].
    pub const BINDING_CREATED: &str = "binding.created";
    /// A binding is gone: a [`super::BindingEvent`].
    pub const BINDING_DELETED: &str = "binding.deleted";
}

/// Costs of a plan that are kept with an event, and currencies of one of them: so much fits well into an event.
const COSTS: usize = 16;
const CURRENCIES: usize = 8;
/// Bytes of a cost's unit or of a currency.
const WORD: usize = 64;

/// The payload of an instance's event. What a platform does not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceEvent {
    /// The instance's id, as the platform chose it.
    pub instance: String,
    /// The provider it lives at.
    pub provider: String,
    /// The ids of its service and plan, as platforms see them.
    pub service_id: String,
    /// See `service_id`.
    pub plan_id: String,
    /// The names of its service and plan, as platforms see them.
    pub service: String,
    /// See `service`.
    pub plan: String,
    /// Where the platform keeps it, by name if it tells one, else by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// See `organization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// The app it was made for, where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The tenant of the caller that created it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What its plan costs from now on; see [`Cost::of_plan`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub costs: Vec<Cost>,
}

/// The payload of a binding's event. It never holds credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BindingEvent {
    /// The binding's id, as the platform chose it.
    pub binding: String,
    /// The instance it is of.
    pub instance: String,
    /// The provider both live at.
    pub provider: String,
    /// The app it is for, where the platform tells one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The tenant of the caller that created it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// What a plan costs for one unit: an item of `metadata.costs` (the profile of the OSB specification).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// By currency, with the digits the broker wrote.
    pub amount: BTreeMap<String, Number>,
    /// `HOURLY`, `MONTHLY`, or something else of which so much is used, as `1GB of messages over 20GB`.
    pub unit: String,
}

impl Cost {
    /// The costs in a plan as its broker wrote it, at most 16. What is no cost is left out: a catalog is not refused for its
    /// prices.
    pub fn of_plan(plan: &Value) -> Vec<Self> {
        let items = plan.pointer("/metadata/costs").and_then(Value::as_array);
        let read = |item: &Value| Self::deserialize(item).ok();
        let fits = |cost: &Self| {
            cost.unit.len() <= WORD
                && cost.amount.len() <= CURRENCIES
                && cost
                    .amount
                    .iter()
                    .all(|(word, amount)| word.len() <= WORD && amount.as_str().len() <= WORD)
        };
        items.into_iter().flatten().filter_map(read).filter(fits).take(COSTS).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn costs_keep_their_digits_and_what_is_no_cost_is_left_out() {
        let plan = json!({ "metadata": { "costs": [
            { "amount": { "usd": serde_json::from_str::<Value>("0.060").unwrap() }, "unit": "HOURLY" },
            { "amount": "free", "unit": "HOURLY" },
            { "amount": { "usd": 1 } },
            { "amount": { "eur": 5 }, "unit": "x".repeat(65) },
            { "amount": { "eur": 5, "usd": 6.5 }, "unit": "1GB over 20GB" },
        ] } });
        let costs = Cost::of_plan(&plan);
        let text = serde_json::to_string(&costs).unwrap();
        assert_eq!(
            text,
            r#"[{"amount":{"usd":0.060},"unit":"HOURLY"},{"amount":{"eur":5,"usd":6.5},"unit":"1GB over 20GB"}]"#
        );
        assert_eq!(Cost::of_plan(&json!({ "metadata": { "costs": "none" } })), []);
    }
}
