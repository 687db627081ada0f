//! An offer or need of a resource, and what a caller may choose of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::Refusal;
use super::pipe::{BlueprintName, Side, TemplateId};
use super::template::Template;

/// An offer or need.
#[derive(Debug)]
pub(crate) struct Blueprint {
    /// Which of the two.
    pub(crate) side: Side,
    /// Unique among the resource's offers, or needs.
    pub(crate) name: BlueprintName,
    /// The protos, the first of which is the default.
    pub(crate) protos: Vec<Arc<Template>>,
    /// The adapters, in order of preference.
    pub(crate) adapters: Vec<Arc<Template>>,
    /// The adapters a binding gets that names none.
    pub(crate) default_adapters: Vec<TemplateId>,
    /// How many pipes it can have at a time; 0: no limit.
    pub(crate) max_pipes: u32,
}

/// What a binding takes of a blueprint.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) proto: Option<TemplateId>,
    pub(crate) adapters: Vec<TemplateId>,
}

impl Blueprint {
    pub(super) fn is(&self, side: Side, name: &BlueprintName) -> bool {
        self.side == side && self.name == *name
    }

    /// Fills in what the caller left open.
    ///
    /// # Errors
    /// 400 for a proto or adapter the blueprint does not have.
    pub(crate) fn choose(&self, proto: Option<String>, adapters: Vec<String>) -> Result<Choice, Refusal> {
        let proto = match proto.map(TemplateId) {
            None => self.protos.first().map(|template| template.id.clone()),
            Some(id) if self.protos.iter().any(|template| template.id == id) => Some(id),
            Some(id) => {
                let text = format!("{} has no proto {id}; it has {}", self.name, names(&self.protos));
                return Err(Refusal::bad("proto", text));
            }
        };
        if adapters.is_empty() {
            return Ok(Choice { proto, adapters: self.default_adapters.clone() });
        }
        let mut chosen = Vec::with_capacity(adapters.len().min(self.adapters.len()));
        for (index, id) in adapters.into_iter().map(TemplateId).enumerate() {
            if !self.adapters.iter().any(|template| template.id == id) {
                let text = format!("{} has no adapter {id}; it has {}", self.name, names(&self.adapters));
                return Err(Refusal::bad(format!("adapters[{index}]"), text));
            }
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
        Ok(Choice { proto, adapters: chosen })
    }

    /// As the spec's `Blueprint`.
    pub(crate) fn wire(&self) -> Value {
        let defaults: Vec<&str> = self.default_adapters.iter().map(|id| id.0.as_str()).collect();
        json!({
            "name": self.name.0,
            "adapters": self.wire_templates(&self.adapters),
            "defaultAdapters": defaults,
            "protos": self.wire_templates(&self.protos),
            "maxPipes": self.max_pipes,
        })
    }

    /// Some of its templates as it shows them.
    pub(crate) fn wire_templates(&self, templates: &[Arc<Template>]) -> Vec<Value> {
        templates.iter().map(|template| template.wire(self.side)).collect()
    }
}

fn names(templates: &[Arc<Template>]) -> String {
    if templates.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = templates.iter().map(|template| template.id.0.as_str()).collect();
    names.join(", ")
}
