//! Polling: every catalog once at the start, then each on its own interval; what was good stays while a broker is down.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http::StatusCode;
use http::header::{ETAG, IF_NONE_MATCH};
use serde_json::json;
use standpipe_api::{
    Background, Change, Error, Hint, NewEvent, Provider, ProviderId, Result, State, Target, backoff,
};
use tokio::time::{sleep, timeout};

use super::names::Names;
use super::snapshot::Snapshot;
use super::stored::{self, Known};
use super::{Catalogs, Generation, Member, merge};
use crate::osb::dialect::{NAME, PLAN, SERVICE};
use crate::osb::question;
use crate::osb::settings::ProviderSettings;

/// How long the first round waits for a broker; a slow one joins later.
const FIRST: Duration = Duration::from_secs(10);
/// Brokers that are asked at once in the first round.
const AT_ONCE: usize = 64;
/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first wait after a reading that failed; doubling to the provider's own interval.
const AGAIN: Duration = Duration::from_secs(5);
/// Ids that a catalog no longer has and by which instances of one provider are still found; what is mapped needs none.
const MOST_WITHDRAWN: usize = 10_000;
/// The note on a provider whose catalog could not be read.
const STALE: &str = "catalog-stale";
/// The note on a provider that stands behind another prefix than before this start.
const RENAMED: &str = "ids-changed";
/// The note on a provider some of whose offerings are not shown, or cannot stand beside another's.
const CONFLICT: &str = "catalog-conflict";

/// Keeps all catalogs fresh, until the end. Begins anew after each reload.
pub(in crate::osb) async fn keep(catalogs: Arc<Catalogs>, background: Rc<dyn Background>) {
    loop {
        let keeper = match Keeper::open(&catalogs, &background).await {
            Ok(keeper) => keeper,
            Err(error) => {
                tracing::error!(error = error.log_text(), "the catalogs that are kept cannot be read");
                sleep(AGAIN).await;
                continue;
            }
        };
        tokio::select! {
            () = keeper.run() => background.reloaded().await,
            () = background.reloaded() => {}
            () = background.stopped() => return,
        }
    }
}

/// Tells an operator that platforms may know what a provider has by ids that it no longer has: a start cannot refuse that.
fn tell_of_ids(background: &Rc<dyn Background>, provider: &ProviderId, before: &str) {
    let text = format!(
        "id_prefix was \"{before}\" before this start: platforms can no longer update or delete by the ids they have what they made \
         until then; set it back if there is any"
    );
    tracing::warn!(%provider, "{text}");
    background.note(provider, RENAMED, Some(&text), None);
}

struct Keeper {
    catalogs: Arc<Catalogs>,
    background: Rc<dyn Background>,
    state: Arc<dyn State>,
    now: RefCell<Now>,
    /// One change is written down after the other.
    writing: tokio::sync::Mutex<()>,
}

/// The catalogs as they stand, and the validators they came with.
struct Now {
    members: Vec<Member>,
    etags: Vec<Option<String>>,
    reached: Vec<Reach>,
    names: Names,
}

/// Whether a broker gave its catalog when it was last asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    There,
    Lost,
}

/// What a reading came to.
enum Reading {
    Same,
    New(Box<Known>),
}

impl Keeper {
    async fn open(catalogs: &Arc<Catalogs>, background: &Rc<dyn Background>) -> Result<Self> {
        let (state, epoch) = (background.state(), background.epoch());
        let names = stored::names(&*state).await?;
        // What changes later was let through by the engine.
        let is_start = catalogs.now().members.is_empty();
        let (mut members, mut etags) = (Vec::new(), Vec::new());
        for provider in background.with_left_out().into_iter().filter(|provider| provider.dialect == NAME) {
            let mut known = stored::read(&*state, &provider.id).await?;
            let prefix = Some(ProviderSettings::of(&provider).id_prefix);
            if known.snapshot.is_some() && known.prefix != prefix {
                if let (Some(before), true) = (&known.prefix, is_start) {
                    tell_of_ids(background, &provider.id, before);
                }
                known.prefix = prefix;
                stored::rewrite(&*state, &provider.id, &known).await?;
            }
            etags.push(known.etag.filter(|_| known.snapshot.is_some()));
            members.push(Member {
                snapshot: known.snapshot,
                withdrawn: known.withdrawn,
                ..Member::new(provider)
            });
        }
        let reached = vec![Reach::There; members.len()];
        let keeper = Self {
            catalogs: catalogs.clone(),
            background: background.clone(),
            state,
            now: RefCell::new(Now { members, etags, reached, names }),
            writing: tokio::sync::Mutex::default(),
        };
        keeper.publish(&keeper.providers());
        catalogs.opened(epoch);
        Ok(keeper)
    }

    fn providers(&self) -> Vec<ProviderId> {
        self.now.borrow().members.iter().map(|member| member.provider.id.clone()).collect()
    }

    async fn run(&self) {
        let providers = self.providers();
        let new = |at: &usize| providers.get(*at).is_some_and(|id| self.catalogs.is_coming(id));
        let (new, known): (Vec<usize>, Vec<usize>) = (0..providers.len()).partition(new);
        // Calls wait for those of whom nothing is known, and not for the others.
        let first = async {
            self.round(&new).await;
            self.catalogs.came();
        };
        tokio::join!(first, self.round(&known));
        tokio::join!(join_all((0..providers.len()).map(|at| self.poll(at))), self.refresh());
    }

    /// Asks some brokers. All of one round are named together, so that which one answers first decides nothing.
    async fn round(&self, places: &[usize]) {
        let readings = places.iter().map(|at| async move { (*at, timeout(FIRST, self.read(*at)).await) });
        let first: Vec<_> = futures_util::stream::iter(readings).buffered(AT_ONCE).collect().await;
        let mut changed = Vec::new();
        for (at, reading) in first {
            let reading = reading.unwrap_or_else(|_| Err(Error::internal("no answer in time")));
            changed.extend(self.take(at, reading).await);
        }
        self.settle(&changed).await;
    }

    /// Asks a broker at once when an operator wants that.
    async fn refresh(&self) {
        loop {
            let wanted = self.background.refreshed().await;
            let at = self.providers().iter().position(|id| *id == wanted);
            if let Some(at) = at {
                self.once(at).await;
            }
        }
    }

    /// Reads a catalog and takes it in; whether it could be read.
    async fn once(&self, at: usize) -> bool {
        let reading = timeout(PATIENCE, self.read(at)).await;
        let reading = reading.unwrap_or_else(|_| Err(Error::internal("no answer in time")));
        let was_read = reading.is_ok();
        if let Some(changed) = self.take(at, reading).await {
            self.settle(&[changed]).await;
        }
        was_read
    }

    async fn poll(&self, at: usize) {
        let mut failures = 0;
        loop {
            let Some(interval) = self.settings(at).map(|settings| settings.catalog_refresh) else { return };
            sleep(if failures == 0 {
                backoff(0, (interval, interval))
            } else {
                backoff(failures - 1, (AGAIN.min(interval), interval))
            })
            .await;
            failures = if self.once(at).await { 0 } else { failures.saturating_add(1) };
        }
    }

    fn settings(&self, at: usize) -> Option<ProviderSettings> {
        self.now.borrow().members.get(at).map(|member| ProviderSettings::of(&member.provider))
    }

    fn provider(&self, at: usize) -> Option<(Provider, Option<String>)> {
        let now = self.now.borrow();
        Some((now.members.get(at)?.provider.clone(), now.etags.get(at)?.clone()))
    }

    /// Asks a broker for its catalog.
    async fn read(&self, at: usize) -> Result<Reading> {
        let Some((provider, etag)) = self.provider(at) else { return Ok(Reading::Same) };
        let mut query = question::catalog(&ProviderSettings::of(&provider).api_version);
        if let Some(etag) = etag.and_then(|etag| etag.parse().ok()) {
            query.headers_mut().insert(IF_NONE_MATCH, etag);
        }
        let answer = self.background.query(&Target::from(&provider), query).await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(Reading::Same);
        }
        if answer.status() != StatusCode::OK {
            let text = format!("{} answered {} to GET /v2/catalog", provider.id, answer.status());
            return Err(Error::nonsense(provider.id, text));
        }
        let etag = answer.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let snapshot = Snapshot::of(&answer).map_err(|bad| {
            Error::nonsense(provider.id.clone(), format!("the catalog of {} is refused: {bad}", provider.id))
        })?;
        Ok(Reading::New(Box::new(Known { snapshot: Some(Arc::new(snapshot)), etag, ..Known::default() })))
    }

    /// Takes a reading in; the provider, if its catalog changed.
    async fn take(&self, at: usize, reading: Result<Reading>) -> Option<ProviderId> {
        let id = self.provider(at)?.0.id;
        let known = match reading {
            Ok(Reading::Same) => None,
            Ok(Reading::New(known)) => Some(known),
            Err(error) => {
                if self.is_news(at, Reach::Lost) {
                    self.tell("catalog.unreachable", &id, json!({ "reason": error.public() })).await;
                }
                tracing::warn!(provider = %id, error = error.log_text(), "the catalog cannot be read; the last good one stays, if there is one");
                self.background.note(&id, STALE, Some(error.public()), None);
                return None;
            }
        };
        self.background.note(&id, STALE, None, None);
        if self.is_news(at, Reach::There) {
            self.tell("catalog.recovered", &id, json!({})).await;
        }
        let mut known = known?;
        {
            let mut now = self.now.borrow_mut();
            *now.etags.get_mut(at)? = known.etag.clone();
            let member = now.members.get_mut(at)?;
            let same = |old: &Arc<Snapshot>, new: &Arc<Snapshot>| old.body == new.body;
            let (old, new) = (member.snapshot.as_ref(), known.snapshot.as_ref());
            if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
                return None;
            }
            let earlier: HashSet<String> = {
                let (services, plans) = member.ids();
                services.into_iter().chain(plans).collect()
            };
            member.snapshot.clone_from(&known.snapshot);
            known.prefix = Some(member.prefix.to_string());
            let (services, plans) = member.ids();
            let present: HashSet<String> = services.into_iter().chain(plans).collect();
            let withdrawn = earlier.iter().chain(&*member.withdrawn).filter(|id| !present.contains(*id));
            member.withdrawn = Arc::new(withdrawn.take(MOST_WITHDRAWN).cloned().collect());
            known.withdrawn = member.withdrawn.clone();
        }
        if let Err(error) = stored::write(&*self.state, &id, &known).await {
            tracing::error!(provider = %id, error = error.log_text(), "the catalog cannot be kept for later");
        }
        Some(id)
    }

    /// Whether a broker is reached otherwise than it was.
    fn is_news(&self, at: usize, reach: Reach) -> bool {
        let mut now = self.now.borrow_mut();
        now.reached.get_mut(at).is_some_and(|before| std::mem::replace(before, reach) != reach)
    }

    /// Puts something into the feed that changes no record.
    async fn tell(&self, kind: &'static str, provider: &ProviderId, payload: serde_json::Value) {
        let event = Change::Event(NewEvent::new(kind, &payload).at(provider.clone()));
        if let Err(error) = self.state.commit(vec![event]).await {
            tracing::error!(%provider, kind, error = error.log_text(), "the feed lacks an event");
        }
    }

    /// Names what is new, and lets everybody see what has changed.
    async fn settle(&self, changed: &[ProviderId]) {
        let _turn = self.writing.lock().await;
        let names = {
            let now = self.now.borrow();
            now.names.clone().with(&now.members)
        };
        if self.now.borrow().names != names {
            // A name that is not kept might be given to another after a restart.
            if let Err(error) = stored::write_names(&*self.state, &names).await {
                tracing::error!(error = error.log_text(), "names of services cannot be kept");
            }
            self.now.borrow_mut().names = names;
        }
        self.publish(changed);
    }

    fn publish(&self, changed: &[ProviderId]) {
        let now = self.now.borrow();
        let changed: HashSet<&ProviderId> = changed.iter().collect();
        let mut indexes = Vec::new();
        for member in now.members.iter().filter(|member| changed.contains(&member.provider.id)) {
            let (services, plans) = member.ids();
            let services = services.into_iter().map(|id| Hint::new(SERVICE, id));
            let plans = plans.into_iter().map(|id| Hint::new(PLAN, id));
            let withdrawn = member
                .withdrawn
                .iter()
                .flat_map(|id| [Hint::new(SERVICE, id.as_str()), Hint::new(PLAN, id.as_str())]);
            let hints = services.chain(plans).chain(withdrawn).collect();
            indexes.push((member.provider.id.clone(), hints));
        }
        self.background.publish_indexes(indexes);
        let conflicts = merge::conflicts(&now.members);
        for member in &now.members {
            let mine = conflicts.iter().filter(|(provider, _)| *provider == member.provider.id);
            let lines: Vec<&str> = mine.map(|(_, text)| text.as_str()).collect();
            let text = (!lines.is_empty()).then(|| lines.join("; "));
            self.background.note(&member.provider.id, CONFLICT, text.as_deref(), None);
        }
        let generation = Generation::new(now.members.clone(), now.names.clone());
        self.catalogs.replace(generation);
    }
}
