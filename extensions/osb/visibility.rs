//! Which callers see which services and plans: `[[extensions.osb.visibility]]`. A plan nobody sees is as if absent.
//!
//! What a platform says of its users (context, originating identity) only narrows what the platform itself may see (decision
//! 37): a rule's keys must all hold.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use standpipe_api::{Caller, Members, Problem, Problems, ProviderId, Settings};

/// Who asked the platform (spec, "Originating Identity").
const ORIGIN: HeaderName = HeaderName::from_static("x-broker-api-originating-identity");

/// The rules. Without any, everybody sees everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Visibility(Arc<[Rule]>);

/// One rule: every list that is there must have a text that fits; `*` stands for anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    callers: Option<Vec<String>>,
    tenants: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    organizations: Option<Vec<String>>,
    spaces: Option<Vec<String>>,
    users: Option<Vec<String>>,
    providers: Option<Vec<String>>,
    services: Option<Vec<String>>,
    plans: Option<Vec<String>>,
}

/// What is known of the user behind a call; `None`: the call does not say, or not clearly, so that it is not judged by it; where
/// something is to begin, see [`User::who_begins`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    /// The organization, by name and by id.
    organization: Option<Vec<String>>,
    /// The space or namespace, likewise.
    space: Option<Vec<String>>,
    /// The user, by name and by id.
    name: Option<Vec<String>>,
}

/// A plan as rules name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    /// Whose it is.
    pub provider: &'a ProviderId,
    /// The service's id and name on the federated face.
    pub service: [&'a str; 2],
    /// The plan's id and name on the federated face.
    pub plan: [&'a str; 2],
}

/// The rules that are for one caller.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    rules: Arc<[Rule]>,
    mine: Vec<usize>,
}

impl PartialEq for Sight {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules) && self.mine == other.mine
    }
}

impl Visibility {
    /// Reads the rules.
    ///
    /// # Errors
    /// Every mistake, by its place.
    pub(super) fn read(rules: &[toml::Value]) -> Result<Self, Problems> {
        let (mut read, mut problems) = (Vec::new(), Problems::new());
        for (at, rule) in rules.iter().enumerate() {
            let under = format!("[{at}]");
            match rule.as_table().map(Settings::read::<Rule>) {
                Some(Ok(rule)) => read.push(rule),
                Some(Err(found)) => problems.extend(found.into_iter().map(|problem| problem.under(&under))),
                None => problems.push(Problem::at(under, "must be a table")),
            }
        }
        if problems.is_empty() { Ok(Self(read.into())) } else { Err(problems) }
    }

    /// What is for a caller and the user behind it; `None`: everything.
    pub(super) fn of(&self, caller: &Caller, user: &User) -> Option<Sight> {
        if self.0.is_empty() {
            return None;
        }
        let is_for = |rule: &Rule| {
            fits(rule.callers.as_deref(), [caller.id.as_str()])
                && fits(rule.tenants.as_deref(), caller.tenant.as_deref())
                && fits(rule.groups.as_deref(), caller.groups.iter().map(String::as_str))
                && says(rule.organizations.as_deref(), user.organization.as_deref())
                && says(rule.spaces.as_deref(), user.space.as_deref())
                && says(rule.users.as_deref(), user.name.as_deref())
        };
        let mine = (0..).zip(&*self.0).filter(|(_, rule)| is_for(rule)).map(|(at, _)| at).collect();
        Some(Sight { rules: self.0.clone(), mine })
    }
}

impl Sight {
    /// Whether a plan is seen.
    pub(super) fn sees(&self, shown: Shown<'_>) -> bool {
        let mine = self.mine.iter().filter_map(|at| self.rules.get(*at));
        mine.into_iter().any(|rule| {
            fits(rule.providers.as_deref(), [shown.provider.as_str()])
                && fits(rule.services.as_deref(), shown.service)
                && fits(rule.plans.as_deref(), shown.plan)
        })
    }
}

impl User {
    /// What a request says clearly of the user behind it, whatever else is in its body; `None`: that is no JSON object.
    pub(super) fn of(headers: &HeaderMap, body: &Bytes) -> Option<Self> {
        let text = std::str::from_utf8(body).unwrap_or_default();
        let members: Members<'_> = match text.trim() {
            "" => Members::default(),
            text => serde_json::from_str(text).ok()?,
        };
        let context = match said(&members, "context") {
            Said::Nothing | Said::Clearly("null") => Some(Members::default()),
            Said::Clearly(raw) => serde_json::from_str(raw).ok(),
            Said::Unclearly => None,
        };
        let texts = |keys: &[&str]| {
            // The deprecated fields count only for platforms without a context.
            let inside = texts(context.as_ref()?, keys)?;
            let texts = if inside.is_empty() { texts(&members, keys)? } else { inside };
            (!texts.is_empty()).then_some(texts)
        };
        Some(Self {
            organization: texts(&["organization_guid", "organization_name"]),
            space: texts(&["space_guid", "space_name", "namespace"]),
            name: originator(headers),
        })
    }

    /// As one who is to get something: what is not said, or not clearly, fits no list.
    pub(super) fn who_begins(self) -> Self {
        let said = |texts: Option<Vec<String>>| Some(texts.unwrap_or_default());
        Self { organization: said(self.organization), space: said(self.space), name: said(self.name) }
    }
}

/// The user that a platform names clearly.
fn originator(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut fields = headers.get_all(ORIGIN).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (_, encoded) = field.to_str().ok()?.split_once(' ')?;
    let told = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let told: Members<'_> = serde_json::from_slice(&told).ok()?;
    texts(&told, &["user_id", "username", "uid"]).filter(|names| !names.is_empty())
}

/// What an object says under a key.
enum Said<'a> {
    Nothing,
    Clearly(&'a str),
    /// Twice, or in another spelling: brokers differ in which they read, and whether.
    Unclearly,
}

fn said<'a>(members: &Members<'a>, key: &str) -> Said<'a> {
    let mut found = members.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
    match (found.next(), found.next()) {
        (None, _) => Said::Nothing,
        (Some((name, raw)), None) if name == key => Said::Clearly(raw.get()),
        _ => Said::Unclearly,
    }
}

/// The texts under some keys that are there; `None`: one of them is no text, or is not clear.
fn texts(members: &Members<'_>, keys: &[&str]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    for key in keys {
        match said(members, key) {
            Said::Nothing => {}
            Said::Clearly(raw) => texts.push(serde_json::from_str(raw).ok()?),
            Said::Unclearly => return None,
        }
    }
    Some(texts)
}

/// Whether one of the texts fits one of the patterns; without patterns all do.
pub(super) fn fits<'a>(patterns: Option<&[String]>, texts: impl IntoIterator<Item = &'a str>) -> bool {
    let Some(patterns) = patterns else { return true };
    texts.into_iter().any(|text| patterns.iter().any(|pattern| matches(pattern, text)))
}

/// The same of what a request may leave unsaid.
fn says(patterns: Option<&[String]>, texts: Option<&[String]>) -> bool {
    texts.is_none_or(|texts| fits(patterns, texts.iter().map(String::as_str)))
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(rules: &str, user: &User) -> Sight {
        let table: toml::Table = rules.parse().unwrap();
        let caller = Caller {
            id: "basic:cf".into(),
            tenant: Some("blue".into()),
            groups: vec!["ops".into()],
            authenticator: "basic",
        };
        Visibility::read(table["v"].as_array().unwrap()).unwrap().of(&caller, user).unwrap()
    }

    fn sees(sight: &Sight, service: &str, plan: &str) -> bool {
        let provider = "alpha".into();
        sight.sees(Shown { provider: &provider, service: ["id", service], plan: ["pid", plan] })
    }

    #[test]
    fn a_rule_holds_when_all_of_it_does() {
        let seen = sight(
            "v = [{ tenants = [\"blue\"], services = [\"db-*\"], plans = [\"free\"] }, { callers = [\"x\"] }]",
            &User::default(),
        );
        assert!(sees(&seen, "db-one", "free"));
        assert!(!sees(&seen, "db-one", "big") && !sees(&seen, "mq", "free"));
    }

    #[test]
    fn what_a_platform_says_narrows_and_never_widens() {
        let rules = "v = [{ callers = [\"basic:*\"], organizations = [\"o1\"] }, { callers = [\"nobody\"], organizations = [\"o2\"] }]";
        let from = |organization: &str| User {
            organization: Some(vec![organization.to_owned()]),
            ..User::default()
        };
        assert!(sees(&sight(rules, &User::default()), "db", "free"), "the catalog names no organization");
        assert!(sees(&sight(rules, &from("o1")), "db", "free"));
        assert!(!sees(&sight(rules, &from("o2")), "db", "free"));
    }

    #[test]
    fn the_context_counts_and_the_deprecated_field_only_without_one() {
        let organization =
            |body: &str| User::of(&HeaderMap::new(), &body.to_owned().into()).unwrap().organization;
        let both = r#"{"organization_guid":"mine","context":{"organization_guid":"yours"}}"#;
        assert_eq!(organization(both), Some(vec!["yours".to_owned()]));
        assert_eq!(organization(r#"{"organization_guid":"mine"}"#), Some(vec!["mine".to_owned()]));
    }

    #[test]
    fn who_begins_something_and_does_not_say_for_whom_fits_no_list() {
        let rules = "v = [{ organizations = [\"*\"], users = [\"*\"] }]";
        let of = |context: &str, identity: Option<&str>| {
            let identity =
                identity.map(|told| format!("cf {}", BASE64_STANDARD.encode(told)).parse().unwrap());
            let headers = identity.into_iter().map(|told| (ORIGIN, told)).collect();
            User::of(&headers, &format!("{{{context}}}").into()).unwrap()
        };
        let (clear, user) = (r#""context":{"organization_guid":"o1"}"#, Some(r#"{"user_id":"u"}"#));
        assert!(sees(&sight(rules, &of(clear, user).who_begins()), "db", "free"));
        for (context, user) in [
            ("", user),
            (r#""context":null"#, user),
            // A platform of namespaces has no organization.
            (r#""context":{"platform":"kubernetes","namespace":"n"}"#, user),
            (r#""context":[],"organization_guid":"o1""#, user),
            (r#""Context":{"organization_guid":"o1"}"#, user),
            (r#""Context":{"organization_guid":"o2"},"organization_guid":"o1""#, user),
            (r#""Context":{},"context":{"organization_guid":"o1"}"#, user),
            (r#""context":{"organization_guid":"o2"},"context":{"organization_guid":"o1"}"#, user),
            (r#""context":{"organization_guid":"o1","Organization_Guid":"o2"}"#, user),
            (r#""context":{"organization_guid":["o1"]},"organization_guid":"o1""#, user),
            (clear, None),
            (clear, Some("no JSON")),
            (clear, Some(r#"{"user_id":7}"#)),
            (clear, Some(r#"{"user_id":"u","User_ID":"v"}"#)),
        ] {
            let user = of(context, user);
            assert!(!sees(&sight(rules, &user.clone().who_begins()), "db", "free"), "{context} {user:?}");
            assert!(sees(&sight(rules, &user), "db", "free"), "who asks is not judged by it: {context}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("a*", "ab", true),
            ("*a*c", "xabc", true),
            ("a*a", "a", false),
            ("ab", "abc", false),
            ("*b*b*", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
