//! News from a broker for the other end of one of its pipes: who it is, whether it may say so, and where that is kept until
//! the other broker has it.

use std::rc::Rc;

use bytes::Bytes;
use http::{Request, StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use standpipe_api::{Background, Change, Error, ErrorKind, Provider, Record, Result, Target};
use tokio::sync::{mpsc, oneshot};

use super::address::EndAddress;
use super::deliver;
use super::ends::{self, Own, TRIES};
use super::room::Room;
use crate::cloudpipe::dialect::NAME;
use crate::cloudpipe::settings::ProviderSettings;
use crate::cloudpipe::token::{Claimed, only_data};

/// News as it came.
pub(super) struct News {
    /// The end it is for.
    pub(super) to: EndAddress,
    pub(super) token: SecretString,
    pub(super) body: Bytes,
    pub(super) tell: oneshot::Sender<Heard>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is durable and will be delivered.
    Taken,
    /// The token is not that of a broker with a pipe to this end.
    Refused,
    /// It would change what is not the broker's.
    NotYours,
    /// Nobody could tell now.
    Later,
}

/// What waits to be delivered to an end from another: top-level keys, the newest of each (decision 42).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The address of the end it comes from.
    pub(super) from: String,
    /// Whether everything before it was taken back.
    pub(super) reset: bool,
    pub(super) data: Map<String, Value>,
}

/// Looks at news, each in a task of its own, until the end.
pub(super) async fn listen(mut news: mpsc::Receiver<News>, background: Rc<dyn Background>) {
    let room = Rc::<Room>::default();
    loop {
        tokio::select! {
            () = background.stopped() => return,
            next = news.recv() => {
                let Some(next) = next else { return };
                let (handle, room) = (background.handle(), room.clone());
                background.spawn(Box::pin(async move {
                    let heard = match hear(&next, &room, &*handle).await {
                        Ok(heard) => heard,
                        Err(error) => {
                            tracing::warn!(to = next.to.path(), error = error.log_text(), "news could not be looked at");
                            Heard::Later
                        }
                    };
                    // The broker may have left; it will come again.
                    let _left = next.tell.send(heard);
                }));
            }
        }
    }
}

async fn hear(news: &News, room: &Room, background: &dyn Background) -> Result<Heard> {
    let public_url = background.public_url();
    let refused = |why: &str| {
        tracing::warn!(to = news.to.path(), why, "a broker's token was refused");
        Ok(Heard::Refused)
    };
    let providers: Vec<Provider> =
        background.providers().into_iter().filter(|provider| provider.dialect == NAME).collect();
    if !providers.iter().any(|provider| provider.id == news.to.provider) {
        return refused("there is no such provider");
    }
    let Some(claimed) = Claimed::read(&news.token) else { return refused("it is no JWT") };
    if !claimed.is_for(&news.to.uri(&public_url)) {
        return refused("its aud is another address");
    }
    let state = background.state();
    let known = ends::of(&state, &claimed.subject).await?.filter(|(_, own)| own.issuer == claimed.issuer);
    let senders = match &known {
        Some((end, _)) => providers.iter().filter(|one| one.id == end.provider).collect(),
        None => possible(&claimed, &providers, background).await?,
    };
    for provider in senders {
        match background.verifier().verify_at(&news.token, &keys_url(provider)).await {
            Ok(claims) if claimed.fits(&claims) => {}
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                tracing::debug!(provider = %provider.id, error = error.log_text(), "not signed by this provider");
                continue;
            }
            Err(error) => return Err(error),
        }
        let from = match &known {
            Some((end, _)) => end.clone(),
            None => match read_sender(provider, &providers, &claimed, background).await? {
                Some(end) => end,
                None => return refused("its sub is no pipe of the broker that signed it"),
            },
        };
        let Some(data) = only_data(&news.body) else { return Ok(Heard::NotYours) };
        keep((news, room), &from.uri(&public_url), data, background).await?;
        return Ok(Heard::Taken);
    }
    refused("no broker that could have signed it did")
}

/// The providers that may have signed a token of an unknown sender: those that sign as its issuer, or whose issuer nobody has
/// seen yet and whose pipe it could be.
async fn possible<'a>(
    claimed: &Claimed,
    providers: &'a [Provider],
    background: &dyn Background,
) -> Result<Vec<&'a Provider>> {
    let mut possible = Vec::new();
    for provider in providers {
        let is_possible = match ends::issuer(&background.state(), provider).await? {
            Some(issuer) => issuer == claimed.issuer,
            None => EndAddress::at(provider, &claimed.subject).is_some(),
        };
        if is_possible {
            possible.push(provider);
        }
    }
    Ok(possible)
}

/// Reads the pipe that a token names at its broker: brokers push before their answer to its creation has arrived
/// (decision 39). `None`: the broker has no such pipe, or calls it otherwise.
///
/// # Errors
/// The broker cannot be asked, or does not have it yet.
async fn read_sender(
    provider: &Provider,
    providers: &[Provider],
    claimed: &Claimed,
    background: &dyn Background,
) -> Result<Option<EndAddress>> {
    let Some(end) = EndAddress::at(provider, &claimed.subject).or_else(|| tail(provider, &claimed.subject))
    else {
        return Ok(None);
    };
    let absent =
        || Error::could_not_ask(format!("{} of {}", end.own_path(), provider.id), vec![provider.id.clone()]);
    let own = read_own(provider, &end, background).await?.ok_or_else(absent)?;
    if own.uri != claimed.subject || own.issuer != claimed.issuer {
        return Ok(None);
    }
    ends::remember(&background.state(), providers, &end, &own, &background.public_url()).await?;
    Ok(Some(end))
}

/// The pipe at the end of an address that a broker gave itself, whatever stands in front of it.
fn tail(provider: &Provider, uri: &str) -> Option<EndAddress> {
    let (front, pipe) = uri.rsplit_once("/pipes/")?;
    let (_, resource) = front.rsplit_once('/')?;
    EndAddress::read(provider.id.clone(), resource, &format!("/pipes/{pipe}"))
        .filter(|end| !end.pipe.is_empty())
}

/// What a broker says it calls one of its pipes; `None`: it has no such pipe.
pub(super) async fn read_own(
    provider: &Provider,
    end: &EndAddress,
    background: &dyn Background,
) -> Result<Option<Own>> {
    let query = Request::get(end.own_path()).body(Bytes::new());
    let query = query.map_err(|error| Error::internal("no question for a pipe").because(error))?;
    let answer = background.query(&Target::from(provider), query).await?;
    match answer.status() {
        status if status.is_success() => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        status => {
            let text = format!("{} answered {status} when it was asked for {}", provider.id, end.own_path());
            return Err(Error::nonsense(provider.id.clone(), text));
        }
    }
    let pipe: Value = serde_json::from_slice(answer.body())
        .map_err(|_| Error::nonsense(provider.id.clone(), format!("{}'s pipe is no JSON", provider.id)))?;
    let text = |name: &str| pipe.get("this")?.get(name)?.as_str().map(str::to_owned);
    Ok(text("uri").zip(text("issuer")).map(|(uri, issuer)| Own { uri, issuer }))
}

/// Where a provider's keys are: through its own address, whatever its issuer is called (decision 40).
fn keys_url(provider: &Provider) -> String {
    if let Some(url) = ProviderSettings::of(provider).and_then(|settings| settings.jwks_url.clone()) {
        return url;
    }
    let base = provider.url.split_once("/{").map_or(provider.url.as_str(), |(base, _)| base);
    format!("{base}/.well-known/jwks.json")
}

/// The key of what waits to be delivered from one end to another.
fn key(news: &News, from: &str) -> String {
    let from = crate::path::encode(from).into_owned();
    format!("news/{}/{from}", news.to.path().trim_start_matches("/ends/"))
}

/// Keeps news durably, merged with what is not delivered yet, with the job that delivers it.
async fn keep(
    (news, room): (&News, &Room),
    from: &str,
    data: Option<Map<String, Value>>,
    background: &dyn Background,
) -> Result<()> {
    let (state, key) = (background.state(), key(news, from));
    for _ in 0..TRIES {
        let record: Option<Record> = state.get(&key).await?;
        // What was refused for good, given up or dropped is over: only what still waits is merged with.
        let waits = state.waits(&deliver::job_id(&key)).await?;
        let mut waiting: Waiting = match record.as_ref().filter(|_| waits) {
            Some(record) => serde_json::from_slice(&record.value)
                .map_err(|error| Error::internal("news that wait cannot be read").because(error))?,
            None => Waiting { from: from.to_owned(), ..Waiting::default() },
        };
        match &data {
            None => waiting = Waiting { from: from.to_owned(), reset: true, data: Map::new() },
            Some(keys) => waiting.data.extend(keys.clone()),
        }
        if record.is_none() {
            room.take(&news.to.provider, &*state).await?;
        }
        let expected = record.map(|record| record.revision);
        let put = Change::Put { key: key.clone(), value: ends::encode(&waiting)?, expected };
        let job = deliver::job(&key, &news.to, standpipe_api::Timestamp::now())?;
        if state.commit(vec![put, Change::Schedule(job)]).await?.is_ok() {
            return Ok(());
        }
    }
    Err(Error::internal("news for one end come from too many at once"))
}
