//! `/mappings`: pages, an export, an import, single rows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use standpipe_api::{Body, BoxError, Error, ErrorKind, Fault, Kind, Mapping, Resource, Result, Scope};
use tokio::time::timeout;

use super::answer::{self, NDJSON};
use super::body;
use super::operator::{MappingValue, OperatorMappings, Rows};
use super::query::{self, Parameters};
use super::table::Filter;
use super::transfer::{Import, ImportReport};

/// Rows of a page when nobody says how many, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// Bytes of a single mapping's value.
const VALUE_LIMIT: usize = 64 * 1024;

/// How long a sender may stay silent within a body.
const SILENCE: Duration = Duration::from_secs(30);

/// `/mappings`.
pub(super) async fn all(mappings: &Arc<OperatorMappings>, request: Request<Body>) -> Result<Response<Body>> {
    if request.method() == Method::POST {
        Parameters::read(request.uri().query(), &[])?;
        return import(mappings, request.into_body()).await;
    }
    let known = ["provider", "kind", "parent", "peer", "limit", "after"];
    let parameters = Parameters::read(request.uri().query(), &known)?;
    let filter = Filter {
        provider: parameters.get("provider").map(Into::into),
        kind: parameters.get("kind").map(|kind| Kind::read(kind.to_owned())),
        parent: parameters.get("parent").map(Into::into),
        peer: parameters.get("peer").map(Into::into),
    };
    let rows = mappings.rows(filter).after(parameters.get("after").map(query::read_cursor).transpose()?);
    let limit = parameters.get("limit").map(limit).transpose()?;
    if wants_lines(request.headers()) {
        return Ok(answer::lines(export(rows.at_most(limit.unwrap_or(usize::MAX)))));
    }
    page(rows.at_most(limit.unwrap_or(PAGE).min(LARGEST_PAGE))).await
}

fn limit(text: &str) -> Result<usize> {
    let limit = text.parse().ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| Error::bad_request("the parameter limit must be a number above 0"))
}

fn wants_lines(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.as_bytes().windows(NDJSON.len()).any(|part| part == NDJSON.as_bytes()))
}

async fn page(mut rows: Rows) -> Result<Response<Body>> {
    let mut found: Vec<Mapping> = Vec::new();
    loop {
        let more = rows.next().await?;
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let next = match found.last() {
        Some(last) => rows.more_behind(&last.resource).await?,
        None => None,
    };
    let mut body = json!({ "mappings": found });
    if let (Some(next), Some(members)) = (next, body.as_object_mut()) {
        members.insert("next".into(), query::cursor(&next).into());
    }
    Ok(answer::json(StatusCode::OK, &body))
}

/// Streams rows; a store that fails on the way breaks the transfer off, so that no part passes for the whole.
fn export(rows: Rows) -> Body {
    let pages = stream::try_unfold(rows, |mut rows| async move {
        let page = rows.next().await.map_err(BoxError::from)?;
        if page.is_empty() {
            return Ok::<_, BoxError>(None);
        }
        let mut lines = Vec::with_capacity(page.len() * 256);
        for row in &page {
            serde_json::to_writer(&mut lines, row)?;
            lines.push(b'\n');
        }
        Ok(Some((Bytes::from(lines), rows)))
    });
    Body::stream(StreamBody::new(pages.map_ok(Frame::data)))
}

async fn import(mappings: &OperatorMappings, mut body: Body) -> Result<Response<Body>> {
    let mut import = Import::into(mappings);
    let outcome = feed(&mut import, &mut body).await;
    let written = import.written();
    let report: Result<ImportReport> = match outcome {
        Ok(()) => import.end().await,
        Err(error) => Err(error),
    };
    match report {
        Ok(report) => Ok(answer::json(StatusCode::OK, &report)),
        Err(error) => Err(error.advise(format!(
            "at least {written} mappings are written; import the whole again, rows that are there do no harm"
        ))),
    }
}

async fn feed(import: &mut Import<'_>, body: &mut Body) -> Result<()> {
    loop {
        let frame = timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| Error::body_broken(format!("nothing came for {SILENCE:?}")))?;
        let Some(frame) = frame else { return Ok(()) };
        if let Ok(data) = frame.map_err(Error::body_broken)?.into_data() {
            import.push(&data).await?;
        }
    }
}

/// `/mappings/{kind}/{id}`.
pub(super) async fn one(
    mappings: &OperatorMappings,
    kind: String,
    id: String,
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let parameters = Parameters::read(request.uri().query(), &["parent", "scope"])?;
    let mut resource = Resource::new(Kind::read(kind), id);
    resource.parent = parameters.get("parent").map(Into::into);
    resource.scope = parameters.get("scope").map_or(Scope::SHARED, Scope::tenant);
    match *request.method() {
        Method::PUT => {
            let body = body::whole(&mut request, VALUE_LIMIT).await?;
            let value: MappingValue = serde_json::from_slice(&body)
                .map_err(|error| Error::invalid(format!("the body is no mapping's value: {error}")))?;
            let mapping = value.of(resource);
            mappings.set(mapping).await?;
            Ok(answer::done())
        }
        Method::DELETE if mappings.forget(&resource).await? => Ok(answer::done()),
        Method::DELETE => Err(unknown(&resource)),
        _ => match mappings.get(&resource).await? {
            Some(mapping) => Ok(answer::json(StatusCode::OK, &mapping)),
            None => Err(unknown(&resource)),
        },
    }
}

fn unknown(resource: &Resource) -> Error {
    Error::new(ErrorKind::UnknownResource, Fault::Caller, format!("there is no mapping of {resource}"))
        .advise("a resource within another needs ?parent=, one of a tenant ?scope=")
}
