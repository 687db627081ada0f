//! Requests that standpipe itself makes of a broker.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request};
use serde_json::{Map, Value};
use standpipe_api::{ProviderId, Query, Resource};

use super::dialect::VERSION;
use crate::path::{encode, encode_query};

/// What a request is about. The ids of service and plan are those the broker knows; empty ones are left out.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// The method.
    pub method: Method,
    /// The instance or binding.
    pub resource: &'a Resource,
    /// The id of its service.
    pub service_id: &'a str,
    /// The id of its plan.
    pub plan_id: &'a str,
}

/// Where a resource is at its broker.
pub(super) fn path(resource: &Resource) -> String {
    let id = encode(resource.id.as_str());
    match &resource.parent {
        None => format!("/v2/service_instances/{id}"),
        Some(instance) => {
            format!("/v2/service_instances/{}/service_bindings/{id}", encode(instance.as_str()))
        }
    }
}

/// How long a broker wants to be left alone, where it says so in seconds.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Asks for an answer as it is, which standpipe can read (RFC 9110, section 12.5.3: without the field any coding would do).
pub(super) fn ask_for_identity(headers: &mut HeaderMap) {
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Whether an answer is compressed, so that standpipe cannot read it.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// What a broker's answer says, as far as it is a JSON object that can be read. A compressed one says nothing but its status.
pub(super) fn said(headers: &HeaderMap, body: &[u8], provider: &ProviderId) -> Map<String, Value> {
    if is_compressed(headers) {
        tracing::warn!(%provider, "an answer is compressed, which standpipe did not ask for; only its status is understood");
        return Map::new();
    }
    object(body)
}

/// A body as far as it is a JSON object.
pub(super) fn object(body: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(body).unwrap_or_default()
}

/// The question for a catalog.
pub(super) fn catalog(version: &str) -> Query {
    build(Method::GET, "/v2/catalog", version, Bytes::new()).unwrap_or_default()
}

/// A question how an operation goes.
pub(super) fn last_operation(asked: &Asked<'_>, operation: Option<&str>, version: &str) -> Option<Query> {
    let mut target = format!("{}/last_operation", path(asked.resource));
    let named = operation.map(|operation| ("operation", operation));
    add(&mut target, ids(asked).into_iter().chain(named));
    build(asked.method.clone(), &target, version, Bytes::new())
}

/// A request without a body, which the broker may take its time for.
pub(super) fn request(asked: &Asked<'_>, version: &str) -> Option<Query> {
    let mut target = path(asked.resource);
    add(&mut target, ids(asked).into_iter().chain([("accepts_incomplete", "true")]));
    build(asked.method.clone(), &target, version, Bytes::new())
}

/// A request with a body, which the broker may take its time for.
pub(super) fn with_body(method: Method, resource: &Resource, version: &str, body: Bytes) -> Option<Query> {
    build(method, &format!("{}?accepts_incomplete=true", path(resource)), version, body)
}

/// A read.
pub(super) fn read(resource: &Resource, version: &str) -> Option<Query> {
    build(Method::GET, &path(resource), version, Bytes::new())
}

fn ids<'a>(asked: &Asked<'a>) -> Vec<(&'static str, &'a str)> {
    let both = [("service_id", asked.service_id), ("plan_id", asked.plan_id)];
    both.into_iter().filter(|(_, id)| !id.is_empty()).collect()
}

fn add<'a>(target: &mut String, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (at, (name, value)) in parameters.into_iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        target.push_str(&encode_query(value));
    }
}

fn build(method: Method, target: &str, version: &str, body: Bytes) -> Option<Query> {
    let request = Request::builder().method(method).uri(target).header(VERSION, version);
    let request = if body.is_empty() { request } else { request.header("content-type", "application/json") };
    let mut request = request.body(body).ok()?;
    ask_for_identity(request.headers_mut());
    Some(request)
}
