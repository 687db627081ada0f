//! `[[access]]`, `[[quota]]`, `[audit]`, `[events]` and the limits of callers: who may do what, and how much of it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use standpipe_api::Kind;
use toml::Table;

use super::Provider;
use super::load::Known;
use super::reader::Reader;

/// What a rule can name; nothing else is routed.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Who may reach what. A list that is left out holds for everybody or everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// What `standpipe check --as` calls it.
    pub name: String,
    /// Patterns of callers' ids.
    pub callers: Option<Vec<String>>,
    /// Patterns of callers' tenants.
    pub tenants: Option<Vec<String>>,
    /// Patterns of which one of a caller's groups must match one.
    pub groups: Option<Vec<String>>,
    /// Patterns of providers' names.
    pub providers: Option<Vec<String>>,
    /// Patterns of the ids of the outermost resources that calls name.
    pub resources: Option<Vec<String>>,
    /// Patterns of the kinds of the resources that calls are about.
    pub kinds: Option<Vec<String>>,
    /// Patterns of methods.
    pub methods: Option<Vec<String>>,
}

/// How much one caller, or one tenant, may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests per second, on average.
    pub requests_per_second: Option<NonZeroU32>,
    /// Requests that may come at once; `None`: as many as in a second.
    pub burst: Option<NonZeroU32>,
    /// Requests in flight.
    pub in_flight: Option<NonZeroUsize>,
}

/// How many resources of a kind a tenant may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The kind, in the dialect's words.
    pub kind: Kind,
    /// Patterns of tenants; `None`: each. A caller without a tenant is a tenant named by its id.
    pub tenants: Option<Vec<String>>,
    /// Resources that exist, or may, at once.
    pub most: NonZeroU32,
}

/// How long what happened is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Until an event is forgotten.
    pub keep: Duration,
    /// Events kept; the oldest go first.
    pub most: u64,
}

/// The rules, in order.
pub(super) fn rules(top: &mut Reader<'_>, providers: &[Provider], known: &Known) -> Vec<AccessRule> {
    let mut rules = Vec::new();
    for (at, table) in top.tables("access").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("access[{at}]"));
        let name = reader.text("name");
        let rule = AccessRule {
            name: name.map_or_else(|| format!("access[{at}]"), |name| format!("access[{at}] \"{name}\"")),
            callers: patterns(&mut reader, "callers"),
            tenants: patterns(&mut reader, "tenants"),
            groups: patterns(&mut reader, "groups"),
            providers: patterns(&mut reader, "providers"),
            resources: patterns(&mut reader, "resources"),
            kinds: patterns(&mut reader, "kinds"),
            methods: patterns(&mut reader, "methods"),
        };
        for named in rule.providers.iter().flatten().filter(|pattern| !pattern.contains('*')) {
            if !providers.iter().any(|provider| provider.id.as_str() == named) {
                reader.wrong("providers", format!("no provider of this file is named `{named}`; for one registered at run time write a pattern, as `{named}*`"));
            }
        }
        for method in rule.methods.iter().flatten() {
            if !method.contains('*') && !METHODS.contains(&method.as_str()) {
                reader.wrong("methods", format!("`{method}` is no method; known are {}", METHODS.join(", ")));
            }
        }
        for kind in rule.kinds.iter().flatten().filter(|pattern| !pattern.contains('*')) {
            check_kind(&mut reader, "kinds", kind, known);
        }
        reader.finish();
        rules.push(rule);
    }
    rules
}

/// A kind that no dialect has is a mistake: nothing would ever be of it.
pub(super) fn check_kind(reader: &mut Reader<'_>, key: &'static str, kind: &str, known: &Known) {
    if let Err(text) = known_kind(kind, &known.kinds) {
        reader.wrong(key, text);
    }
}

/// Whether a kind is among those that dialects have.
///
/// # Errors
/// Which there are.
pub(crate) fn known_kind(kind: &str, known: &[Kind]) -> Result<(), String> {
    let kinds: Vec<&str> = known.iter().map(Kind::as_str).collect();
    match kinds.contains(&kind) {
        true => Ok(()),
        false => Err(format!("`{kind}` is no kind of resource; known are {}", kinds.join(", "))),
    }
}

/// A list of patterns; an empty one would be for nobody.
pub(super) fn patterns(reader: &mut Reader<'_>, key: &'static str) -> Option<Vec<String>> {
    let patterns = reader.texts(key)?;
    if patterns.is_empty() || patterns.iter().any(String::is_empty) {
        reader.wrong(key, "must hold texts, in which * stands for anything; left out, it holds for all");
    }
    Some(patterns)
}

/// `[limits.caller]` or `[limits.tenant]`.
pub(super) fn allowance(limits: &mut Reader<'_>, whose: &'static str) -> Option<Allowance> {
    let table = limits.table(whose)?;
    let mut reader = limits.inside(table, format!("limits.{whose}"));
    let allowance = Allowance {
        requests_per_second: reader.count("requests_per_second").and_then(NonZeroU32::new),
        burst: reader.count("burst").and_then(NonZeroU32::new),
        in_flight: reader.count("in_flight").and_then(NonZeroUsize::new),
    };
    if allowance.burst.is_some() && allowance.requests_per_second.is_none() {
        reader.wrong("burst", "needs `requests_per_second`");
    }
    if table.is_empty() {
        reader.wrong("requests_per_second", "is missing, and so is `in_flight`: the table limits nothing");
    }
    reader.finish();
    Some(allowance)
}

/// The quotas, in order; the first that fits counts.
pub(super) fn quotas(top: &mut Reader<'_>, known: &Known) -> Vec<Quota> {
    let mut quotas = Vec::new();
    for (at, table) in top.tables("quota").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("quota[{at}]"));
        let kind = reader.required("kind");
        if let Some(kind) = &kind {
            check_kind(&mut reader, "kind", kind, known);
        }
        let kind = Kind::read(kind.unwrap_or_default());
        let tenants = patterns(&mut reader, "tenants");
        if !table.contains_key("most") {
            reader.wrong("most", "is missing");
        }
        let most = reader.count("most").and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        reader.finish();
        quotas.push(Quota { kind, tenants, most });
    }
    quotas
}

/// `[audit]` and `[events]`, whose numbers of events have different keys.
pub(super) fn retention(top: &mut Reader<'_>, name: &'static str, most: &'static str) -> Retention {
    let empty = Table::new();
    let table = top.table(name).unwrap_or(&empty);
    let mut reader = top.inside(table, name.into());
    let retention = Retention {
        keep: reader.span("keep").unwrap_or(Duration::from_secs(90 * 24 * 3600)),
        most: reader.count(most).unwrap_or(1_000_000),
    };
    reader.finish();
    retention
}
