//! Service offerings and plans: as a platform reads them in the catalog, and what the broker holds them to.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use standpipe_api::{Problem, Problems, Settings};

use super::{Asynchronous, Works, keep};
use crate::osb::broker::files;
use crate::osb::broker::records::{PlanId, ServiceId, Side, Task};
use crate::schema::Schema;

/// One service offering.
#[derive(Debug)]
pub(in super::super) struct Service {
    pub(in super::super) id: ServiceId,
    pub(in super::super) name: String,
    /// As the catalog says it.
    pub(in super::super) wire: Value,
    pub(in super::super) instances_retrievable: bool,
    pub(in super::super) bindings_retrievable: bool,
    pub(in super::super) allow_context_updates: bool,
    plans: Vec<Plan>,
}

/// One plan.
#[derive(Debug)]
pub(in super::super) struct Plan {
    pub(in super::super) id: PlanId,
    pub(in super::super) name: String,
    wire: Value,
    pub(in super::super) bindable: bool,
    pub(in super::super) updateable: bool,
    pub(in super::super) rotatable: bool,
    pub(in super::super) requires_app: bool,
    pub(in super::super) maintenance_version: Option<String>,
    /// What the parameters of a provision, an update and a binding must satisfy.
    pub(in super::super) schemas: Schemas,
    pub(in super::super) works: Works,
}

/// What parameters must satisfy.
#[derive(Debug, Default)]
pub(in super::super) struct Schemas {
    pub(in super::super) provision: Option<Schema>,
    pub(in super::super) update: Option<Schema>,
    pub(in super::super) bind: Option<Schema>,
}

impl Service {
    /// The plan of an id.
    pub(in super::super) fn plan(&self, id: &PlanId) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == *id)
    }
}

/// What a service and a plan must have. [`named`] says when it is missing, so that this hides no other mistake.
const REQUIRED: [&str; 3] = ["id", "name", "description"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    requires: Vec<String>,
    #[serde(default)]
    bindable: bool,
    #[serde(default)]
    instances_retrievable: bool,
    #[serde(default)]
    bindings_retrievable: bool,
    #[serde(default)]
    allow_context_updates: bool,
    #[serde(default)]
    plan_updateable: bool,
    #[serde(default)]
    binding_rotatable: bool,
    #[serde(default)]
    requires_app: bool,
    metadata: Option<toml::Table>,
    image: Option<String>,
    dashboard_client: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlan {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    free: Option<bool>,
    bindable: Option<bool>,
    plan_updateable: Option<bool>,
    binding_rotatable: Option<bool>,
    requires_app: Option<bool>,
    maximum_polling_duration: Option<u32>,
    maintenance_info: Option<WrittenMaintenance>,
    metadata: Option<toml::Table>,
    schemas: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMaintenance {
    version: String,
    description: Option<String>,
}

/// Looks at what a table must have, whatever else is wrong with it. Ids are unique among all services and plans, a service's name
/// among the services, a plan's within its service; those met before are in `ids` and `names`.
fn named(
    table: &toml::Table,
    ids: &mut BTreeSet<String>,
    names: &mut BTreeSet<String>,
) -> Result<(), Problems> {
    let mut found = Problems::new();
    for key in REQUIRED.into_iter().filter(|key| !table.contains_key(*key)) {
        found.push(Problem::at(key, "is missing"));
    }
    let text = |key| table.get(key).and_then(toml::Value::as_str);
    if let Some(id) = text("id") {
        if id.is_empty() || id.len() > 255 || id.chars().any(char::is_control) {
            found.push(Problem::at("id", "must be a printable text of 1 to 255 bytes"));
        } else if !ids.insert(id.to_owned()) {
            found.push(Problem::at("id", format!("`{id}` is there twice")));
        }
    }
    if let Some(name) = text("name") {
        let strange = |char: char| char.is_whitespace() || char.is_control();
        if name.is_empty() || name.len() > 255 || name.chars().any(strange) {
            found.push(Problem::at("name", "must be a name without spaces, fit for a command line"));
        } else if !names.insert(name.to_owned()) {
            found.push(Problem::at("name", format!("`{name}` is there twice")));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

/// Reads `[[provider.osb_broker.services]]`.
pub(super) fn read(table: &toml::Table, works: &Works, folder: &Path, found: &mut Problems) -> Vec<Service> {
    let (mut services, mut ids, mut names) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (path, table) in tables(table, "services", found) {
        keep(named(table, &mut ids, &mut names), &path, found);
        let read = service(table, works, folder, &mut ids);
        services.extend(keep(read, &path, found));
    }
    services
}

fn tables<'a>(table: &'a toml::Table, key: &str, found: &mut Problems) -> Vec<(String, &'a toml::Table)> {
    let each =
        |(index, value): (usize, &'a toml::Value)| Some((format!("{key}[{index}]"), value.as_table()?));
    let list = table.get(key).and_then(toml::Value::as_array).filter(|list| !list.is_empty());
    let read: Vec<_> = list.into_iter().flatten().enumerate().filter_map(each).collect();
    if list.is_none_or(|list| list.len() != read.len()) {
        found.push(Problem::at(key, "must be an array of one or more tables"));
    }
    read
}

/// Takes what is read apart from the rest out of a table.
fn take(table: &mut toml::Table, keys: &[&str]) -> toml::Table {
    let taken = |key: &&str| Some(((*key).to_owned(), table.remove(*key)?));
    keys.iter().filter_map(taken).collect()
}

fn service(
    table: &toml::Table,
    works: &Works,
    folder: &Path,
    ids: &mut BTreeSet<String>,
) -> Result<Service, Problems> {
    let mut own = table.clone();
    let apart = take(&mut own, &["plans"]);
    let changes = take(&mut own, &["instances", "bindings"]);
    let (written, mut found) = Settings::examine::<WrittenService>(&own);
    let Some(written) = written else { return Err(found) };
    for (index, word) in written.requires.iter().enumerate() {
        if !["syslog_drain", "route_forwarding", "volume_mount"].contains(&word.as_str()) {
            let text = "must be syslog_drain, route_forwarding or volume_mount";
            found.push(Problem::at(format!("requires[{index}]"), text));
        }
    }
    let works = keep(works.changed(&changes, folder), "", &mut found).unwrap_or_default();
    let metadata = keep(metadata(&written, folder), "", &mut found).flatten();
    let client = written.dashboard_client.as_ref();
    let client = client
        .and_then(|client| keep(files::dashboard_client(client, folder), "dashboard_client", &mut found));
    let (mut plans, mut names) = (Vec::new(), BTreeSet::new());
    for (path, table) in tables(&apart, "plans", &mut found) {
        keep(named(table, ids, &mut names), &path, &mut found);
        let read = plan(table, &written, &works, folder);
        plans.extend(keep(read, &path, &mut found));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let mut wire = Map::new();
    let mut put = |key: &str, value: Value| drop(wire.insert(key.to_owned(), value));
    put("id", written.id.clone().into());
    put("name", written.name.clone().into());
    put("description", written.description.into());
    put("tags", written.tags.into());
    put("requires", written.requires.into());
    put("bindable", written.bindable.into());
    put("instances_retrievable", written.instances_retrievable.into());
    put("bindings_retrievable", written.bindings_retrievable.into());
    put("allow_context_updates", written.allow_context_updates.into());
    if let Some(metadata) = metadata {
        put("metadata", metadata);
    }
    if let Some(client) = client {
        put("dashboard_client", client);
    }
    put("plan_updateable", written.plan_updateable.into());
    put("binding_rotatable", written.binding_rotatable.into());
    put("plans", plans.iter().map(|plan: &Plan| plan.wire.clone()).collect());
    Ok(Service {
        id: ServiceId(written.id),
        name: written.name,
        wire: wire.into(),
        instances_retrievable: written.instances_retrievable,
        bindings_retrievable: written.bindings_retrievable,
        allow_context_updates: written.allow_context_updates,
        plans,
    })
}

/// The metadata as it is written, with the image that a file holds.
fn metadata(written: &WrittenService, folder: &Path) -> Result<Option<Value>, Problems> {
    let mut metadata = match &written.metadata {
        Some(table) => files::json(table).map_err(|text| vec![Problem::at("metadata", text)])?,
        None => json!({}),
    };
    if let (Some(image), Some(metadata)) = (&written.image, metadata.as_object_mut()) {
        let image = files::image(image, folder).map_err(|text| vec![Problem::at("image", text)])?;
        metadata.insert("imageUrl".to_owned(), image.into());
    }
    Ok(Some(metadata).filter(|metadata| metadata.as_object().is_some_and(|fields| !fields.is_empty())))
}

fn plan(
    table: &toml::Table,
    service: &WrittenService,
    works: &Works,
    folder: &Path,
) -> Result<Plan, Problems> {
    let mut own = table.clone();
    let changes = take(&mut own, &["instances", "bindings"]);
    let (written, mut found) = Settings::examine::<WrittenPlan>(&own);
    let Some(written) = written else { return Err(found) };
    let works = keep(works.changed(&changes, folder), "", &mut found).unwrap_or_default();
    let asynchronous = works.procedure(Side::Bindings, Task::Create).asynchronous;
    if asynchronous != Asynchronous::Never && !service.bindings_retrievable {
        let text = "asynchronous bindings are fetched: the service must have bindings_retrievable = true";
        found.push(Problem::at("bindings.create.async", text));
    }
    let schemas = written.schemas.as_ref();
    let schemas = schemas.and_then(|schemas| keep(files::schemas(schemas, folder), "schemas", &mut found));
    let (wire_schemas, schemas) = schemas.unzip();
    let metadata = written.metadata.as_ref();
    let metadata = metadata.and_then(|metadata| keep(files::plan_metadata(metadata), "metadata", &mut found));
    if !found.is_empty() {
        return Err(found);
    }
    let maintenance_version = written.maintenance_info.as_ref().map(|info| info.version.clone());
    let maintenance = written.maintenance_info.map(|info| match info.description {
        Some(description) => json!({"version": info.version, "description": description}),
        None => json!({"version": info.version}),
    });
    let fields = [
        ("id", Some(Value::from(written.id.clone()))),
        ("name", Some(written.name.clone().into())),
        ("description", Some(written.description.into())),
        ("metadata", metadata),
        ("free", written.free.map(Value::from)),
        ("bindable", written.bindable.map(Value::from)),
        ("binding_rotatable", written.binding_rotatable.map(Value::from)),
        ("plan_updateable", written.plan_updateable.map(Value::from)),
        ("schemas", wire_schemas),
        ("maximum_polling_duration", written.maximum_polling_duration.map(Value::from)),
        ("maintenance_info", maintenance),
    ];
    let wire: Map<String, Value> =
        fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    Ok(Plan {
        id: PlanId(written.id),
        name: written.name,
        wire: wire.into(),
        bindable: written.bindable.unwrap_or(service.bindable),
        updateable: written.plan_updateable.unwrap_or(service.plan_updateable),
        rotatable: written.binding_rotatable.unwrap_or(service.binding_rotatable),
        requires_app: written.requires_app.unwrap_or(service.requires_app),
        maintenance_version,
        schemas: schemas.unwrap_or_default(),
        works,
    })
}
