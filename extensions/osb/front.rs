//! The extension: catalogs in the background, and what federation forces on single calls.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use standpipe_api::{
    Background, Body, Call, Dialect, Error, Extension, Federation, Flow, ProviderId, Result, Route, Target,
};

use super::catalog::{Catalogs, Merged, View, keep};
use super::dialect::{INSTANCE, NAME, OsbDialect, VERSION, no_version};
use super::ids::Ids;

/// How long the first caller after a start waits for catalogs that nobody has seen yet.
const FIRST_CATALOGS: Duration = Duration::from_secs(10);

/// The OSB extension.
#[derive(Default)]
pub struct Osb {
    catalogs: Arc<Catalogs>,
}

#[async_trait(?Send)]
impl Extension for Osb {
    fn name(&self) -> &'static str {
        NAME
    }

    fn routes(&self) -> Vec<Route> {
        vec![
            Route::get("/v2/catalog"),
            Route::put("/v2/service_instances/{instance}"),
            Route::patch("/v2/service_instances/{instance}"),
            Route::put("/v2/service_instances/{instance}/service_bindings/{binding}"),
        ]
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        vec![Arc::new(OsbDialect::new(self.catalogs.clone()))]
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        keep(self.catalogs.clone(), background).await;
        Ok(())
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        if call.params.get("instance").is_empty() {
            self.catalog(request, fed).await
        } else {
            Ok(Flow::Continue)
        }
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        if !call.params.get("instance").is_empty() {
            self.refuse_swap(call, request, to, fed).await?;
        }
        Ok(())
    }
}

impl Osb {
    /// Answers the catalog of all providers that the caller sees. With one, it answers itself.
    async fn catalog(&self, request: &Request<Body>, fed: &dyn Federation) -> Result<Flow> {
        if fed.pinned().is_some() {
            return Ok(Flow::Continue);
        }
        let view = self.view(fed);
        if self.catalogs.now().members.is_empty() {
            // Nothing was read yet, not even what was kept from earlier.
            self.first_round(fed).await;
        }
        let many = match &view.providers {
            None => self.catalogs.now().members.len() > 1,
            Some(providers) => providers.len() > 1,
        };
        if !many {
            return Ok(Flow::Continue);
        }
        if !request.headers().contains_key(VERSION) {
            return Ok(Flow::Respond(no_version()));
        }
        let mut merged = self.catalogs.merged(&view);
        if !merged.missing.is_empty() {
            // A broker that has never answered may do so in the first round, which others wait for together.
            self.first_round(fed).await;
            merged = self.catalogs.merged(&view);
        }
        Ok(Flow::Respond(answer(&merged, request.headers())))
    }

    async fn first_round(&self, fed: &dyn Federation) {
        if fed.providers().iter().any(|provider| provider.dialect == NAME) {
            // What has not come by then is missing, and said to be.
            let _late = tokio::time::timeout(FIRST_CATALOGS, self.catalogs.heard()).await;
        }
    }

    fn view(&self, fed: &dyn Federation) -> View {
        if fed.sees_everything() {
            return View::default();
        }
        let seen = fed.providers().into_iter().filter(|provider| provider.dialect == NAME);
        let seen: Vec<ProviderId> = seen.map(|provider| provider.id).collect();
        View { providers: Some(seen.into()) }
    }

    /// An instance of one provider with a service of another: the one conflict that only standpipe can see, because neither
    /// broker knows both (federation of catalogs; spec, "Conflict").
    async fn refuse_swap(
        &self,
        call: &Call,
        request: &Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let Some(service) = request.body().as_bytes().and_then(|body| Ids::of_body(body).service) else {
            return Ok(());
        };
        let now = self.catalogs.now();
        let here = now.member(&to.provider).is_some_and(|member| member.knows(&service));
        let elsewhere = |fed: &dyn Federation| {
            let mut others = now.members.iter().filter(|member| member.provider.id != to.provider);
            others.any(|member| member.knows(&service) && fed.provider(&member.provider.id).is_some())
        };
        if here || !elsewhere(fed) {
            return Ok(());
        }
        let instance = call.params.get("instance");
        let known = fed.mappings(&INSTANCE, &instance.into(), 16).await?;
        let is_there = |mapping: &standpipe_api::Mapping| mapping.provider == to.provider;
        if !known.iter().any(is_there) {
            return Ok(());
        }
        Err(Error::conflict(format!("service_instance {instance} is not of the service {service}")))
    }
}

/// A merged catalog, or that the caller has it already.
fn answer(merged: &Merged, asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ETAG, merged.etag.clone());
    headers.insert(VARY, HeaderValue::from_static("authorization"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let lines: Vec<String> = merged.missing.iter().map(|id| format!("{id};reason=unreachable")).collect();
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
