//! The job of a pipe: step by step to what it comes to, through crashes and outages.
//!
//! Each step asks the broker something that may be asked again, then writes what came of it in one transaction. Whoever
//! changes a pipe meanwhile (an update, a deletion) wins: the step is looked at anew. Instances and bindings are claimed by
//! the call that asks for them, and what came to nothing is unclaimed.

use std::time::Duration;

use serde_json::{Map, Value};
use standpipe_api::{Background, Change, Job, JobOutcome, Result, Timestamp, backoff};

use super::heard::{self, Heard};
use super::news;
use super::record::{
    Blame, Bound, Errand, Farewell, Goal, Instance, Kept, Step, Stored, Trouble, decode, encode,
};
use super::services::{Services, Written};
use crate::cloudpipe::broker::push::address;
use crate::osb::client::{Client, Place, Through};

/// Between attempts, and between polls where the broker does not say: the first wait, and the longest.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is to be written after a step, and what the job does then.
pub(super) struct Next {
    pub(super) bound: Box<Bound>,
    pub(super) others: Vec<Change>,
    pub(super) then: Then,
}

/// What the job does.
#[derive(Debug)]
pub(super) enum Then {
    /// The next step.
    GoOn,
    /// The same again, after a while.
    Wait(Option<Duration>, String),
    /// Nothing is left to be done.
    Rest,
    /// It cannot go on: an operator sees why.
    Stuck(String),
}

impl Next {
    pub(super) fn new(bound: Bound, then: Then) -> Self {
        Self { bound: Box::new(bound), others: Vec::new(), then }
    }
}

impl Services {
    /// Brings a pipe on.
    pub(super) async fn advance(
        &self,
        errand: &Errand,
        job: &Job,
        background: &dyn Background,
    ) -> JobOutcome {
        loop {
            match self.turn(errand, background).await {
                Ok(Then::GoOn) => {}
                Ok(Then::Rest) => return JobOutcome::Done,
                Ok(Then::Stuck(why)) => return JobOutcome::Failed(why),
                Ok(Then::Wait(delay, reason)) => return again(job, delay, reason),
                Err(error) => return again(job, None, error.log_text()),
            }
        }
    }

    async fn turn(&self, errand: &Errand, background: &dyn Background) -> Result<Then> {
        let Some(stored) = self.load(errand).await? else { return Ok(Then::Rest) };
        let client = Client::new(&self.brokers, Through::Job(background), stored.bound.caller());
        let bound = stored.bound.clone();
        let mut next = match bound.step {
            Step::Provision | Step::Bind => self.make(bound, &client).await?,
            Step::Ready if bound.news.is_some() => news::tell(self, bound, &client, background).await?,
            Step::Ready if bound.previous.is_some() => self.delete(bound, &client).await?,
            Step::Unbind | Step::Deprovision => self.delete(bound, &client).await?,
            Step::Ready | Step::Failed => Next::new(bound, Then::Rest),
        };
        if next.bound.step == Step::Failed && stored.bound.step != Step::Failed {
            next.others.extend(next.bound.unclaim());
        }
        let written = if next.bound.goal == Goal::Gone && next.bound.step == Step::Failed {
            self.remove(errand, &stored, next.others).await?
        } else if *next.bound == stored.bound && next.others.is_empty() {
            Written::Done
        } else {
            self.write(&next.bound, Some(&stored), next.others).await?
        };
        Ok(if written == Written::Done { next.then } else { Then::GoOn })
    }

    async fn make(&self, bound: Bound, client: &Client<'_>) -> Result<Next> {
        let place = match bound.step {
            Step::Provision => bound.instance_place(),
            _ => bound.binding_place(&bound.binding),
        };
        let heard = match &bound.polled {
            Some(polled) => heard::creating(client.poll(&place, polled.operation.as_deref()).await, polled),
            None => heard::created(client.create(&place, body(&bound)).await),
        };
        let waited_for = bound.polled.is_some();
        Ok(match self.in_time(&bound, heard) {
            Heard::Done(_) if bound.step == Step::Provision => Next::new(bound.at(Step::Bind), Then::GoOn),
            Heard::Done(told) => {
                let told = if waited_for { fetched(&bound, &place, client).await? } else { told };
                self.bound(bound, told).await?
            }
            Heard::Refused(why, blame) => Next::new(refused(bound, why, blame), Then::GoOn),
            Heard::Going(polled, wait) => {
                let then = Then::Wait(wait, "the broker is at it".to_owned());
                Next::new(Bound { polled: Some(polled), trouble: None, ..bound }, then)
            }
            Heard::Later(why, wait) => later(bound, why, wait),
        })
    }

    /// There is a binding: whoever waits for the credentials gets them.
    async fn bound(&self, bound: Bound, told: Map<String, Value>) -> Result<Next> {
        let (errand, mut others) = (bound.errand(), Vec::new());
        if !bound.plan.retrievable {
            let until =
                (!self.settings().keep_credentials).then(|| Timestamp::now().plus(self.settings().hand_over));
            let kept = Kept { binding: bound.binding.clone(), data: bound.data(told), until };
            let key = errand.secret_key();
            let expected = self.state()?.get(&key).await?.map(|record| record.revision);
            others.push(Change::Put { key, value: encode(&kept)?, expected });
            if until.is_some() {
                others.push(Change::Schedule(errand.removal(self.settings().hand_over)?));
            }
        }
        let news = address(&bound.pipe.other).map(|_| Timestamp::now());
        let bound = Bound { news, trouble: None, ..bound.at(Step::Ready) };
        Ok(Next { others, ..Next::new(bound, Then::GoOn) })
    }

    async fn delete(&self, bound: Bound, client: &Client<'_>) -> Result<Next> {
        let place = match (bound.step, &bound.previous) {
            (Step::Deprovision, _) => bound.instance_place(),
            (Step::Ready, Some(previous)) => bound.binding_place(previous),
            _ => bound.binding_place(&bound.binding),
        };
        let heard = match &bound.polled {
            Some(polled) => heard::deleting(client.poll(&place, polled.operation.as_deref()).await, polled),
            None => heard::deleted(client.delete(&place).await),
        };
        Ok(match self.in_time(&bound, heard) {
            Heard::Done(_) => Next::new(after_deletion(bound), Then::GoOn),
            Heard::Going(polled, wait) => {
                let then = Then::Wait(wait, "the broker is at it".to_owned());
                Next::new(Bound { polled: Some(polled), ..bound }, then)
            }
            // The deletion is asked for anew until it is given up.
            Heard::Refused(why, Blame::Broker) if self.has_time(&bound) => {
                later(Bound { polled: None, ..bound }, why, None)
            }
            Heard::Refused(why, blame) => {
                let trouble = Some(Trouble { text: why.clone(), blame });
                Next::new(Bound { trouble, ..bound }, Then::Stuck(why))
            }
            Heard::Later(why, wait) => later(bound, why, wait),
        })
    }

    /// What takes too long is refused.
    fn in_time(&self, bound: &Bound, heard: Heard) -> Heard {
        match heard {
            Heard::Later(why, _) if !self.has_time(bound) => Heard::Refused(why, Blame::Broker),
            Heard::Going(..) if !has_polling_time(bound) => {
                Heard::Refused("the broker did not come to an end in time".to_owned(), Blame::Broker)
            }
            heard => heard,
        }
    }

    fn has_time(&self, bound: &Bound) -> bool {
        if bound.polled.is_some() {
            return has_polling_time(bound);
        }
        Timestamp::now() < bound.since.plus(self.settings().give_up_after)
    }

    /// Nothing of it is left.
    async fn remove(&self, errand: &Errand, stored: &Stored, mut changes: Vec<Change>) -> Result<Written> {
        changes.push(Change::Remove { key: errand.key(), expected: stored.revision });
        for key in [errand.secret_key(), errand.name_key()] {
            if let Some(record) = self.state()?.get(&key).await? {
                changes.push(Change::Remove { key, expected: record.revision });
            }
        }
        changes.push(Change::Cancel(errand.removal(Duration::ZERO)?.id));
        if let Some(uri) = address(&stored.bound.pipe.other).filter(|_| self.settings().tell_deletions) {
            let (gone, uri, since) = (errand.clone(), uri.to_owned(), Timestamp::now());
            changes.push(Change::Schedule(Farewell { gone, uri, since }.job()?));
        }
        self.commit(changes).await
    }

    /// Removes credentials whose time is over; those that the other end is yet to be told stay.
    pub(super) async fn forget(&self, errand: &Errand, job: &Job) -> JobOutcome {
        match self.try_forget(errand).await {
            Ok(None) => JobOutcome::Done,
            Ok(Some(wait)) => again(job, Some(wait), "credentials wait for the other end".to_owned()),
            Err(error) => again(job, None, error.log_text()),
        }
    }

    async fn try_forget(&self, errand: &Errand) -> Result<Option<Duration>> {
        let Some(record) = self.state()?.get(&errand.secret_key()).await? else { return Ok(None) };
        let kept: Kept = decode(&record.value)?;
        let Some(until) = kept.until else { return Ok(None) };
        let left = until.as_millis().saturating_sub(Timestamp::now().as_millis());
        if let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) {
            return Ok(Some(Duration::from_millis(left)));
        }
        if self.load(errand).await?.is_some_and(|stored| stored.bound.news.is_some()) {
            return Ok(Some(WAITS.1));
        }
        let remove = Change::Remove { key: record.key, expected: record.revision };
        // A conflict means that there are new ones, with a job of their own.
        self.commit(vec![remove]).await.map(|_| None)
    }
}

/// The same job once more.
pub(super) fn again(job: &Job, delay: Option<Duration>, reason: String) -> JobOutcome {
    let delay = delay.unwrap_or_else(|| backoff(job.attempts, WAITS));
    JobOutcome::Again { delay, payload: job.payload.clone(), reason }
}

fn later(bound: Bound, why: String, wait: Option<Duration>) -> Next {
    let trouble = Some(Trouble { text: why.clone(), blame: Blame::Broker });
    Next::new(Bound { trouble, ..bound }, Then::Wait(wait, why))
}

fn has_polling_time(bound: &Bound) -> bool {
    Timestamp::now() < bound.since.plus(Duration::from_secs(bound.plan.polling))
}

/// What a platform would send.
fn body(bound: &Bound) -> Map<String, Value> {
    let asked = &bound.asked;
    let context = asked
        .context
        .clone()
        .unwrap_or_else(|| Map::from_iter([("platform".to_owned(), Value::from("standpipe"))]));
    let mut body = Map::new();
    let parameters = match bound.step {
        Step::Provision => {
            // The spec wants both, whatever the platform; brokers that do not know them look at the context.
            for key in ["organization_guid", "space_guid"] {
                let whose = bound.tenant.as_deref().unwrap_or(bound.owner.as_str());
                let value = context.get(key).cloned().unwrap_or_else(|| whose.into());
                body.insert(key.to_owned(), value);
            }
            if let Some(version) = &bound.plan.version {
                body.insert("maintenance_info".to_owned(), serde_json::json!({ "version": version }));
            }
            &asked.parameters
        }
        _ => {
            if let Some(previous) = bound.previous.as_ref().filter(|_| bound.plan.rotatable) {
                body.insert("predecessor_binding_id".to_owned(), previous.as_str().into());
            }
            &asked.binding_parameters
        }
    };
    body.insert("context".to_owned(), context.into());
    if let Some(parameters) = parameters {
        body.insert("parameters".to_owned(), parameters.clone().into());
    }
    body
}

/// A binding that took its time tells its credentials only when it is fetched.
async fn fetched(bound: &Bound, place: &Place, client: &Client<'_>) -> Result<Map<String, Value>> {
    if bound.plan.retrievable {
        return Ok(Map::new());
    }
    Ok(client.fetch(place).await?.body)
}

/// A creation that came to nothing. A rotation leaves the pipe as it was; else what may be there is taken back.
fn refused(bound: Bound, text: String, blame: Blame) -> Bound {
    let trouble = Some(Trouble { text, blame });
    if let Some(previous) = bound.previous.clone() {
        let failed = Some(bound.binding.clone());
        return Bound { binding: previous, previous: failed, trouble, ..bound.at(Step::Ready) };
    }
    let step = match (bound.step, blame, &bound.instance) {
        (Step::Provision, Blame::Caller, _) => Step::Failed,
        (Step::Provision, Blame::Broker, _) => Step::Deprovision,
        (_, Blame::Caller, Instance::Made(_)) => Step::Deprovision,
        (_, Blame::Caller, Instance::Found(_)) => Step::Failed,
        _ => Step::Unbind,
    };
    Bound { goal: Goal::Failed, trouble, ..bound.at(step) }
}

fn after_deletion(bound: Bound) -> Bound {
    let previous = bound.previous.clone();
    match (bound.step, previous) {
        (Step::Ready, _) => Bound { previous: None, ..bound.at(Step::Ready) },
        (Step::Unbind, Some(previous)) => {
            Bound { binding: previous, previous: None, ..bound.at(Step::Unbind) }
        }
        (Step::Unbind, None) if matches!(bound.instance, Instance::Made(_)) => bound.at(Step::Deprovision),
        _ => bound.at(Step::Failed),
    }
}
