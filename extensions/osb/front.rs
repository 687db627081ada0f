//! The extension: catalogs and open operations in the background, and its hooks on calls under `/v2`.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, Uri};
use standpipe_api::{
    Background, Body, Call, Dialect, Extension, Federation, Flow, Problem, Problems, Provider, Result, Route,
    Sent, Target,
};

use super::Brokers;
use super::catalog::keep;
use super::cleanup::Cleanup;
use super::dialect::{NAME, OsbDialect};
use super::operations::{Schedules, reconcile, sweep};
use super::settings::ProviderSettings;
use super::visibility::Visibility;
use super::{leading, prefix, question, recording, sign};

/// The OSB extension.
pub struct Osb {
    brokers: Arc<Brokers>,
    schedules: Schedules,
}

impl Osb {
    /// Shares what it knows of the brokers.
    pub fn new(brokers: Arc<Brokers>) -> Self {
        Self { brokers, schedules: Schedules::default() }
    }
}

#[async_trait(?Send)]
impl Extension for Osb {
    fn name(&self) -> &'static str {
        NAME
    }

    fn configure(&mut self, table: &toml::Table) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for (key, value) in table {
            match (key.as_str(), value.as_array()) {
                ("visibility", Some(rules)) => match Visibility::read(rules) {
                    Ok(rules) => self.brokers.show(rules),
                    Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(key))),
                },
                ("visibility", None) => problems.push(Problem::at(key, "must be a list of tables")),
                ("instances" | "bindings", _) => match cleanup(value) {
                    Ok(cleanup) if key == "instances" => self.schedules.instances = cleanup,
                    Ok(cleanup) => self.schedules.bindings = cleanup,
                    Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(key))),
                },
                _ => problems.push(Problem::at(
                    key,
                    "unknown key: there are `visibility`, `instances` and `bindings`",
                )),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn routes(&self) -> Vec<Route> {
        let instance = "/v2/service_instances/{instance}";
        let binding = "/v2/service_instances/{instance}/service_bindings/{binding}";
        vec![
            Route::of([Method::GET, Method::HEAD], "/v2/catalog"),
            Route::of([Method::PUT, Method::PATCH, Method::DELETE, Method::GET], instance),
            Route::of([Method::PUT, Method::DELETE, Method::GET], binding),
            Route::get(&format!("{instance}/last_operation")),
            Route::get(&format!("{binding}/last_operation")),
        ]
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        vec![Arc::new(OsbDialect::new(self.brokers.clone()))]
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        self.brokers.operations.open(background.state());
        let operations = &self.brokers.operations;
        tokio::join!(
            keep(self.brokers.catalogs.clone(), background.handle()),
            sweep(operations.clone(), self.schedules.clone(), background.handle()),
            reconcile(operations.clone(), background),
        );
        Ok(())
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        if call.params.get("instance").is_empty() {
            return Ok(self.brokers.catalog(request, fed).await);
        }
        let is_led = fed.pinned().is_none() || self.brokers.visibility().is_some();
        if is_led && self.brokers.catalogs.are_coming(fed.epoch()) {
            self.brokers.wait_for_catalogs(call, request, fed).await?;
        }
        self.brokers.lead(call, request, fed).await
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        if call.params.get("instance").is_empty() {
            return Ok(());
        }
        let provider = fed.provider(&to.provider);
        let settings = provider.as_ref().map(ProviderSettings::of).unwrap_or_default();
        if settings.needs_bodies() {
            leading::read(call, request).await?;
        }
        self.brokers.refuse_swap(call, request, to, fed).await?;
        if let (Some(provider), Some(algorithm)) = (&provider, settings.sign_context) {
            sign::sign(request, provider, algorithm, fed).await?;
        }
        let known = (&*self.brokers.operations, &*self.brokers.catalogs);
        recording::begin(known, call, request, to, fed).await?;
        if recording::is_inspected(call) || (call.method == Method::GET && !settings.id_prefix.is_empty()) {
            question::ask_for_identity(request.headers_mut());
        }
        if !settings.id_prefix.is_empty() {
            without_prefix(request, &settings.id_prefix);
        }
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        if call.params.get("instance").is_empty() {
            return Ok(());
        }
        recording::answered(&self.brokers.operations, call, response, from, fed).await?;
        let prefix = id_prefix(from, fed);
        if !prefix.is_empty() && call.method == Method::GET && !recording::is_poll(call) {
            with_prefix(call, response, &prefix, from).await?;
        }
        Ok(())
    }

    async fn after_failure(
        &self,
        call: &mut Call,
        sent: Sent,
        _to: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        recording::unanswered(&self.brokers.operations, call, sent).await
    }
}

/// Reads a table that has nothing but `operations`.
fn cleanup(value: &toml::Value) -> Result<Cleanup, Problems> {
    let one = |path: &str, text: &str| vec![Problem::at(path, text)];
    let table = value.as_table().ok_or_else(|| one("", "must be a table with `operations`"))?;
    if let Some(key) = table.keys().find(|key| *key != "operations") {
        return Err(one(key, "unknown key: there is `operations`"));
    }
    let Some(operations) = table.get("operations") else { return Ok(Cleanup::default()) };
    let operations = operations.as_table().ok_or_else(|| one("operations", "must be a table"))?;
    let under = |found: Problems| found.into_iter().map(|problem| problem.under("operations")).collect();
    Cleanup::read(operations).map_err(under)
}

fn id_prefix(at: &Target, fed: &dyn Federation) -> String {
    let prefix = |provider: Provider| ProviderSettings::of(&provider).id_prefix;
    fed.provider(&at.provider).map(prefix).unwrap_or_default()
}

/// Takes a provider's prefix off the ids of a request.
fn without_prefix(request: &mut Request<Body>, prefix: &str) {
    if let Some(body) = request.body().as_bytes().and_then(|body| prefix::off_body(body, prefix)) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        *request.body_mut() = Body::from(body);
    }
    let query = request.uri().query().and_then(|query| prefix::off_query(query, prefix));
    if let Some(query) = query {
        let mut parts = request.uri().clone().into_parts();
        let target = format!("{}?{query}", request.uri().path());
        parts.path_and_query = target.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// Puts a provider's prefix on the ids of an answer.
async fn with_prefix(call: &Call, response: &mut Response<Body>, prefix: &str, from: &Target) -> Result<()> {
    let read = recording::read_answer(call, response, &from.provider).await?;
    let Some(body) = read else { return Ok(()) };
    if let Some(body) = prefix::on_body(&body, prefix) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = Body::from(body);
    }
    Ok(())
}
