//! What a broker answers directly it answers through standpipe; what standpipe changes is listed here.

use std::collections::{BTreeMap, BTreeSet};

use super::cases::{Outcome, Suite};
use super::platform::{Exchange, Reply};

/// What standpipe changes on purpose. Everything else is equal: verdicts, statuses, values of each field, bytes of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Documented {
    /// Every hop names itself (RFC 9110, 7.6.3).
    Via,
    /// Says which of several providers answered.
    StandpipeProvider,
    /// Standpipe lets callers in itself, before anybody else hears of them; a provider's credential is not a caller's.
    Unauthorized,
    /// No provider can be chosen for what names nothing that any of several has, so that standpipe says it itself.
    Local,
    /// The catalogs of several providers are one.
    MergedCatalog,
}

/// How a provider is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// `/providers/{name}/v2`.
    Transparent,
    /// `/v2` with nobody else behind it.
    Alone,
    /// `/v2` with others behind it.
    Merged,
}

impl Face {
    /// What is different there. Each of them must be.
    pub fn documented(self) -> BTreeSet<Documented> {
        use Documented::{Local, MergedCatalog, StandpipeProvider, Unauthorized, Via};
        match self {
            Self::Transparent | Self::Alone => BTreeSet::from([Via, Unauthorized]),
            Self::Merged => BTreeSet::from([Via, Unauthorized, StandpipeProvider, Local, MergedCatalog]),
        }
    }
}

/// What was found to differ.
#[derive(Default)]
pub struct Differences {
    pub documented: BTreeSet<Documented>,
    /// Everything that is not meant, in words.
    pub others: Vec<String>,
}

impl Differences {
    /// Between brokers asked directly and what is in front of all of them.
    pub fn between(directly: &[&Suite], through: &Suite, face: Face) -> Self {
        let mut found = Self::default();
        let key = |outcome: &Outcome| (outcome.case.clone(), outcome.plan.clone());
        let mut known: BTreeMap<_, Vec<&Outcome>> = BTreeMap::new();
        for outcome in directly.iter().flat_map(|suite| &suite.outcomes) {
            known.entry(key(outcome)).or_default().push(outcome);
        }
        for outcome in &through.outcomes {
            let mut same = known.remove(&key(outcome)).unwrap_or_default();
            match (same.pop(), same.is_empty()) {
                (None, _) => found.others.push(format!("{}: only through standpipe", name(outcome))),
                (Some(direct), _) if face != Face::Merged || !outcome.plan.is_empty() => {
                    found.compare(direct, outcome);
                }
                // Nobody's plan: standpipe itself must do as the specification says.
                (Some(direct), _) => found.compare_local(direct, outcome),
            }
        }
        found.others.extend(known.keys().map(|(case, plan)| format!("{case} [{plan}]: only directly")));
        found
    }

    fn compare(&mut self, direct: &Outcome, through: &Outcome) {
        if direct.verdict != through.verdict {
            let what =
                format!("{}: {:?} directly, {:?} through", name(through), direct.verdict, through.verdict);
            self.others.push(what);
        }
        if direct.exchanges.len() != through.exchanges.len() {
            let (one, other) = (direct.exchanges.len(), through.exchanges.len());
            self.others.push(format!("{}: {one} exchanges directly, {other} through", name(through)));
        }
        for (one, other) in direct.exchanges.iter().zip(&through.exchanges) {
            self.compare_answers(one, other, &name(through));
        }
    }

    fn compare_local(&mut self, direct: &Outcome, through: &Outcome) {
        if let Err(why) = &through.verdict {
            self.others.push(format!("{}: {why}; directly {:?}", name(through), direct.verdict));
        }
        for (one, other) in direct.exchanges.iter().zip(&through.exchanges) {
            let catalog = one.request.contains(" /v2/catalog") && other.reply.status == 200;
            let local = if catalog { Documented::MergedCatalog } else { Documented::Local };
            if !self.unauthorized(one, other) && one.reply.body != other.reply.body {
                self.documented.insert(local);
            }
        }
    }

    /// 401 is standpipe's own answer: it says how to log in, and nothing of the provider's.
    fn unauthorized(&mut self, one: &Exchange, other: &Exchange) -> bool {
        let own = other.reply.status == 401 && other.reply.field("www-authenticate").is_some();
        if own && one.reply.status == 401 {
            self.documented.insert(Documented::Unauthorized);
        }
        own && one.reply.status == 401
    }

    fn compare_answers(&mut self, one: &Exchange, other: &Exchange, case: &str) {
        if self.unauthorized(one, other) {
            return;
        }
        let mut say = |what: String| self.others.push(format!("{case}\n    {}\n    {what}", other.request));
        if one.request != other.request {
            say(format!("directly it was {}", one.request));
        }
        if (one.reply.status, &one.reply.body) != (other.reply.status, &other.reply.body) {
            say(format!("{} directly, {} through", shown(&one.reply), shown(&other.reply)));
            return;
        }
        let names: BTreeSet<&str> =
            one.reply.fields.iter().chain(&other.reply.fields).map(|field| &*field.0).collect();
        for field in names {
            let [before, after] = [one, other].map(|exchange| values(&exchange.reply, field));
            let documented = match (field, before.is_empty(), after.is_empty()) {
                _ if before == after => continue,
                ("date", false, false) => continue,
                ("via", true, false) => Documented::Via,
                ("standpipe-provider", true, false) => Documented::StandpipeProvider,
                _ => {
                    let what = format!("{field}: {before:?} directly, {after:?} through");
                    self.others.push(format!("{case}\n    {}\n    {what}", other.request));
                    continue;
                }
            };
            self.documented.insert(documented);
        }
    }
}

/// Cases whose verdicts differ, or that were tried only here or there.
pub fn verdicts(direct: &Suite, through: &Suite) -> Vec<String> {
    let of = |suite: &Suite| -> BTreeSet<String> {
        suite.outcomes.iter().map(|outcome| format!("{} {:?}", name(outcome), outcome.verdict)).collect()
    };
    of(direct).symmetric_difference(&of(through)).cloned().collect()
}

fn values<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.fields.iter().filter(|field| field.0 == name).map(|field| &*field.1).collect()
}

fn shown(reply: &Reply) -> String {
    format!("{} {}", reply.status, reply.body.escape_ascii())
}

fn name(outcome: &Outcome) -> String {
    format!("{}: {} [{}]", outcome.group, outcome.case, outcome.plan)
}
