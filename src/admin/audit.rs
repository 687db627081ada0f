//! `/audit`: who changed what, and what access rules refused, oldest first.

use http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use standpipe_api::{Body, Error, Result};

use super::Engine;
use super::answer;
use super::query::Parameters;
use crate::store::{AuditFilter, AuditRow};

/// Events of a page when nobody says how many, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 500;

/// A page of the audit.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditPage {
    /// Its events.
    pub events: Vec<AuditRow>,
    /// What `after` must be for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// `/audit?after=&caller=&provider=&limit=`.
pub(super) async fn list(engine: &dyn Engine, request: &Request<Body>) -> Result<Response<Body>> {
    let known = ["after", "caller", "provider", "limit"];
    let parameters = Parameters::read(request.uri().query(), &known)?;
    let filter = AuditFilter {
        caller: parameters.get("caller").map(Into::into),
        provider: parameters.get("provider").map(Into::into),
    };
    let number = |name: &str| parameters.get(name).map(|text| number(name, text)).transpose();
    let after = number("after")?.unwrap_or(0);
    let limit = number("limit")?.map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE));
    let limit = limit.clamp(1, LARGEST_PAGE);
    let mut events = engine.audit(&filter, after, limit + 1).await?;
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|last| last.id);
    Ok(answer::json(StatusCode::OK, &AuditPage { events, next }))
}

fn number(name: &str, text: &str) -> Result<i64> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| Error::bad_request(format!("the parameter {name} must be a whole number")))
}
