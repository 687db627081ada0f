//! What the engine needs to know of OSB (spec 2.17): where a request goes, and what an answer means.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{
    Answer, Body, CallId, Caller, Dialect, Effect, Error, ErrorKind, Face, Hint, Kind, Operation, Outcome,
    Preference, Problems, ProviderId, Query, RequestView, Resource, Rest, Route, Scope, Settings, Unroutable,
    Verdict,
};

use super::Brokers;
use super::catalog::Snapshot;
use super::ids::Ids;
use super::question;
use super::settings::ProviderSettings;

/// The word in `dialect = "osb"`.
pub(super) const NAME: &str = "osb";
/// A service instance; its id is the platform's choice.
pub(super) const INSTANCE: Kind = Kind::of("service_instance");
/// A service binding, named within its instance.
pub(super) const BINDING: Kind = Kind::of("service_binding");
/// The id of a service offering, as an index knows it.
pub(super) const SERVICE: Kind = Kind::of("service");
/// The id of a plan, as an index knows it.
pub(super) const PLAN: Kind = Kind::of("plan");

/// The version of the API a platform speaks.
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
/// Names one request of a platform (spec, "Request Identity").
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");

pub(super) const CATALOG: Operation = Operation::new("catalog", Effect::Read);
pub(super) const PROVISION: Operation = Operation::new("provision", Effect::Create);
pub(super) const UPDATE: Operation = Operation::new("update-instance", Effect::Update);
pub(super) const DEPROVISION: Operation = Operation::new("deprovision", Effect::Delete);
pub(super) const FETCH: Operation = Operation::new("fetch-instance", Effect::Read);
pub(super) const POLL: Operation = Operation::new("poll-instance", Effect::Poll);
pub(super) const BIND: Operation = Operation::new("bind", Effect::Create);
pub(super) const UNBIND: Operation = Operation::new("unbind", Effect::Delete);
pub(super) const FETCH_BINDING: Operation = Operation::new("fetch-binding", Effect::Read);
pub(super) const POLL_BINDING: Operation = Operation::new("poll-binding", Effect::Poll);

/// The OSB dialect.
pub struct OsbDialect {
    brokers: Arc<Brokers>,
}

impl OsbDialect {
    /// Knows services and plans from the brokers' catalogs.
    pub fn new(brokers: Arc<Brokers>) -> Self {
        Self { brokers }
    }

    /// Why the ids of a request lead to no broker.
    fn why_nowhere(&self, operation: Operation, request: &RequestView<'_>, ids: &Ids) -> &'static str {
        if self.needs_body(operation) && !request.body.is_some_and(Ids::can_be_in) {
            return "the body is no JSON object, so that nothing tells which broker it is for";
        }
        match (&ids.service, &ids.plan) {
            (None, None) => "there is neither a service_id nor a plan_id to tell which broker it is for",
            _ => "service_id and plan_id are of no service in the catalog",
        }
    }
}

impl Dialect for OsbDialect {
    fn name(&self) -> &'static str {
        NAME
    }

    fn face(&self) -> Face {
        Face { name: NAME, roots: &["v2"], owns_the_rest: Rest::NotOwned }
    }

    fn operations(&self) -> Vec<(Route, Operation)> {
        let read = |pattern: &str| Route::of([Method::GET, Method::HEAD], pattern);
        let instance = "/v2/service_instances/{instance}";
        let binding = "/v2/service_instances/{instance}/service_bindings/{binding}";
        vec![
            (read("/v2/catalog"), CATALOG),
            (Route::put(instance), PROVISION),
            (Route::patch(instance), UPDATE),
            (Route::delete(instance), DEPROVISION),
            (read(instance), FETCH),
            (read(&format!("{instance}/last_operation")), POLL),
            (Route::put(binding), BIND),
            (Route::delete(binding), UNBIND),
            (read(binding), FETCH_BINDING),
            (read(&format!("{binding}/last_operation")), POLL_BINDING),
            // Brokers of some platforms have more; it goes where the instance is, or to the only broker.
            (Route::any(&format!("{binding}/{{*rest}}")), Operation::OTHER),
            (Route::any(&format!("{instance}/{{*rest}}")), Operation::OTHER),
            (Route::any(instance), Operation::OTHER),
            (Route::any("/v2/{*rest}"), Operation::OTHER),
            (Route::any("/v2"), Operation::OTHER),
        ]
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![INSTANCE, BINDING]
    }

    fn provider_settings(&self, table: &toml::Table) -> Result<Settings, Problems> {
        ProviderSettings::read(table).map(Settings::new)
    }

    fn needs_body(&self, operation: Operation) -> bool {
        matches!(operation, PROVISION | UPDATE | BIND)
    }

    fn names(&self, _operation: Operation, request: &RequestView<'_>) -> Vec<Resource> {
        let (instance, binding) = (request.params.get("instance"), request.params.get("binding"));
        if instance.is_empty() {
            return Vec::new();
        }
        let bound = (!binding.is_empty()).then(|| Resource::new(BINDING, binding).within(instance));
        bound.into_iter().chain([Resource::new(INSTANCE, instance)]).collect()
    }

    fn callers_choose_ids(&self) -> bool {
        true
    }

    fn begins(&self, operation: Operation) -> bool {
        operation == PROVISION
    }

    fn hints(&self, operation: Operation, request: &RequestView<'_>) -> Vec<Hint> {
        let ids = ids(self.needs_body(operation), request);
        let service = ids.service.map(|id| Hint::new(SERVICE, id));
        service.into_iter().chain(ids.plan.map(|id| Hint::new(PLAN, id))).collect()
    }

    fn prefer(
        &self,
        hint: &Hint,
        candidates: &[ProviderId],
        sees: &dyn Fn(&ProviderId) -> bool,
    ) -> Preference {
        let (catalogs, id) = (&self.brokers.catalogs, hint.value.as_str());
        if hint.kind == PLAN {
            return match candidates {
                [only] if catalogs.shows_plan(id, only, sees) => Preference::One(only.clone()),
                // An id that several services have leads nowhere; the service does.
                _ => Preference::Nobody,
            };
        }
        catalogs.first_with(id, candidates, sees).map_or(Preference::Nobody, Preference::One)
    }

    fn unroutable(&self, operation: Operation, request: &RequestView<'_>, seen: &[ProviderId]) -> Unroutable {
        if let Some(refusal) = version_refused(request.headers) {
            return Unroutable::Answer(refusal);
        }
        match operation {
            Operation::OTHER if request.params.get("instance").is_empty() => {
                return Unroutable::Answer(verdict(StatusCode::NOT_FOUND, "nothing is served at this path"));
            }
            FETCH | FETCH_BINDING | Operation::OTHER => return Unroutable::Search,
            _ => {}
        }
        let ids = ids(self.needs_body(operation), request);
        if operation == BIND && ids.service.is_none() && ids.predecessor.is_some() {
            return Unroutable::Search;
        }
        let unheard = self.brokers.catalogs.unheard(seen);
        if !unheard.is_empty() {
            return Unroutable::Unheard(unheard);
        }
        Unroutable::Answer(match operation {
            DEPROVISION | UNBIND if ids.service.is_some() && ids.plan.is_some() => {
                verdict(StatusCode::GONE, "no broker knows this instance, its service or its plan")
            }
            POLL | POLL_BINDING => verdict(StatusCode::NOT_FOUND, "no operation of this instance is known"),
            _ => verdict(StatusCode::BAD_REQUEST, self.why_nowhere(operation, request, &ids)),
        })
    }

    fn echoes(&self) -> &[HeaderName] {
        static ECHOED: [HeaderName; 1] = [REQUEST_IDENTITY];
        &ECHOED
    }

    fn question(&self, resource: &Resource) -> Option<Query> {
        question::read(resource, "2.17")
    }

    fn greeting(&self) -> Option<Query> {
        Some(question::catalog("2.17"))
    }

    fn keys_in_ids(&self) -> &[&'static str] {
        &["id_prefix"]
    }

    fn accepts_greeting(&self, answer: &Answer) -> Result<(), String> {
        Snapshot::of(answer).map(drop).map_err(|bad| bad.to_string())
    }

    /// An instance never moves, and a 404 proves nothing: brokers give it for what they do not let be fetched, and while they
    /// provision.
    fn may_move(&self, _resource: &Resource) -> bool {
        false
    }

    fn reads_answer(&self, operation: Operation, status: StatusCode) -> bool {
        operation.effect == Effect::Create && status == StatusCode::UNPROCESSABLE_ENTITY
    }

    /// Decision 47. Polls are judged where operations are known; so are deletions, where hooks see them.
    fn judge(&self, operation: Operation, outcome: &Outcome<'_>) -> Verdict {
        let (status, body) = match outcome {
            Outcome::NotSent | Outcome::Lost => return outcome.plain_verdict(operation.effect),
            Outcome::Answered { status, body, .. } => (*status, *body),
        };
        match operation.effect {
            Effect::Create => match status {
                StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::CONFLICT => {
                    Verdict::Live
                }
                StatusCode::UNPROCESSABLE_ENTITY if body.is_some_and(is_concurrency_error) => Verdict::Live,
                StatusCode::REQUEST_TIMEOUT => Verdict::Maybe,
                status if status.is_client_error() => Verdict::Drop,
                _ => Verdict::Maybe,
            },
            Effect::Delete => match status {
                StatusCode::OK | StatusCode::GONE => Verdict::Gone,
                StatusCode::ACCEPTED => Verdict::Deleting,
                _ => Verdict::Keep,
            },
            Effect::Update if status.is_success() => Verdict::Live,
            Effect::Update | Effect::Read | Effect::Poll | Effect::Unknown => Verdict::Keep,
        }
    }

    fn not_found(&self, operation: Operation, error: &Error, call: CallId) -> Response<Body> {
        let status = match operation {
            DEPROVISION | UNBIND => StatusCode::GONE,
            UPDATE | BIND | PROVISION => StatusCode::BAD_REQUEST,
            _ => StatusCode::NOT_FOUND,
        };
        verdict(status, &format!("{} (call {call})", error.public()))
    }

    fn error_body(&self, error: &Error, _status: StatusCode, call: CallId) -> Option<(&'static str, Bytes)> {
        let mut description = error.public().to_owned();
        if !error.advice().is_empty() {
            description = format!("{description}; {}", error.advice());
        }
        let mut body = Map::new();
        if let Some(word) = word(error.kind()) {
            body.insert("error".into(), word.into());
        }
        body.insert("description".into(), format!("{description} (call {call})").into());
        Some(("application/json", Value::Object(body).to_string().into()))
    }
}

/// The scope of the ids that a caller chooses: its tenant's.
pub(super) fn scope(caller: Option<&Caller>) -> Scope {
    let tenant = caller.and_then(|caller| caller.tenant.as_deref());
    tenant.map_or(Scope::SHARED, Scope::tenant)
}

fn ids(in_body: bool, request: &RequestView<'_>) -> Ids {
    if in_body {
        request.body.map(Ids::of_body).unwrap_or_default()
    } else {
        request.query.map(Ids::of_query).unwrap_or_default()
    }
}

/// Whether a 422 says that another operation is under way, which proves that the resource exists.
fn is_concurrency_error(body: &Bytes) -> bool {
    let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    body.get("error").and_then(Value::as_str) == Some("ConcurrencyError")
}

/// The machine's word for an error that only a proxy has, in the manner of the spec's own.
const fn word(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::CouldNotAsk | ErrorKind::NotSent => "BrokerUnreachable",
        ErrorKind::Timeout => "BrokerTimeout",
        ErrorKind::Nonsense => "BrokerNonsense",
        ErrorKind::Ambiguous => "AmbiguousInstance",
        ErrorKind::Busy => "ConcurrencyError",
        ErrorKind::Overloaded | ErrorKind::RateLimited => "TooManyRequests",
        _ => return None,
    })
}

/// The answer to a request of no version, or of one that is not this API's (spec, "API Version Header").
pub(super) fn version_refused(headers: &HeaderMap) -> Option<Response<Body>> {
    let version = headers.get(VERSION).map(|version| version.to_str().unwrap_or_default());
    let text = match version {
        None => "the header X-Broker-API-Version is missing",
        Some(version) => {
            let is_two = |(major, minor): (&str, &str)| major == "2" && minor.parse::<u32>().is_ok();
            if version.split_once('.').is_some_and(is_two) {
                return None;
            }
            "X-Broker-API-Version must be 2.x"
        }
    };
    Some(verdict(StatusCode::PRECONDITION_FAILED, text))
}

/// An answer of standpipe's own in the shape of the spec's errors.
pub(super) fn verdict(status: StatusCode, description: &str) -> Response<Body> {
    crate::answer::json(status, &serde_json::json!({ "description": description }))
}
