//! How the operations of a plan are carried out: what the broker says, then its service, then the plan itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use standpipe_api::{Problem, Problems};

use super::{Procedure, keep, unknown_keys};
use crate::osb::broker::records::{Side, Task};
use crate::osb::broker::template;

/// How the operations of a plan are carried out.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Works {
    create_instance: Arc<Procedure>,
    update_instance: Arc<Procedure>,
    delete_instance: Arc<Procedure>,
    create_binding: Arc<Procedure>,
    delete_binding: Arc<Procedure>,
    /// A template.
    pub(in super::super) dashboard_url: Option<Value>,
    /// What a binding has, unless its hook says otherwise.
    pub(in super::super) binding: Arc<BindingData>,
}

/// What a binding has, unless its hook says otherwise.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct BindingData {
    /// `credentials`, `endpoints`, `syslog_drain_url`, `route_service_url`, `volume_mounts`: templates.
    pub(in super::super) fields: Map<String, Value>,
    /// How long its credentials are good.
    pub(in super::super) expires_after: Option<Duration>,
    /// How long before that they should be renewed.
    pub(in super::super) renew_before: Option<Duration>,
}

/// The fields of a binding that can be declared.
const FIELDS: [&str; 5] =
    ["credentials", "endpoints", "syslog_drain_url", "route_service_url", "volume_mounts"];

impl Works {
    /// The same, but for what the `instances` and `bindings` of a table say.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub(super) fn changed(&self, table: &toml::Table, folder: &Path) -> Result<Self, Problems> {
        let (mut works, mut found) = (self.clone(), Problems::new());
        for (key, value) in table {
            let Some(table) = value.as_table() else {
                found.push(Problem::at(key, "must be a table"));
                continue;
            };
            let read = match key.as_str() {
                "instances" => works.change_instances(table, folder),
                _ => works.change_bindings(table, folder),
            };
            keep(read, key, &mut found);
        }
        if found.is_empty() { Ok(works) } else { Err(found) }
    }

    fn change_instances(&mut self, table: &toml::Table, folder: &Path) -> Result<(), Problems> {
        let mut found = Problems::new();
        unknown_keys(table, &["create", "update", "delete", "dashboard_url"], "", &mut found);
        change(&mut self.create_instance, table, "create", folder, &mut found);
        change(&mut self.update_instance, table, "update", folder, &mut found);
        change(&mut self.delete_instance, table, "delete", folder, &mut found);
        match table.get("dashboard_url") {
            None => {}
            Some(url @ toml::Value::String(_)) => {
                let read = template::read(url, &[template::INSTANCE], folder);
                self.dashboard_url = keep(read, "dashboard_url", &mut found);
            }
            Some(_) => found.push(Problem::at("dashboard_url", "must be a text")),
        }
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn change_bindings(&mut self, table: &toml::Table, folder: &Path) -> Result<(), Problems> {
        let mut found = Problems::new();
        let known = [&FIELDS[..], &["create", "delete", "expires_after", "renew_before"]].concat();
        unknown_keys(table, &known, "", &mut found);
        change(&mut self.create_binding, table, "create", folder, &mut found);
        change(&mut self.delete_binding, table, "delete", folder, &mut found);
        let mut data = BindingData::clone(&self.binding);
        for field in FIELDS {
            let Some(value) = table.get(field) else { continue };
            let fits = match field {
                "credentials" => value.is_table(),
                "endpoints" | "volume_mounts" => value.is_array(),
                _ => value.is_str(),
            };
            if !fits {
                found.push(Problem::at(field, "has the wrong type: `credentials` is a table, `endpoints` and `volume_mounts` are arrays of tables, the others are texts"));
                continue;
            }
            let read = template::read(value, &[template::INSTANCE, template::BINDING], folder);
            data.fields.extend(keep(read, field, &mut found).map(|read| (field.to_owned(), read)));
        }
        for (key, span) in
            [("expires_after", &mut data.expires_after), ("renew_before", &mut data.renew_before)]
        {
            let Some(value) = table.get(key) else { continue };
            *span = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
            if span.is_none() {
                found.push(Problem::at(key, "must be a span of time such as \"30d\""));
            }
        }
        self.binding = Arc::new(data);
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// How one operation is carried out. A binding is never updated.
    pub(in super::super) fn procedure(&self, side: Side, task: Task) -> &Procedure {
        match (side, task) {
            (Side::Instances, Task::Create) => &self.create_instance,
            (Side::Instances, Task::Update) => &self.update_instance,
            (Side::Instances, Task::Delete) => &self.delete_instance,
            (Side::Bindings, Task::Delete) => &self.delete_binding,
            (Side::Bindings, _) => &self.create_binding,
        }
    }
}

fn change(
    procedure: &mut Arc<Procedure>,
    table: &toml::Table,
    key: &str,
    folder: &Path,
    found: &mut Problems,
) {
    match table.get(key).map(toml::Value::as_table) {
        None => {}
        Some(Some(table)) => {
            *procedure = Arc::new(keep(Procedure::read(table, folder), key, found).unwrap_or_default());
        }
        Some(None) => found.push(Problem::at(key, "must be a table")),
    }
}
