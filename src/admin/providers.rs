//! The providers as an operator sees them.

use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use standpipe_api::{Availability, Body, Error, ProviderId, Result, Timestamp};

use super::query::Parameters;
use super::{Act, Asked, Engine, answer, body};
use crate::config::is_name;
use crate::registry::{Change, LeftOut, Registry, Renaming};
use crate::store::Removal;

/// Bytes of a provider's table.
const MOST: usize = 64 * 1024;

use crate::notes::Note;

/// How one provider is doing.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// Its name.
    pub name: ProviderId,
    /// The dialect it speaks.
    pub dialect: String,
    /// `config`, or `registered` at run time.
    pub origin: &'static str,
    /// `active`, or `draining`: it takes nothing new.
    pub availability: &'static str,
    /// `remote`, or the word of the extension that serves it in this process.
    pub kind: String,
    /// Its base URL; userinfo and query are cut before it is shown. `None` in process.
    #[serde(serialize_with = "without_secrets", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Requests there now.
    pub in_flight: usize,
    /// Requests that may be there at once.
    pub concurrency: usize,
    /// Connections to it.
    pub pool: PoolStatus,
    /// Ids in its index that lead requests to it.
    pub indexed: usize,
    /// What extensions say of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The last time it could not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The position of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// One request may try.
    HalfOpen,
    /// No request passes.
    Open,
}

/// Connections of all cores to a provider.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// Waiting for a request.
    pub idle: usize,
    /// Carrying one.
    pub active: usize,
}

/// An error that a provider caused.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What: an error's public text.
    pub error: String,
}

pub(super) fn list(providers: Vec<ProviderStatus>, left_out: &[LeftOut]) -> Value {
    let mut body = json!({ "providers": providers });
    if let (Some(members), false) = (body.as_object_mut(), left_out.is_empty()) {
        members.insert("left_out".into(), left_out.iter().map(broken).collect());
    }
    body
}

/// `/providers` with a new one.
pub(super) async fn add(
    registry: &Registry,
    engine: &dyn Engine,
    asked: &mut Asked,
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let body = read(&mut request).await?;
    asked.provider = body.get("name").and_then(Value::as_str).filter(|name| is_name(name)).map(Into::into);
    let name = registry.add(body, asked.whence()).await?;
    let mut response = answer::json(StatusCode::CREATED, &one(engine, registry, &name)?);
    let place = HeaderValue::try_from(format!("/providers/{name}"));
    response.headers_mut().extend(place.ok().map(|place| (LOCATION, place)));
    Ok(response)
}

/// `/providers/{name}`.
pub(super) async fn named(
    registry: &Registry,
    engine: &dyn Engine,
    name: &ProviderId,
    asked: &Asked,
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let change = match *request.method() {
        Method::PUT => Change::Replace,
        Method::PATCH => Change::Merge,
        Method::DELETE => return remove(registry, name, &request).await,
        _ => return Ok(answer::json(StatusCode::OK, &one(engine, registry, name)?)),
    };
    let renaming = forced(&request, (Renaming::Refused, Renaming::Forced))?;
    let body = read(&mut request).await?;
    registry.update(name, body, (change, renaming), asked.whence()).await?;
    Ok(answer::json(StatusCode::OK, &one(engine, registry, name)?))
}

/// `/providers/{name}/drain`, `/undrain` and `/refresh`.
pub(super) async fn act(
    registry: &Registry,
    engine: &dyn Engine,
    name: &ProviderId,
    act: Act,
) -> Result<Response<Body>> {
    match act {
        Act::Drain => registry.set_availability(name, Availability::Draining).await?,
        Act::Undrain => registry.set_availability(name, Availability::Active).await?,
        Act::Refresh => {
            registry.refresh(name).await?;
            return Ok(answer::json(StatusCode::ACCEPTED, &json!({ "refreshing": name })));
        }
    }
    Ok(answer::json(StatusCode::OK, &one(engine, registry, name)?))
}

async fn remove(registry: &Registry, name: &ProviderId, request: &Request<Body>) -> Result<Response<Body>> {
    let removal = forced(request, (Removal::WhenEmpty, Removal::Forced))?;
    let held = registry.remove(name, removal).await?;
    let left: Vec<String> = held.some.iter().map(ToString::to_string).collect();
    Ok(answer::json(
        StatusCode::OK,
        &json!({ "removed": name, "left": { "mappings": held.count, "some": left } }),
    ))
}

/// The second of two, where the query says `force=true`.
fn forced<T>(request: &Request<Body>, (plain, forced): (T, T)) -> Result<T> {
    let parameters = Parameters::read(request.uri().query(), &["force"])?;
    match parameters.get("force") {
        Some("true") => Ok(forced),
        None | Some("false") => Ok(plain),
        Some(_) => Err(Error::bad_request("the parameter force is true or false")),
    }
}

async fn read(request: &mut Request<Body>) -> Result<Value> {
    let body = body::whole(request, MOST).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::invalid(format!("the body is no JSON: look at line {line}, column {column}"))
    })
}

/// A provider as it runs, and what it is registered with; references stand in place of secrets.
fn one(engine: &dyn Engine, registry: &Registry, name: &ProviderId) -> Result<Value> {
    let running = engine.providers().into_iter().find(|status| status.name == *name);
    let left_out = registry.left_out();
    let mut body = match (running, left_out.iter().find(|left_out| left_out.name == *name)) {
        (Some(status), _) => json!(status),
        (None, Some(left_out)) => broken(left_out),
        (None, None) => return Err(crate::engine::unknown_provider(name)),
    };
    if let (Some(members), Some(table)) = (body.as_object_mut(), registry.settings(name)) {
        let mut table = json!(table);
        without_userinfo(&mut table);
        members.insert("settings".into(), table);
    }
    Ok(body)
}

fn broken(left_out: &LeftOut) -> Value {
    let problems: Vec<String> = left_out.problems.iter().map(ToString::to_string).collect();
    json!({ "name": left_out.name, "origin": "registered", "problems": problems })
}

/// Cuts what could be a password out of every address.
fn without_userinfo(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = public_url(text),
        Value::Array(values) => values.iter_mut().for_each(without_userinfo),
        Value::Object(members) => members.values_mut().for_each(without_userinfo),
        _ => {}
    }
}

fn without_secrets<S: serde::Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(public_url).serialize(serializer)
}

/// The URL without userinfo and query. Works on templates too, which are no URLs yet.
fn public_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_password_and_no_query() {
        assert_eq!(public_url("https://u:p@h:1/a/{resource}?key=s#f"), "https://h:1/a/{resource}");
        assert_eq!(public_url("https://u:p@ss@{resource}.example"), "https://{resource}.example");
        assert_eq!(public_url("http://h/a@b"), "http://h/a@b");
    }
}
