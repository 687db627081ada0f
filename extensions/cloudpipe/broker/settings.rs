//! `[provider.broker]` in, checked settings out, every mistake at once with its key path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use standpipe_api::{Problem, Problems, ResourceId, Settings};

use super::blueprint::Blueprint;
use super::declared::{DeclaredSink, DeclaredSource};
use super::pipe::{BlueprintName, Side, TemplateId};
use super::schema::Schema;
use super::template::{self, BuiltIn, Template, TemplateEnd, Templates};

/// The keys of a broker's table.
const KEYS: [&str; 7] = ["issuer", "url", "give_up_after", "tell_deletions", "resource", "proto", "adapter"];
/// Long enough for a weekend and what follows it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything an operator decided about one broker.
#[derive(Debug, Default)]
pub(super) struct BrokerSettings {
    /// What `this.issuer` shows and tokens to other brokers name; `None`: standpipe's own issuer.
    pub(super) issuer: Option<String>,
    /// The broker's base URL, without a trailing slash; `None`: where standpipe serves it.
    pub(super) url: Option<String>,
    /// How long news for another broker is tried to be delivered.
    pub(super) give_up_after: Duration,
    /// Whether another broker is told that its pipe's other end is gone (decision 44).
    pub(super) tell_deletions: bool,
    /// The resources it keeps pipes for.
    pub(super) resources: BTreeMap<ResourceId, ResourceSettings>,
    /// Protos by name, the built-in ones among them.
    pub(super) protos: Templates,
    /// Adapters by name, the built-in ones among them.
    pub(super) adapters: Templates,
}

/// One resource.
#[derive(Debug, Default)]
pub(super) struct ResourceSettings {
    /// Where the data of its pipes comes from.
    pub(super) source: Option<DeclaredSource>,
    /// What configures its app from its pipes.
    pub(super) sink: Option<DeclaredSink>,
    /// Its offers and needs, in order.
    pub(super) blueprints: Vec<Blueprint>,
}

impl BrokerSettings {
    /// Reads the table of one broker.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let mut found = Problems::new();
        let mut settings = Self::default();
        for key in table.keys() {
            if !KEYS.contains(&key.as_str()) {
                found.push(Problem::at(key, "unknown key"));
            }
        }
        settings.issuer = address(table, "issuer", &mut found);
        settings.url = address(table, "url", &mut found);
        settings.give_up_after = span(table, "give_up_after", &mut found).unwrap_or(GIVE_UP_AFTER);
        settings.tell_deletions = switch(table, "tell_deletions", &mut found).unwrap_or_default();
        settings.protos = templates(table, "proto", template::protos(), &mut found);
        settings.adapters = templates(table, "adapter", template::adapters(), &mut found);
        for (name, table) in tables(table, "resource", &mut found) {
            let path = format!("resource.{}", key(name));
            if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
                found.push(Problem::at(&path, "must be a printable, non-empty name without `/`"));
            }
            let resource = settings.resource(table, &path, &mut found);
            settings.resources.insert(name.as_str().into(), resource);
        }
        if found.is_empty() { Ok(settings) } else { Err(found) }
    }

    fn resource(&self, table: &toml::Table, path: &str, found: &mut Problems) -> ResourceSettings {
        for name in table.keys() {
            if !["data", "source", "sink", "offers", "needs"].contains(&name.as_str()) {
                found.push(Problem::at(format!("{path}.{}", key(name)), "unknown key"));
            }
        }
        let mut resource = ResourceSettings { source: data_source(table, path, found), ..Default::default() };
        if let Some(table) = table_at(table, "sink", path, found) {
            resource.sink = keep(DeclaredSink::read(table), &format!("{path}.sink"), found);
        }
        for side in [Side::Offers, Side::Needs] {
            let path = format!("{path}.{}", side.word());
            let Some(list) = table.get(side.word()) else { continue };
            let Some(list) = list.as_array() else {
                found.push(Problem::at(path, "must be an array of tables"));
                continue;
            };
            for (index, blueprint) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                let Some(blueprint) = self.blueprint(side, blueprint, &path, found) else { continue };
                let known =
                    |name: &BlueprintName| resource.blueprints.iter().any(|known| known.is(side, name));
                if !blueprint.name.0.is_empty() && known(&blueprint.name) {
                    found.push(Problem::at(
                        format!("{path}.name"),
                        format!("{} is there twice", blueprint.name),
                    ));
                }
                resource.blueprints.push(blueprint);
            }
        }
        resource
    }

    fn blueprint(
        &self,
        side: Side,
        value: &toml::Value,
        path: &str,
        found: &mut Problems,
    ) -> Option<Blueprint> {
        let Some(table) = value.as_table() else {
            found.push(Problem::at(path, "must be a table"));
            return None;
        };
        let (read, wrong) = Settings::examine::<BlueprintTable>(table);
        found.extend(wrong.into_iter().map(|problem| problem.under(path)));
        let read = read?;
        let wrong = match table.get("name").map(toml::Value::as_str) {
            None => Some("is missing"),
            Some(Some(name)) if name.is_empty() || name.contains('/') => {
                Some("must be a non-empty name without `/`")
            }
            Some(_) => None,
        };
        found.extend(wrong.map(|text| Problem::at(format!("{path}.name"), text)));
        let protos = choose(&self.protos, &read.protos, &format!("{path}.protos"), found);
        let adapters = choose(&self.adapters, &read.adapters, &format!("{path}.adapters"), found);
        for (index, name) in read.default_adapters.iter().enumerate() {
            if !read.adapters.contains(name) {
                let path = format!("{path}.default_adapters[{index}]");
                found.push(Problem::at(path, format!("{name} is not among the adapters")));
            }
        }
        let default_adapters = read.default_adapters;
        let name = BlueprintName(read.name);
        Some(Blueprint { side, name, protos, adapters, default_adapters, max_pipes: read.max_pipes })
    }
}

/// `[[provider.broker.resource.<id>.offers]]`, likewise `needs`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlueprintTable {
    /// Must be there; that it is not hides no other mistake.
    #[serde(default)]
    name: String,
    #[serde(default)]
    protos: Vec<TemplateId>,
    #[serde(default)]
    adapters: Vec<TemplateId>,
    #[serde(default)]
    default_adapters: Vec<TemplateId>,
    /// 0 or absent: no limit.
    #[serde(default)]
    max_pipes: u32,
}

fn choose(known: &Templates, names: &[TemplateId], path: &str, found: &mut Problems) -> Vec<Arc<Template>> {
    let mut chosen = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match known.get(name) {
            Some(template) => chosen.push(Arc::clone(template)),
            None => {
                let names: Vec<&str> = known.keys().map(|id| id.0.as_str()).collect();
                let text = format!("{name} is not known; there are {}", names.join(", "));
                found.push(Problem::at(format!("{path}[{index}]"), text));
            }
        }
    }
    chosen
}

/// The built-in templates and those of the table. A declaration with a built-in's name keeps what it leaves out.
fn templates(table: &toml::Table, word: &str, built_in: Vec<BuiltIn>, found: &mut Problems) -> Templates {
    let mut templates: BTreeMap<TemplateId, Template> = BTreeMap::new();
    for (name, offer, need) in built_in {
        let end = |schema: Option<Value>| TemplateEnd {
            schema: schema.and_then(|schema| Schema::compile(schema).ok()),
            source: None,
        };
        let id = TemplateId(name.to_owned());
        templates.insert(id.clone(), Template { id, offer: end(offer), need: end(need) });
    }
    for (name, table) in tables(table, word, found) {
        let path = format!("{word}.{}", key(name));
        if name.is_empty() || name.contains('/') {
            found.push(Problem::at(&path, "must be a non-empty name without `/`"));
        }
        for name in table.keys().filter(|name| !["offer", "need"].contains(&name.as_str())) {
            let text = "unknown key: a template has `offer` and `need`, each with `schema` and `source`";
            found.push(Problem::at(format!("{path}.{}", key(name)), text));
        }
        let id = TemplateId(name.clone());
        let bare =
            || Template { id: id.clone(), offer: TemplateEnd::default(), need: TemplateEnd::default() };
        let template = templates.entry(id.clone()).or_insert_with(bare);
        for (word, end) in [("offer", &mut template.offer), ("need", &mut template.need)] {
            if let Some(table) = table_at(table, word, &path, found) {
                template_end(end, table, &format!("{path}.{word}"), found);
            }
        }
    }
    templates.into_iter().map(|(id, template)| (id, Arc::new(template))).collect()
}

fn template_end(end: &mut TemplateEnd, table: &toml::Table, path: &str, found: &mut Problems) {
    for name in table.keys().filter(|name| !["schema", "source"].contains(&name.as_str())) {
        let text = "unknown key: an end has `schema` and `source`";
        found.push(Problem::at(format!("{path}.{}", key(name)), text));
    }
    if let Some(schema) = table_at(table, "schema", path, found) {
        let json = serde_json::to_value(schema).map_err(|error| error.to_string());
        match json.and_then(Schema::compile) {
            Ok(schema) => end.schema = Some(schema),
            Err(text) => found.push(Problem::at(format!("{path}.schema"), text)),
        }
    }
    if let Some(source) = table_at(table, "source", path, found) {
        end.source = keep(DeclaredSource::read(source), &format!("{path}.source"), found);
    }
}

/// `source`, or its shorthand `data`.
fn data_source(table: &toml::Table, path: &str, found: &mut Problems) -> Option<DeclaredSource> {
    let source = table_at(table, "source", path, found);
    let data = table_at(table, "data", path, found);
    match (source, data) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            found.push(Problem::at(format!("{path}.data"), "stands beside `source`; only one of them can"));
            None
        }
        (Some(source), None) => keep(DeclaredSource::read(source), &format!("{path}.source"), found),
        (None, Some(data)) => {
            let mut source = toml::Table::new();
            source.insert("kind".to_owned(), "table".into());
            source.insert("data".to_owned(), data.clone().into());
            keep(DeclaredSource::read(&source), path, found)
        }
    }
}

fn keep<T>(read: Result<T, Problems>, path: &str, found: &mut Problems) -> Option<T> {
    read.map_err(|problems| found.extend(problems.into_iter().map(|problem| problem.under(path)))).ok()
}

fn table_at<'a>(
    table: &'a toml::Table,
    word: &str,
    path: &str,
    found: &mut Problems,
) -> Option<&'a toml::Table> {
    let value = table.get(word)?;
    if !value.is_table() {
        found.push(Problem::at(format!("{path}.{word}"), "must be a table"));
    }
    value.as_table()
}

fn tables<'a>(
    table: &'a toml::Table,
    word: &str,
    found: &mut Problems,
) -> Vec<(&'a String, &'a toml::Table)> {
    let Some(value) = table.get(word) else { return Vec::new() };
    let Some(group) = value.as_table() else {
        found.push(Problem::at(word, "must be a table of tables"));
        return Vec::new();
    };
    let mut tables = Vec::with_capacity(group.len());
    for (name, value) in group {
        match value.as_table() {
            Some(table) => tables.push((name, table)),
            None => found.push(Problem::at(format!("{word}.{}", key(name)), "must be a table")),
        }
    }
    tables
}

fn address(table: &toml::Table, word: &str, found: &mut Problems) -> Option<String> {
    let value = table.get(word)?;
    let url = value.as_str().and_then(|text| text.parse::<http::Uri>().ok().map(|uri| (text, uri)));
    match url {
        Some((text, uri)) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none() => {
            Some(text.trim_end_matches('/').to_owned())
        }
        _ => {
            found.push(Problem::at(word, "must be an absolute http or https URL without a query"));
            None
        }
    }
}

fn span(table: &toml::Table, word: &str, found: &mut Problems) -> Option<Duration> {
    let span = table.get(word)?.as_str().and_then(|text| humantime::parse_duration(text).ok());
    if span.is_none() {
        found.push(Problem::at(word, "must be a span of time, as \"7d\""));
    }
    span
}

fn switch(table: &toml::Table, word: &str, found: &mut Problems) -> Option<bool> {
    let on = table.get(word)?.as_bool();
    if on.is_none() {
        found.push(Problem::at(word, "must be true or false"));
    }
    on
}

/// A key as it stands in a path: quoted when TOML would quote it.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once_with_their_paths() {
        let table: toml::Table = toml::from_str(
            r#"
            issuer = "nowhere"
            colour = "red"
            [resource.db]
            data = "x"
            sinks = {}
            [[resource.db.offers]]
            name = "a"
            protos = ["https", "gopher"]
            adapters = ["auth:basic"]
            default_adapters = ["auth:mtls"]
            [[resource.db.offers]]
            name = "a"
            [[resource.db.needs]]
            title = "a"
            protos = ["gopher"]
            [adapter."conn:privateLink"]
            offer = { schema = { type = "cube" } }
            "#,
        )
        .unwrap();
        let problems = BrokerSettings::read(&table).unwrap_err();
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        for path in [
            "colour",
            "issuer",
            "adapter.\"conn:privateLink\".offer.schema",
            "resource.db.sinks",
            "resource.db.data",
            "resource.db.offers[0].protos[1]",
            "resource.db.offers[0].default_adapters[0]",
            "resource.db.offers[1].name",
            "resource.db.needs[0].title",
            "resource.db.needs[0].name",
            "resource.db.needs[0].protos[0]",
        ] {
            assert!(paths.contains(&path), "{path} is not in {paths:?}");
        }
    }

    #[test]
    fn every_built_in_template_compiles_and_an_empty_broker_is_fine() {
        let settings = BrokerSettings::read(&toml::Table::new()).unwrap();
        let ends = settings.protos.values().chain(settings.adapters.values());
        assert_eq!(ends.clone().count(), 8);
        for template in ends {
            assert!(template.offer.schema.is_some() != template.need.schema.is_some(), "{}", template.id);
        }
    }
}
