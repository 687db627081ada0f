//! `[provider.osb_broker]` in, checked settings out, every mistake at once with its key path.

mod offering;
mod procedure;
mod works;

use std::collections::BTreeMap;
use std::path::Path;

use standpipe_api::{Problem, Problems};

pub(super) use self::offering::{Plan, Schemas, Service};
pub(super) use self::procedure::{Asynchronous, Hook, Played, Procedure};
pub(super) use self::works::Works;
use super::catalog::Catalog;
use super::records::{PlanId, ServiceId, Side, Task};
use crate::osb::cleanup::Cleanup;

/// Everything an operator decided about one broker.
#[derive(Debug)]
pub(super) struct BrokerSettings {
    /// The catalog as it is answered.
    pub(super) catalog: Catalog,
    /// What is offered.
    pub(super) services: BTreeMap<ServiceId, Service>,
    /// How operations are carried out for what is not offered any more.
    works: Works,
    instances: Keeping,
    bindings: Keeping,
    /// What a poll of a deletion that succeeded answers.
    pub(super) deleted_poll: DeletedPoll,
}

/// What a poll of a deletion that succeeded answers. Both can be read out of the specification, and platforms accept both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DeletedPoll {
    /// 410 with `{}`.
    #[default]
    Gone,
    /// 200 with the state `succeeded`.
    Succeeded,
}

/// How long instances or bindings are remembered.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// A deletion of what is not known answers 200, without asking a hook.
    pub(super) force_delete_unknown: bool,
    /// When settled operations are removed.
    pub(super) cleanup: Cleanup,
}

impl BrokerSettings {
    /// Reads the table of one broker; relative paths in it begin at `folder`.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub(super) fn read(table: &toml::Table, folder: &Path) -> Result<Self, Problems> {
        let mut found = Problems::new();
        let known = ["deleted_poll", "instances", "bindings", "services"];
        unknown_keys(table, &known, "", &mut found);
        let deleted_poll = match table.get("deleted_poll").map(toml::Value::as_str) {
            None | Some(Some("gone")) => DeletedPoll::Gone,
            Some(Some("succeeded")) => DeletedPoll::Succeeded,
            Some(_) => {
                found.push(Problem::at("deleted_poll", "must be \"gone\" or \"succeeded\""));
                DeletedPoll::Gone
            }
        };
        let (instances, bindings) =
            (Keeping::take(table, "instances", &mut found), Keeping::take(table, "bindings", &mut found));
        let works = keep(Works::default().changed(&without_keeping(table), folder), "", &mut found);
        let works = works.unwrap_or_default();
        let services = offering::read(table, &works, folder, &mut found);
        if !found.is_empty() {
            return Err(found);
        }
        let catalog = Catalog::new(services.iter().map(|service| &service.wire));
        let services = services.into_iter().map(|service| (service.id.clone(), service)).collect();
        Ok(Self { catalog, services, works, instances, bindings, deleted_poll })
    }

    /// What holds for instances, or for bindings.
    pub(super) const fn keeping(&self, side: Side) -> &Keeping {
        match side {
            Side::Instances => &self.instances,
            Side::Bindings => &self.bindings,
        }
    }

    /// How a plan's operations are carried out; for a plan that is not offered any more as the broker does it.
    pub(super) fn works(&self, service: &ServiceId, plan: &PlanId) -> &Works {
        let plan = self.services.get(service).and_then(|service| service.plan(plan));
        plan.map_or(&self.works, |plan| &plan.works)
    }

    /// How one operation is carried out.
    pub(super) fn procedure(&self, service: &ServiceId, plan: &PlanId, side: Side, task: Task) -> &Procedure {
        self.works(service, plan).procedure(side, task)
    }
}

impl Keeping {
    fn take(table: &toml::Table, side: &str, found: &mut Problems) -> Self {
        let mut keeping = Self::default();
        let Some(table) = table.get(side).and_then(toml::Value::as_table) else { return keeping };
        match table.get("force_delete_unknown").map(toml::Value::as_bool) {
            None => {}
            Some(Some(force)) => keeping.force_delete_unknown = force,
            Some(None) => {
                found.push(Problem::at(format!("{side}.force_delete_unknown"), "must be true or false"));
            }
        }
        match table.get("operations").map(toml::Value::as_table) {
            None => {}
            Some(Some(table)) => {
                let cleanup = keep(Cleanup::read(table), &format!("{side}.operations"), found);
                keeping.cleanup = cleanup.unwrap_or_default();
            }
            Some(None) => found.push(Problem::at(format!("{side}.operations"), "must be a table")),
        }
        keeping
    }
}

/// The table as services and plans may have it as well.
fn without_keeping(table: &toml::Table) -> toml::Table {
    let mut works = toml::Table::new();
    for side in ["instances", "bindings"] {
        let Some(value) = table.get(side) else { continue };
        let mut value = value.clone();
        if let Some(table) = value.as_table_mut() {
            table.remove("force_delete_unknown");
            table.remove("operations");
        }
        works.insert(side.to_owned(), value);
    }
    works
}

/// What was read, or its mistakes among those found, seen from above.
fn keep<T>(read: Result<T, Problems>, path: &str, found: &mut Problems) -> Option<T> {
    read.map_err(|problems| found.extend(problems.into_iter().map(|problem| problem.under(path)))).ok()
}

fn unknown_keys(table: &toml::Table, known: &[&str], path: &str, found: &mut Problems) {
    for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
        let text = format!("unknown key; known are {}", known.join(", "));
        found.push(Problem::at(key.as_str(), text).under(path));
    }
}

/// A span of time of at most an hour.
fn span(key: &str, text: Option<&str>, found: &mut Problems) -> Option<std::time::Duration> {
    const MOST: std::time::Duration = std::time::Duration::from_secs(3600);
    let span = humantime::parse_duration(text?).ok().filter(|span| *span <= MOST);
    if span.is_none() {
        found.push(Problem::at(key, "must be a span of time such as \"2s\", at most \"1h\""));
    }
    span
}
