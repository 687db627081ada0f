//! Instances and bindings on behalf of an extension, as a platform would ask for them: claimed, written down, settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{
    Answer, Background, CallId, Caller, Change, Error, ErrorKind, Fault, Federation, Hint, Mapping,
    MappingState, Provider, ProviderId, Query, Resource, Result, Target,
};

use super::Brokers;
use super::dialect::{BINDING, INSTANCE, PLAN, SERVICE};
use super::ids::Ids;
use super::operations::{Heard, Made, Operation, OperationId, OperationKind};
use super::prefix;
use super::question::{self, Asked};
use super::recording;
use super::settings::ProviderSettings;
use super::tell::About;

/// Mappings of one id that are looked at.
const NAMED: usize = 1000;

/// Through whom a broker is asked: during a call, or for a caller who has left.
#[derive(Clone, Copy)]
pub(crate) enum Through<'a> {
    /// A call; what it creates is claimed for its caller.
    Call(&'a dyn Federation),
    /// A job; what it creates must have been claimed by the call that began it ([`Place::claim`]).
    Job(&'a dyn Background),
}

/// Asks brokers for one caller.
#[derive(Clone)]
pub(crate) struct Client<'a> {
    brokers: &'a Brokers,
    through: Through<'a>,
    caller: Arc<Caller>,
}

/// Where an instance or binding is, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The instance or binding; see [`instance`] and [`binding`].
    pub resource: Resource,
    /// The broker.
    pub provider: ProviderId,
    /// The id of the service on the federated face.
    pub service_id: String,
    /// The id of the plan on the federated face.
    pub plan_id: String,
}

/// A broker's answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its body, as far as it is a JSON object. It may hold credentials.
    pub body: Map<String, Value>,
    /// When the broker wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// An instance of a caller.
pub(crate) fn instance(caller: &Caller, id: &str) -> Resource {
    scoped(caller, Resource::new(INSTANCE, id))
}

/// A binding of an instance of a caller.
pub(crate) fn binding(caller: &Caller, instance: &str, id: &str) -> Resource {
    scoped(caller, Resource::new(BINDING, id).within(instance))
}

fn scoped(caller: &Caller, resource: Resource) -> Resource {
    Resource { scope: super::dialect::scope(Some(caller)), ..resource }
}

impl Place {
    /// Lets a caller do here through an extension only what access rules let it do through `/v2`.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn admit(&self, method: &Method, fed: &dyn Federation) -> Result<()> {
        if fed.may_do(method, &self.provider, &self.resource) {
            return Ok(());
        }
        let kind = self.resource.kind.as_str().replace('_', " ");
        let text = format!("{method} of a {kind} at {} is not allowed to this caller", self.provider);
        Err(Error::new(ErrorKind::Forbidden, Fault::Caller, text))
    }

    /// Whether another tenant has this id here. Ids that are made of names can be computed by anybody: what is made under one
    /// would be shared with whoever took it first, since the broker answers its repetition as a success.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn is_anothers(&self, fed: &dyn Federation) -> Result<bool> {
        let Resource { kind, id, parent, scope } = &self.resource;
        let is_anothers = |row: &Mapping| {
            row.provider == self.provider
                && row.state != MappingState::Gone
                && row.resource.parent == *parent
                && row.resource.scope != *scope
        };
        Ok(fed.mappings(kind, id, NAMED).await?.iter().any(is_anothers))
    }

    /// Claims for the caller of a call what a job will create here.
    ///
    /// # Errors
    /// The caller does not see it, or may not create it, or another tenant has it.
    pub(crate) async fn claim(&self, fed: &dyn Federation) -> Result<Change> {
        self.admit(&Method::PUT, fed)?;
        if self.is_anothers(fed).await? {
            let text =
                format!("{} exists already at {}, and is another tenant's", self.resource, self.provider);
            return Err(
                Error::conflict(text).advise("choose another name, as of the app, the channel or the pipe")
            );
        }
        let hints = vec![Hint::new(SERVICE, &*self.service_id), Hint::new(PLAN, &*self.plan_id)];
        fed.claim(self.resource.clone(), &Target::provider(self.provider.clone()), hints)
    }
}

impl<'a> Client<'a> {
    /// Asks for a caller.
    pub(crate) fn new(brokers: &'a Brokers, through: Through<'a>, caller: Arc<Caller>) -> Self {
        Self { brokers, through, caller }
    }

    /// Provisions an instance or creates a binding. `body` holds what a platform sends beside the ids of service and plan,
    /// which are added. An answer of 202 has an `operation` to be polled.
    ///
    /// # Errors
    /// The broker could not be asked, or nobody knows what became of it; the operation is written down either way.
    pub(crate) async fn create(&self, place: &Place, body: Map<String, Value>) -> Result<Reply> {
        self.change(place, OperationKind::Create, body).await
    }

    /// Updates an instance: to the plan of `place`, and to what `body` says.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub(crate) async fn update(&self, place: &Place, body: Map<String, Value>) -> Result<Reply> {
        self.change(place, OperationKind::Update, body).await
    }

    /// Deprovisions an instance or deletes a binding.
    ///
    /// # Errors
    /// As [`Client::create`].
    pub(crate) async fn delete(&self, place: &Place) -> Result<Reply> {
        self.change(place, OperationKind::Delete, Map::new()).await
    }

    /// Asks how an operation goes: an answer of 200 has a `state`; 410 says that a deletion is done.
    ///
    /// # Errors
    /// The broker could not be asked.
    pub(crate) async fn poll(&self, place: &Place, operation: Option<&str>) -> Result<Reply> {
        let provider = self.provider(&place.provider)?;
        let settings = ProviderSettings::of(&provider);
        let (service_id, plan_id) = own_ids(&settings, place);
        let asked = Asked { method: Method::GET, resource: &place.resource, service_id, plan_id };
        let query = question::last_operation(&asked, operation, &settings.api_version);
        let reply = reply(&self.ask(&Target::from(&provider), query).await?, &provider.id);
        let heard = Heard::Polled(reply.status, &reply.body, reply.retry_after);
        let at = (&place.provider, &place.resource);
        self.brokers.operations.polled(at, operation, heard).await?;
        Ok(reply)
    }

    /// Fetches an instance or binding.
    ///
    /// # Errors
    /// The broker could not be asked.
    pub(crate) async fn fetch(&self, place: &Place) -> Result<Reply> {
        let provider = self.provider(&place.provider)?;
        let query = question::read(&place.resource, &ProviderSettings::of(&provider).api_version);
        Ok(reply(&self.ask(&Target::from(&provider), query).await?, &provider.id))
    }

    async fn change(
        &self,
        place: &Place,
        kind: OperationKind,
        mut body: Map<String, Value>,
    ) -> Result<Reply> {
        let provider = self.provider(&place.provider)?;
        let settings = ProviderSettings::of(&provider);
        let (service_id, plan_id) = own_ids(&settings, place);
        let ids = Ids {
            service: Some(place.service_id.clone()),
            plan: Some(place.plan_id.clone()),
            ..Ids::default()
        };
        let about = About {
            resource: &place.resource,
            provider: &place.provider,
            ids: &ids,
            body: &body,
            caller: &self.caller,
        };
        let id = OperationId(CallId::from_bits(fastrand::u128(..)).to_string());
        let made_by = match self.through {
            Through::Call(fed) => {
                let at = (&place.provider, &place.resource);
                recording::made(&self.brokers.operations, kind, at, fed).await?
            }
            Through::Job(_) => Made::Earlier,
        };
        let operation = Operation {
            made: made_by,
            ..recording::new(&self.brokers.catalogs.now(), about, (id, kind), &settings)
        };
        let version = &settings.api_version;
        let query = if kind == OperationKind::Delete {
            let asked = Asked { method: Method::DELETE, resource: &place.resource, service_id, plan_id };
            question::request(&asked, version)
        } else {
            body.insert("service_id".into(), place.service_id.clone().into());
            body.insert("plan_id".into(), place.plan_id.clone().into());
            let method = if kind == OperationKind::Create { Method::PUT } else { Method::PATCH };
            let body = Bytes::from(Value::from(body).to_string());
            let body = prefix::off_body(&body, &settings.id_prefix).unwrap_or(body);
            question::with_body(method, &place.resource, version, body)
        };
        self.brokers.operations.begin(&operation).await?;
        let target = Target::from(&provider);
        let answered = match (kind, self.through) {
            (OperationKind::Create, Through::Call(fed)) => {
                fed.create(&place.resource, &target, made(query)?).await
            }
            _ => self.ask(&target, query).await,
        };
        let answered = answered.map(|answer| reply(&answer, &provider.id));
        let heard = match &answered {
            Ok(reply) => Heard::Answered(reply.status, &reply.body),
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Nonsense) => Heard::Lost,
            Err(_) => Heard::NotSent,
        };
        self.brokers.operations.heard(&operation, heard).await?;
        answered
    }

    fn provider(&self, id: &ProviderId) -> Result<Provider> {
        let found = match self.through {
            Through::Call(fed) => fed.provider(id),
            Through::Job(background) => {
                background.providers().into_iter().find(|provider| provider.id == *id)
            }
        };
        found.ok_or_else(|| Error::could_not_ask(format!("what is at {id}"), vec![id.clone()]))
    }

    async fn ask(&self, target: &Target, query: Option<Query>) -> Result<Answer> {
        match self.through {
            Through::Call(fed) => fed.query(target, made(query)?).await,
            Through::Job(background) => background.query(target, made(query)?).await,
        }
    }
}

fn made(query: Option<Query>) -> Result<Query> {
    query.ok_or_else(|| Error::bad_request("no request to a broker can be made of these ids"))
}

fn reply(answer: &Answer, from: &ProviderId) -> Reply {
    let retry_after = question::retry_after(answer.headers());
    let body = question::said(answer.headers(), answer.body(), from);
    Reply { status: answer.status(), retry_after, body }
}

/// The ids of a place as its broker knows them.
fn own_ids<'a>(settings: &ProviderSettings, place: &'a Place) -> (&'a str, &'a str) {
    let own = |id: &'a str| id.strip_prefix(&settings.id_prefix).unwrap_or(id);
    (own(&place.service_id), own(&place.plan_id))
}
