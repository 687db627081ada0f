//! Hooks that write operations down: before a request leaves, when its answer comes, when a platform asks how it goes.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, LAST_MODIFIED, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{
    Body, Call, Error, ErrorKind, Fault, Federation, Judged, Mapping, MappingState, ProviderId, Remark,
    Resource, Result, Sent, Target, Timestamp,
};

use super::catalog::{Catalogs, Generation};
use super::client;
use super::dialect::BINDING;
use super::ids::{Ids, parameter};
use super::operations::{
    Beside, Heard, Made, Operation, OperationId, OperationKind, OperationState, Operations, Reconciled,
};
use super::question::{self, object, retry_after};
use super::settings::ProviderSettings;
use super::tell::{self, About};

/// Bytes of an answer that are read for what it says of an operation; longer ones are passed on unread.
const LONGEST: usize = 1 << 20;

/// Mappings of one id that are looked at, of all tenants.
const MOST_MAPPINGS: usize = 64;

/// The operation a call began, for the hooks behind it.
#[derive(Clone)]
struct Begun(Operation);

/// Whether a call asks how an operation goes.
pub(super) fn is_poll(call: &Call) -> bool {
    // An instance or binding may be called `last_operation` itself: then there is one segment less.
    let segments = call.uri.path().split('/').filter(|segment| !segment.is_empty()).count();
    let path = call.uri.path().trim_end_matches('/');
    call.method == Method::GET && path.ends_with("/last_operation") && matches!(segments, 4 | 6)
}

/// Whether the answer to a call is read for what it says of an operation.
pub(super) fn is_inspected(call: &Call) -> bool {
    kind(&call.method).is_some() || is_poll(call)
}

/// The binding or instance that a call names.
pub(super) fn named(call: &Call) -> Resource {
    match call.params.get("binding") {
        "" => instance(call),
        binding => client::binding(&call.caller, call.params.get("instance"), binding),
    }
}

/// The instance that a call names.
pub(super) fn instance(call: &Call) -> Resource {
    client::instance(&call.caller, call.params.get("instance"))
}

/// The mapping of a resource, tombstones included.
///
/// # Errors
/// The store does not answer.
pub(super) async fn mapping(fed: &dyn Federation, resource: &Resource) -> Result<Option<Mapping>> {
    let known = fed.mappings(&resource.kind, &resource.id, MOST_MAPPINGS).await?;
    Ok(known.into_iter().find(|row| row.resource == *resource))
}

/// The ids that a call says: in its body, or in its query.
pub(super) fn ids(method: &Method, request: &Request<Body>) -> Ids {
    if *method == Method::PUT || *method == Method::PATCH {
        request.body().as_bytes().map(Ids::of_body).unwrap_or_default()
    } else {
        request.uri().query().map(Ids::of_query).unwrap_or_default()
    }
}

/// Writes down what a call is about to begin.
///
/// # Errors
/// The store does not answer; nothing is sent then.
pub(super) async fn begin(
    (operations, catalogs): (&Operations, &Catalogs),
    call: &mut Call,
    request: &Request<Body>,
    to: &Target,
    fed: &dyn Federation,
) -> Result<()> {
    let Some(kind) = kind(&call.method) else { return Ok(()) };
    let (resource, ids) = (named(call), ids(&call.method, request));
    let body = request.body().as_bytes().map(|body| object(body)).unwrap_or_default();
    let about =
        About { resource: &resource, provider: &to.provider, ids: &ids, body: &body, caller: &call.caller };
    let settings = fed.provider(&to.provider).map(|provider| ProviderSettings::of(&provider));
    let settings = settings.unwrap_or_default();
    let id = OperationId(call.id.to_string());
    let made = made(operations, kind, (&to.provider, &resource), fed).await?;
    let operation = Operation { made, ..new(&catalogs.now(), about, (id, kind), &settings) };
    operations.begin(&operation).await?;
    call.notes.insert(Begun(operation));
    Ok(())
}

/// Whether a creation is of something new: its claim has just been made, or what was there is being deleted.
///
/// # Errors
/// The store does not answer.
pub(super) async fn made(
    operations: &Operations,
    kind: OperationKind,
    (provider, resource): (&ProviderId, &Resource),
    fed: &dyn Federation,
) -> Result<Made> {
    if kind != OperationKind::Create {
        return Ok(Made::Earlier);
    }
    // A creation that was refused meanwhile may have taken the mapping out of this state.
    let is_to_go = |other: &Operation| {
        other.kind == OperationKind::Delete && other.provider == *provider && !other.is_on_its_way()
    };
    if operations.of(resource).await?.iter().any(is_to_go) {
        return Ok(Made::Here);
    }
    let is_new = |row: Mapping| {
        matches!(row.state, MappingState::Intent | MappingState::Deleting | MappingState::Gone)
    };
    Ok(if mapping(fed, resource).await?.is_none_or(is_new) { Made::Here } else { Made::Earlier })
}

/// An operation that is about to begin.
pub(super) fn new(
    now: &Generation,
    about: About<'_>,
    (id, kind): (OperationId, OperationKind),
    settings: &ProviderSettings,
) -> Operation {
    let told = match about.resource.kind == BINDING {
        true => tell::binding(about),
        false => tell::instance(now, about),
    };
    let own = |id: &Option<String>| {
        let id = id.as_deref().unwrap_or_default();
        id.strip_prefix(&settings.id_prefix).unwrap_or(id).to_owned()
    };
    let started_at = Timestamp::now();
    let patience = polling_duration(now, about).unwrap_or(settings.maximum_polling_duration);
    Operation {
        id,
        kind,
        resource: about.resource.clone(),
        provider: about.provider.clone(),
        service_id: own(&about.ids.service),
        plan_id: own(&about.ids.plan),
        external: None,
        state: OperationState::Requested,
        description: None,
        started_at,
        asked_at: started_at,
        ask_after: started_at,
        deadline: started_at.plus(patience),
        made: Made::Earlier,
        beside: Beside::Nothing,
        reconciled: if settings.reconcile { Reconciled::Here } else { Reconciled::ByPlatform },
        attempts: 0,
        settled_at: None,
        owner: Some(about.caller.id.clone()),
        tenant: about.caller.tenant.clone(),
        told,
    }
}

/// How long an operation may take by its plan.
fn polling_duration(now: &Generation, about: About<'_>) -> Option<Duration> {
    let member = now.member(about.provider)?;
    let service = member.service(about.ids.service.as_deref()?)?;
    let plan = member.plan(service, about.ids.plan.as_deref()?)?;
    let seconds = plan.fields().get("maximum_polling_duration")?.as_u64().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs)
}

/// Writes down what an answer says of an operation.
///
/// # Errors
/// The store does not answer, or the answer broke off.
pub(super) async fn answered(
    operations: &Operations,
    call: &mut Call,
    response: &mut Response<Body>,
    from: &Target,
    fed: &dyn Federation,
) -> Result<()> {
    if is_poll(call) {
        let body = small(call, response, &from.provider).await?;
        let external = call.uri.query().and_then(|query| parameter(query, "operation"));
        let heard = Heard::Polled(response.status(), &body, retry_after(response.headers()));
        return operations.polled((&from.provider, &named(call)), external.as_deref(), heard).await;
    }
    if call.method == Method::GET && response.status() == StatusCode::OK {
        return operations.shown((&from.provider, &named(call))).await;
    }
    let Some(Begun(operation)) = call.notes.remove::<Begun>() else { return Ok(()) };
    if operation.kind == OperationKind::Delete {
        // A creation may have been on its way beside it, which no single answer tells.
        call.notes.insert(Judged);
    }
    let body = match response.status() {
        StatusCode::ACCEPTED => match small(call, response, &from.provider).await {
            Ok(body) => body,
            Err(error) => {
                unnamed(operations, call, &operation).await?;
                return Err(error);
            }
        },
        _ => Map::new(),
    };
    // What is known of it is asked before this answer takes it away.
    let is_forced = is_forced(&operation, response.status(), from, fed).await;
    let heard = operations.heard(&operation, Heard::Answered(response.status(), &body)).await;
    if is_forced? {
        tracing::warn!(resource = %operation.resource, provider = %from.provider, status = response.status().as_u16(), "nobody knows what was to be deleted; the platform is told that it is gone");
        force(response);
    }
    heard
}

/// Writes down that a broker is at an operation whose name was lost on the way.
async fn unnamed(operations: &Operations, call: &mut Call, operation: &Operation) -> Result<()> {
    operations.heard(operation, Heard::Answered(StatusCode::ACCEPTED, &Map::new())).await?;
    if operation.is_cleaned_up_here() {
        // The platform is told that it failed, and that is what standpipe makes true if the platform does not.
        call.notes.insert(Judged);
        operations.heard(operation, Heard::Lost).await?;
    }
    Ok(())
}

/// Writes down that no answer came.
///
/// # Errors
/// The store does not answer.
pub(super) async fn unanswered(operations: &Operations, call: &mut Call, sent: Sent) -> Result<()> {
    let Some(Begun(operation)) = call.notes.remove::<Begun>() else { return Ok(()) };
    let heard = if sent == Sent::Perhaps { Heard::Lost } else { Heard::NotSent };
    operations.heard(&operation, heard).await
}

/// Whether a DELETE of what neither standpipe nor the broker knows is to succeed, so that a platform gets rid of its record:
/// where the operator wants it.
async fn is_forced(
    operation: &Operation,
    status: StatusCode,
    from: &Target,
    fed: &dyn Federation,
) -> Result<bool> {
    let Some(provider) = fed.provider(&from.provider) else { return Ok(false) };
    let settings = ProviderSettings::of(&provider);
    let is_binding = operation.resource.kind == BINDING;
    let wanted = if is_binding { settings.force_delete_bindings } else { settings.force_delete_instances };
    let is_delete = operation.kind == OperationKind::Delete;
    if !is_delete || !wanted || !settings.unknown_answers.contains(&status) {
        return Ok(false);
    }
    let known = mapping(fed, &operation.resource).await?;
    Ok(known.is_none_or(|row| row.state == MappingState::Gone))
}

/// Makes an answer a success, and says so in the audit.
fn force(response: &mut Response<Body>) {
    response.extensions_mut().insert(Remark("forced"));
    *response.status_mut() = StatusCode::OK;
    for stale in [CONTENT_ENCODING, ETAG, LAST_MODIFIED, TRANSFER_ENCODING] {
        response.headers_mut().remove(stale);
    }
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("2"));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::from(Bytes::from_static(b"{}"));
}

/// The JSON object of an answer that is not long; the answer stays whole.
async fn small(
    call: &Call,
    response: &mut Response<Body>,
    provider: &ProviderId,
) -> Result<Map<String, Value>> {
    let read = read_answer(call, response, provider).await?;
    Ok(read.map(|body| question::said(response.headers(), &body, provider)).unwrap_or_default())
}

/// An answer's body, unless it is long; the answer stays whole.
///
/// # Errors
/// It broke off, or did not end before the call's deadline.
pub(super) async fn read_answer(
    call: &Call,
    response: &mut Response<Body>,
    provider: &ProviderId,
) -> Result<Option<Bytes>> {
    let read = response.body_mut().bytes_within(LONGEST);
    let read = tokio::time::timeout_at(call.deadline.into(), read).await.map_err(|_| {
        let public = format!("the answer of {provider} did not end in time");
        Error::new(ErrorKind::Timeout, Fault::Provider(provider.clone()), public)
    })?;
    // It is its broker's fault, and may have been a success.
    let broken = |error| {
        Error::nonsense(provider.clone(), format!("the answer of {provider} broke off")).because(error)
    };
    read.map_err(broken)
}

fn kind(method: &Method) -> Option<OperationKind> {
    match *method {
        Method::PUT => Some(OperationKind::Create),
        Method::PATCH => Some(OperationKind::Update),
        Method::DELETE => Some(OperationKind::Delete),
        _ => None,
    }
}
