//! Asking all candidates where a resource is: safe questions, all at once, one flood for many callers.

use std::sync::Arc;

use moka::sync::Cache;
use standpipe_api::{Dialect, Error, ProviderId, Query, Resource, Result, Target, Vote};

use super::{By, Place};
use crate::access::Sight;
use crate::config;
use crate::engine::Running;
use crate::forward::deadline::now;
use crate::providers::Provider;
use crate::query::Querier;
use crate::route::DialectId;
use crate::single_flight::{Join, SingleFlight};

/// Resources remembered as being nowhere.
const MOST_REMEMBERED: u64 = 100_000;
/// Floods under way at once; beyond it a caller is told to come back.
const MOST_FLOODS: usize = 1024;

/// Floods under way, and what earlier ones did not find.
pub struct Floods {
    under_way: SingleFlight<Key, Outcome>,
    nowhere: Cache<Key, ()>,
    /// What was found without hearing every provider; what all were heard about is in the mapping table.
    found: Cache<Key, ProviderId>,
    asked_again: Cache<Resource, ()>,
}

/// What is searched where, and for whom.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    dialect: DialectId,
    resource: Resource,
    /// With whose credential: empty when only standpipe's own are used, so that one answer holds for every caller.
    identity: Arc<str>,
    /// The providers that the caller sees; `None`: all.
    seen: Option<Arc<[ProviderId]>>,
}

/// Who is asked in a flood, and who cannot be.
struct Candidates {
    asked: Vec<ProviderId>,
    left_out: Vec<ProviderId>,
}

/// What a flood came to.
#[derive(Clone, Debug)]
enum Outcome {
    At(ProviderId, By),
    Nowhere,
    Ambiguous(Vec<ProviderId>),
    Unknown(Vec<ProviderId>),
}

impl Floods {
    /// No floods yet.
    pub fn new(settings: &config::Resolve) -> Self {
        let span = settings.negative_cache;
        Self {
            under_way: SingleFlight::new(MOST_FLOODS),
            nowhere: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(span).build(),
            found: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(span).build(),
            asked_again: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(span).build(),
        }
    }

    /// Whether a resource may be asked for although its mapping says where it is.
    pub fn may_ask_again(&self, resource: &Resource) -> bool {
        let first = !self.asked_again.contains_key(resource);
        self.asked_again.insert(resource.clone(), ());
        first
    }

    /// Forgets that a resource was nowhere, because it now is somewhere.
    pub fn appeared(&self, resource: &Resource, dialect: DialectId) {
        let key = Key { dialect, resource: resource.clone(), identity: Arc::from(""), seen: None };
        self.nowhere.invalidate(&key);
    }

    /// The one provider that has a resource, of those that the caller sees.
    ///
    /// # Errors
    /// Nobody has it, several have it, or somebody did not answer.
    pub async fn find(
        &self,
        resource: &Resource,
        dialect: DialectId,
        sight: &Sight<'_>,
        querier: &Querier,
    ) -> Result<Place> {
        let running = &querier.running;
        let candidates = Candidates::of(dialect, running, sight);
        let seen = (!sight.is_whole(running, dialect)).then(|| candidates.all());
        let key = Key { dialect, resource: resource.clone(), identity: identity(dialect, querier), seen };
        if self.nowhere.contains_key(&key) {
            return Err(Error::unknown_resource(resource));
        }
        if let Some(found) = self.found.get(&key) {
            return Outcome::At(found, By::PartialFlood).place(resource, running);
        }
        let outcome = self.outcome(&key, candidates, querier).await?;
        match &outcome {
            Outcome::Nowhere => self.nowhere.insert(key, ()),
            Outcome::At(provider, by) if key.seen.is_some() || *by == By::PartialFlood => {
                self.found.insert(key, provider.clone());
            }
            Outcome::At(..) | Outcome::Ambiguous(_) | Outcome::Unknown(_) => {}
        }
        outcome.place(resource, running)
    }

    /// Joins the flood for this key, or starts one.
    async fn outcome(&self, key: &Key, candidates: Candidates, querier: &Querier) -> Result<Outcome> {
        let Candidates { asked, left_out } = candidates;
        let silent = asked.clone();
        let wait = match self.under_way.join(key) {
            Join::Lead(lead, wait) => {
                // The first caller's deadline is not the others' (decision 18).
                let deadline = now() + querier.running.config.limits.call;
                let (key, querier) = (key.clone(), Querier { deadline, ..querier.clone() });
                let candidates = Candidates { asked, left_out };
                tokio::task::spawn_local(async move { lead.tell(ask_all(&key, candidates, &querier).await) });
                wait
            }
            Join::Follow(wait) => wait,
            Join::Full => {
                return Err(Error::could_not_ask(&key.resource, left_out)
                    .advise("too many searches are under way; try again"));
            }
        };
        let told = querier.forward.deadlines().within(|| querier.deadline, wait.value()).await;
        Ok(told.ok().flatten().unwrap_or(Outcome::Unknown(silent)))
    }
}

async fn ask_all(key: &Key, candidates: Candidates, querier: &Querier) -> Outcome {
    let dialect = &**querier.engine.router.dialect(key.dialect);
    match dialect.question(&key.resource) {
        Some(question) => ask(candidates, &question, dialect, querier).await,
        None => Outcome::Unknown(candidates.asked),
    }
}

/// The one of some providers that has what a read is for. A caller's own credential must not visit them in turn.
///
/// # Errors
/// None of them has it, several have it, or none has it and somebody did not answer.
pub(super) async fn ask_those(
    resource: &Resource,
    those: Vec<ProviderId>,
    read: &Query,
    dialect: &dyn Dialect,
    querier: &Querier,
) -> Result<Place> {
    let running = &querier.running;
    let may_ask = |id: &ProviderId| running.find(id).is_some_and(|provider| running.may_visit(provider));
    let (asked, left_out) = those.into_iter().partition(may_ask);
    ask(Candidates { asked, left_out }, read, dialect, querier).await.place(resource, running)
}

async fn ask(candidates: Candidates, question: &Query, dialect: &dyn Dialect, querier: &Querier) -> Outcome {
    let asked = candidates.asked.into_iter().map(|id| (Target::provider(id), question.clone()));
    let answers = querier.ask_each(asked.collect()).await;
    let (mut yes, mut unknown) = (Vec::new(), candidates.left_out);
    for (target, answer) in answers {
        let vote = answer.map_or(Vote::Unknown, |answer| dialect.vote(answer.status(), answer.headers()));
        match vote {
            Vote::Yes => yes.push(target.provider),
            Vote::No => {}
            Vote::Unknown => unknown.push(target.provider),
        }
    }
    match (yes.len(), unknown.is_empty()) {
        (0, true) => Outcome::Nowhere,
        (0, false) => Outcome::Unknown(unknown),
        (1, all_heard) => {
            // One yes is enough for now; who is silent may have one of that id too, which a mapping would hide.
            let by = if all_heard { By::Flood } else { By::PartialFlood };
            yes.pop().map_or(Outcome::Nowhere, |provider| Outcome::At(provider, by))
        }
        _ => Outcome::Ambiguous(yes),
    }
}

impl Outcome {
    fn place(self, resource: &Resource, running: &Running) -> Result<Place> {
        match self {
            Self::At(provider, by) => Ok(Place::at(running.provider(&provider)?.clone(), by)),
            Self::Nowhere => Err(Error::unknown_resource(resource)),
            Self::Ambiguous(candidates) => Err(Error::ambiguous(resource, candidates)),
            Self::Unknown(silent) => Err(Error::could_not_ask(resource, silent)),
        }
    }
}

impl Candidates {
    /// A caller's own credential must not visit all providers in turn; whom the caller does not see is no candidate.
    fn of(dialect: DialectId, running: &Running, sight: &Sight<'_>) -> Self {
        let seen = running.speaking(dialect).filter(|provider| sight.sees(provider.id()));
        let (asked, left_out): (Vec<_>, Vec<_>) = seen.partition(|provider| running.may_visit(provider));
        let ids = |providers: Vec<&Arc<Provider>>| -> Vec<ProviderId> {
            providers.into_iter().map(|provider| provider.id().clone()).collect()
        };
        let mut left_out = ids(left_out);
        left_out.extend(running.silent(dialect).filter(|provider| sight.sees(provider)).cloned());
        Self { asked: ids(asked), left_out }
    }

    fn all(&self) -> Arc<[ProviderId]> {
        self.asked.iter().chain(&self.left_out).cloned().collect()
    }
}

/// Whose credential a flood uses beside standpipe's own.
fn identity(dialect: DialectId, querier: &Querier) -> Arc<str> {
    let running = &querier.running;
    let visits =
        |provider: &Arc<Provider>| !provider.credentials.is_unattended() && running.may_visit(provider);
    let caller = querier.caller.as_deref();
    let own = if running.speaking(dialect).any(visits) {
        let id = caller.map_or("", |caller| caller.id.as_str());
        Arc::from(format!("{id} {}", querier.on_behalf.identity()))
    } else {
        Arc::from("")
    };
    // Callers who get different credentials see different things.
    let chosen = running.speaking(dialect).filter_map(|provider| provider.credentials.identity(caller));
    let chosen: Vec<&str> = chosen.collect();
    if chosen.is_empty() { own } else { Arc::from(format!("{own}\0{}", chosen.join("\0"))) }
}
