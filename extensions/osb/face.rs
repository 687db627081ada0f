//! `/v2/catalog` of all brokers that a caller sees.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use standpipe_api::{Availability, Body, Federation, Flow, ProviderId};

use super::Brokers;
use super::catalog::{Member, Merged, View};
use super::dialect::{NAME, version_refused};
use super::visibility::User;

/// How long callers after a start, or after a provider was added, wait for catalogs that nobody has seen yet.
const FIRST_CATALOGS: Duration = Duration::from_secs(10);

impl Brokers {
    /// Answers the catalog of all providers that the caller sees. With one, and nothing hidden of it, it answers itself.
    pub(super) async fn catalog(&self, request: &Request<Body>, fed: &dyn Federation) -> Flow {
        let view = self.view(request.headers(), fed);
        if self.catalogs.is_behind(fed.epoch()) {
            // Nothing was read yet, not even what was kept from earlier; or a provider has just been added.
            self.first_round(fed).await;
        }
        let now = self.catalogs.now();
        let in_view = |id: &ProviderId| view.providers.as_ref().is_none_or(|seen| seen.contains(id));
        let seen: Vec<&Member> = now.members.iter().filter(|member| in_view(&member.provider.id)).collect();
        let left_out: Vec<ProviderId> = fed.left_out(NAME).into_iter().filter(in_view).collect();
        let answers_itself = |member: &Member| {
            member.provider.availability == Availability::Active && member.prefix.is_empty()
        };
        let says_nothing =
            |member: &&Member| member.snapshot.is_none() && left_out.contains(&member.provider.id);
        match seen.as_slice() {
            [only] if view.sight.is_none() && answers_itself(only) && left_out.is_empty() => {
                return Flow::Continue;
            }
            [] if now.members.is_empty() => return Flow::Continue,
            // An empty catalog would take from a platform what it has.
            seen if !left_out.is_empty() && (fed.pinned().is_some() || seen.iter().all(says_nothing)) => {
                return Flow::Continue;
            }
            _ => {}
        }
        if let Some(refusal) = version_refused(request.headers()) {
            return Flow::Respond(refusal);
        }
        let mut merged = self.catalogs.merged(&view);
        if !merged.missing.is_empty() {
            // A broker that has never answered may do so in the first round, which others wait for together.
            self.first_round(fed).await;
            merged = self.catalogs.merged(&view);
        }
        let unread = left_out.into_iter().filter(|id| now.member(id).is_none());
        let missing: Vec<ProviderId> = merged.missing.iter().cloned().chain(unread).collect();
        Flow::Respond(answer(&merged, &missing, request.headers()))
    }

    /// Waits until every catalog that the caller sees is known, or was tried once, within bounds.
    pub(crate) async fn first_round(&self, fed: &dyn Federation) {
        let at_work = fed.providers().into_iter().filter(|provider| provider.dialect == NAME);
        let seen: Vec<ProviderId> = at_work.map(|provider| provider.id).chain(fed.left_out(NAME)).collect();
        if !seen.is_empty() {
            // What has not come by then is missing, and said to be.
            let _late = tokio::time::timeout(FIRST_CATALOGS, self.catalogs.heard(fed.epoch(), &seen)).await;
        }
    }

    /// What a caller sees of the catalogs.
    pub(super) fn view(&self, headers: &HeaderMap, fed: &dyn Federation) -> View {
        let user = User::of(headers, &Bytes::new()).unwrap_or_default();
        let sight = self.visibility().and_then(|rules| rules.of(fed.caller(), &user));
        let at_work = || fed.providers().into_iter().filter(|provider| provider.dialect == NAME);
        let seen = || at_work().map(|provider| provider.id).chain(fed.left_out(NAME));
        let pinned = fed.pinned();
        let chosen = |provider: &ProviderId| pinned.as_ref().is_none_or(|pin| pin == provider);
        let narrowed = pinned.is_some() || !fed.sees_everything();
        let providers: Option<Arc<[ProviderId]>> = narrowed.then(|| seen().filter(chosen).collect());
        View { providers, sight }
    }
}

/// A merged catalog, or that the caller has it already. Those of whom nothing is known are said to be missing.
fn answer(merged: &Merged, missing: &[ProviderId], asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ETAG, merged.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let lines: Vec<String> = missing.iter().map(|id| format!("{id};reason=unreachable")).collect();
    if let (false, Ok(missing)) = (lines.is_empty(), HeaderValue::try_from(lines.join(", "))) {
        headers.insert("standpipe-partial", missing);
    }
    if has(asked, &merged.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.body_mut() = Body::from(merged.body.clone());
    response
}

/// Whether `If-None-Match` names a validator (RFC 9110, section 13.1.2: compared weakly).
fn has(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let fields = asked.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let mut named = fields.flat_map(|field| field.split(',')).map(str::trim);
    named.any(|name| name == "*" || name.strip_prefix("W/").unwrap_or(name).as_bytes() == etag.as_bytes())
}
