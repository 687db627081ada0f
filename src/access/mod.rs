//! Access rules: which callers may see and do what. Rules come in with a configuration, decisions go out.
//!
//! Without a rule everybody may do everything; with one, only what some rule lets in. A call is *seen* where a rule
//! has its caller, provider and resource, and *let in* where one has its method as well. What a caller does not
//! see is, for it, not there: the steps ask [`Sight`] and leave it out. Decisions depend on names and rules alone,
//! never on what exists, so that nothing can be learned from a refusal. This module asks nobody and waits for
//! nothing; a decision costs no allocation.

mod event;
mod explain;
mod pattern;
mod quota;

use std::cell::RefCell;

use http::Method;
use standpipe_api::{Caller, Error, ErrorKind, Fault, ProviderId, Resource};

pub use self::pattern::{Pattern, Patterns};
pub use self::quota::{Quotas, quota_needs_id, quota_reached};
use crate::config::AccessRule;
use crate::engine::Running;
use crate::route::DialectId;

/// The id by which rules can name whoever sends a bearer that only a provider may know.
pub const STRANGER: &str = "stranger";

/// The rules of one configuration, compiled.
#[derive(Debug, Default)]
pub struct Access {
    rules: Box<[Rule]>,
}

#[derive(Debug)]
struct Rule {
    name: Box<str>,
    callers: Patterns,
    tenants: Patterns,
    groups: Patterns,
    providers: Patterns,
    resources: Patterns,
    kinds: Patterns,
    methods: Patterns,
}

/// What the rules say of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may go there.
    LetIn,
    /// The caller sees what it is about, and may not do this.
    Seen,
    /// For this caller, what it is about is not there.
    Unseen,
}

/// Why rules refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No rule shows the caller what it asked for.
    Unseen,
    /// No rule has the method.
    Method,
    /// The caller created it and no rule shows it any longer.
    Own,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unseen, Self::Method, Self::Own];

    /// The word in the audit and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Method => "method",
            Self::Own => "own",
        }
    }
}

impl Access {
    /// Compiles the rules of a configuration.
    pub fn compile(rules: &[AccessRule]) -> Self {
        Self { rules: rules.iter().map(Rule::compile).collect() }
    }

    /// Whether there is no rule, so that everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a caller sees anything at all at a provider.
    pub fn sees_provider(&self, caller: Option<&Caller>, provider: &ProviderId) -> bool {
        let shows = |rule: &Rule| rule.has_caller(caller) && rule.providers.take(Some(provider.as_str()));
        self.is_open() || self.rules.iter().any(shows)
    }

    /// Whether a caller may do everything at a provider, so that it may have the credential itself.
    pub fn grants_all(&self, caller: Option<&Caller>, provider: &ProviderId) -> bool {
        let grants = |rule: &Rule| {
            let all =
                [&rule.resources, &rule.kinds, &rule.methods].into_iter().all(|key| *key == Patterns::Any);
            all && rule.has_caller(caller) && rule.providers.take(Some(provider.as_str()))
        };
        self.is_open() || self.rules.iter().any(grants)
    }

    /// Whether a caller sees, at a provider, what a call names: resources, the most specific first.
    pub fn sees(&self, caller: Option<&Caller>, provider: &ProviderId, resources: &[Resource]) -> bool {
        let shows = |rule: &Rule| rule.has_caller(caller) && rule.shows(provider, resources);
        self.is_open() || self.rules.iter().any(shows)
    }

    /// Whether a call may go to a provider.
    pub fn judge(
        &self,
        caller: Option<&Caller>,
        provider: &ProviderId,
        resources: &[Resource],
        method: &Method,
    ) -> Judgement {
        if self.is_open() {
            return Judgement::LetIn;
        }
        let mut judgement = Judgement::Unseen;
        for rule in &self.rules {
            if rule.has_caller(caller) && rule.shows(provider, resources) {
                if rule.methods.take(Some(method.as_str())) {
                    return Judgement::LetIn;
                }
                judgement = Judgement::Seen;
            }
        }
        judgement
    }
}

impl Rule {
    fn compile(rule: &AccessRule) -> Self {
        let patterns = |texts: &Option<Vec<String>>| Patterns::new(texts.as_deref());
        Self {
            name: rule.name.as_str().into(),
            callers: patterns(&rule.callers),
            tenants: patterns(&rule.tenants),
            groups: patterns(&rule.groups),
            providers: patterns(&rule.providers),
            resources: patterns(&rule.resources),
            kinds: patterns(&rule.kinds),
            methods: patterns(&rule.methods),
        }
    }

    fn has_caller(&self, caller: Option<&Caller>) -> bool {
        let id = caller.map_or(STRANGER, |caller| caller.id.as_str());
        self.callers.take(Some(id))
            && self.tenants.take(caller.and_then(|caller| caller.tenant.as_deref()))
            && self.groups.take_one_of(caller.map_or(&[], |caller| &caller.groups))
    }

    fn shows(&self, provider: &ProviderId, resources: &[Resource]) -> bool {
        self.providers.take(Some(provider.as_str()))
            && self.kinds.take(resources.first().map(|resource| resource.kind.as_str()))
            && self.resources.take(outermost(resources))
    }
}

/// What `resources` of a rule is held against: the resource that all others a call names are within. A name chosen
/// inside of one resource can so never pass for another resource.
fn outermost(resources: &[Resource]) -> Option<&str> {
    let last = resources.last()?;
    let id = last.parent.as_ref().unwrap_or(&last.id).as_str();
    // `web-%2F..%2Fdb` begins as `web-*` does, and a server behind us may make `db` of it.
    let steps = id.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."));
    (!steps).then_some(id)
}

/// The rules as one call sees them: its caller, and the resources it names.
#[derive(Debug)]
pub struct Sight<'a> {
    access: &'a Access,
    caller: Option<&'a Caller>,
    resources: &'a [Resource],
    /// A provider that would have been the answer, had the caller seen it.
    withheld: RefCell<Option<ProviderId>>,
}

impl<'a> Sight<'a> {
    /// What a caller sees of resources; `None` is somebody whom only a provider may know.
    pub fn new(access: &'a Access, caller: Option<&'a Caller>, resources: &'a [Resource]) -> Self {
        Self { access, caller, resources, withheld: RefCell::default() }
    }

    /// Who it is.
    pub fn caller(&self) -> Option<&'a Caller> {
        self.caller
    }

    /// Whether it sees them at a provider.
    pub fn sees(&self, provider: &ProviderId) -> bool {
        self.access.sees(self.caller, provider, self.resources)
    }

    /// Whether it sees anything at a provider.
    pub fn sees_provider(&self, provider: &ProviderId) -> bool {
        self.access.sees_provider(self.caller, provider)
    }

    /// Whether it sees them at every provider of a dialect. What is found with less holds for this caller only.
    pub fn is_whole(&self, running: &Running, dialect: DialectId) -> bool {
        self.access.is_open() || running.speaking(dialect).all(|provider| self.sees(provider.id()))
    }

    /// Notes that a provider was left out which would have been the answer.
    pub fn withhold(&self, provider: &ProviderId) {
        self.withheld.borrow_mut().get_or_insert_with(|| provider.clone());
    }

    /// Whether a provider was left out.
    pub fn has_withheld(&self) -> bool {
        self.withheld.borrow().is_some()
    }

    /// The provider that was left out.
    pub fn withheld(&self) -> Option<ProviderId> {
        self.withheld.borrow().clone()
    }
}

/// A method that the caller may not use on what it sees.
pub fn method_refused(method: &Method, resources: &[Resource]) -> Error {
    let what = resources.first().map_or_else(|| "this path".to_owned(), ToString::to_string);
    Error::new(
        ErrorKind::Forbidden,
        Fault::Caller,
        format!("{method} of {what} is not allowed to this caller"),
    )
    .advise("an operator allows it with an [[access]] rule that has the method")
}

/// A resource that the caller created and no longer sees. Never "not found": whoever hears that forgets it.
pub fn own_refused(resource: &Resource) -> Error {
    let public = format!("{resource} was created by this caller, which may no longer see it");
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise("it can still be polled and deleted; an operator shows it again with an [[access]] rule")
}

#[cfg(test)]
mod tests;
