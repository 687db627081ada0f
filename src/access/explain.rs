//! Why a decision is what it is, in words, for `standpipe check --as`.

use http::Method;
use standpipe_api::{Caller, ProviderId, Resource};

use super::{Access, Rule, outermost};

impl Access {
    /// What the rules say of a caller at a provider: the rules that show it something, or why none does.
    pub fn explain_provider(&self, caller: &Caller, provider: &ProviderId) -> String {
        if self.is_open() {
            return "seen: there are no [[access]] rules".into();
        }
        let mut shown = Vec::new();
        let mut hidden = Vec::new();
        for rule in &self.rules {
            match rule.without_caller(caller).or_else(|| rule.without_provider(provider)) {
                None => shown.push(format!("{}{}", rule.name, rule.limits())),
                Some(why) => hidden.push(format!("{} {why}", rule.name)),
            }
        }
        match shown.is_empty() {
            false => format!("seen by {}", shown.join("; ")),
            true => format!("not seen: {}", hidden.join("; ")),
        }
    }

    /// What the rules say of a call to a provider: the rule that lets it in, or what each of them lacks.
    pub fn explain_call(
        &self,
        caller: &Caller,
        provider: &ProviderId,
        resources: &[Resource],
        method: &Method,
    ) -> String {
        if self.is_open() {
            return "let in: there are no [[access]] rules".into();
        }
        let (mut seen, mut reasons) = (false, Vec::new());
        for rule in &self.rules {
            let unseen = rule
                .without_caller(caller)
                .or_else(|| rule.without_provider(provider))
                .or_else(|| rule.without_resources(resources));
            let Some(why) = unseen else {
                if rule.methods.take(Some(method.as_str())) {
                    return format!("let in by {}", rule.name);
                }
                seen = true;
                reasons.push(format!("{} is not for the method {method}", rule.name));
                continue;
            };
            reasons.push(format!("{} {why}", rule.name));
        }
        let verdict = if seen { "refused (403)" } else { "not seen (as if it did not exist)" };
        format!("{verdict}: {}", reasons.join("; "))
    }
}

impl Rule {
    fn without_caller(&self, caller: &Caller) -> Option<String> {
        if !self.callers.take(Some(caller.id.as_str())) {
            return Some(format!("is not for the caller {}", caller.id));
        }
        if !self.tenants.take(caller.tenant.as_deref()) {
            let tenant = caller.tenant.as_deref();
            return Some(
                tenant.map_or("needs a tenant".into(), |name| format!("is not for the tenant {name}")),
            );
        }
        if self.groups.take_one_of(&caller.groups) {
            return None;
        }
        Some(match caller.groups.as_slice() {
            [] => "needs a group".to_owned(),
            groups => format!("is not for the groups {}", groups.join(", ")),
        })
    }

    fn without_provider(&self, provider: &ProviderId) -> Option<String> {
        (!self.providers.take(Some(provider.as_str()))).then(|| format!("is not for the provider {provider}"))
    }

    fn without_resources(&self, resources: &[Resource]) -> Option<String> {
        let kind = resources.first().map(|resource| resource.kind.as_str());
        if !self.kinds.take(kind) {
            return Some(kind.map_or("needs a kind".into(), |kind| format!("is not for the kind {kind}")));
        }
        let id = outermost(resources);
        let why = || id.map_or("needs a resource".into(), |id| format!("is not for the resource {id}"));
        (!self.resources.take(id)).then(why)
    }

    /// What of a provider the rule is for, if not everything.
    fn limits(&self) -> &'static str {
        let all = |patterns: &super::Patterns| *patterns == super::Patterns::Any;
        match (all(&self.resources) && all(&self.kinds), all(&self.methods)) {
            (true, true) => "",
            (false, true) => " (some resources)",
            (true, false) => " (some methods)",
            (false, false) => " (some resources and methods)",
        }
    }
}
