//! The specification's root paths: `/pipes/{id}`, `/offers/{b}`, `/needs/{b}` and what is under them.
//!
//! A pipe or blueprint is named within a resource, so that the same name may mean several. The one that is meant is
//! looked up in the mappings, or asked for with safe questions; then the call goes on as one for
//! `/{resource}/...`. Two that could be meant are an error that names them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use http::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use standpipe_api::{
    Body, Call, Error, ErrorKind, Extension, Fault, Federation, Flow, MappingState, ProviderId, Query,
    Resource, ResourceId, Result, Route, Target,
};

use super::dialect::{NAME, PIPE, RESOURCE};
use super::resources::{Found, Resources};
use crate::path;

/// Resources asked for one name; more need `?resource=`.
const MOST_QUESTIONS: usize = 1000;

/// The extension.
pub struct RoutePipes {
    resources: Arc<Resources>,
}

impl RoutePipes {
    /// Looks in these lists, and among learned resources.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources }
    }

    /// Every resource there is, with its provider.
    async fn everywhere(&self, fed: &dyn Federation) -> Result<(Vec<(Target, ResourceId)>, Vec<ProviderId>)> {
        let (mut places, mut left_out) = (Vec::new(), Vec::new());
        let pinned = fed.pinned();
        for provider in fed.providers().into_iter().filter(|provider| provider.dialect == NAME) {
            if pinned.as_ref().is_some_and(|pinned| *pinned != provider.id) {
                continue;
            }
            if pinned.is_none() && !fed.may_visit(&provider.id) {
                left_out.push(provider.id);
                continue;
            }
            let (learned, found) = self.resources.learned(fed, &provider).await?;
            if found == Found::Some || !self.resources.are_known(&provider) {
                left_out.push(provider.id.clone());
            }
            let mut ids = self.resources.ids(&provider);
            ids.extend(learned);
            ids.retain(|id| fed.may_see(&provider.id, &Resource::new(RESOURCE, id.clone())));
            ids.sort_unstable();
            ids.dedup();
            places.extend(ids.into_iter().map(|id| (Target::from(&provider), id)));
        }
        if places.len() > MOST_QUESTIONS {
            return Err(Error::bad_request(format!("{} resources could be meant", places.len()))
                .advise("name one with ?resource=, or use its own path"));
        }
        Ok((places, left_out))
    }

    /// The one place where `under` (`/pipes/web`) exists.
    async fn find(&self, fed: &dyn Federation, under: &str, what: &str) -> Result<(Target, ResourceId)> {
        let (mut places, mut silent) = self.everywhere(fed).await?;
        if let Some(pipe) = under.strip_prefix("/pipes/").and_then(path::decode) {
            let pipe = |id: &ResourceId| Resource::new(PIPE, &*pipe).within(id.clone());
            places.retain(|(target, id)| fed.may_see(&target.provider, &pipe(id)));
        }
        let question = |(target, id): &(Target, ResourceId)| -> Option<(Target, Query)> {
            let path = format!("/{}{under}", path::encode(id.as_str()));
            Some((target.clone(), Request::get(path).body(Bytes::new()).ok()?))
        };
        let answers = fed.query_each(places.iter().filter_map(question).collect()).await;
        let mut found = Vec::new();
        for (place, (target, answer)) in places.into_iter().zip(answers) {
            match answer.map(|answer| answer.status()) {
                Ok(status) if status.is_success() => found.push(place),
                Ok(StatusCode::NOT_FOUND | StatusCode::GONE) => {}
                Ok(_) | Err(_) => silent.push(target.provider),
            }
        }
        match (found.len(), silent.is_empty()) {
            (1, _) => found.pop().ok_or_else(|| nowhere(what)),
            (0, true) => Err(nowhere(what)),
            (0, false) => {
                silent.dedup();
                Err(Error::could_not_ask(what, silent))
            }
            _ => Err(ambiguous(what, found.into_iter().map(|(target, id)| (target.provider, id)))),
        }
    }
}

fn nowhere(what: &str) -> Error {
    Error::new(ErrorKind::UnknownResource, Fault::Caller, format!("no resource has {what}"))
}

fn ambiguous(what: &str, found: impl Iterator<Item = (ProviderId, ResourceId)>) -> Error {
    let (mut places, mut candidates) = (Vec::new(), Vec::new());
    for (provider, resource) in found {
        places.push(format!("{resource} at {provider}"));
        if !candidates.contains(&provider) {
            candidates.push(provider);
        }
    }
    let public = format!("{what} could be that of {}", places.join(", or of "));
    Error::new(ErrorKind::Ambiguous, Fault::Caller, public)
        .advise("choose with ?resource= or the header Standpipe-Provider, or use /{resource}/...")
        .with_candidates(candidates)
}

#[async_trait(?Send)]
impl Extension for RoutePipes {
    fn name(&self) -> &'static str {
        "cloudpipe-route-pipes"
    }

    fn routes(&self) -> Vec<Route> {
        vec![
            Route::post("/pipes"),
            Route::any("/pipes/{*name}"),
            Route::any("/offers/{*name}"),
            Route::any("/needs/{*name}"),
        ]
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        let (resource, query) = take_resource(call.uri.query());
        let path = call.uri.path().to_owned();
        if let Some(resource) = resource {
            lead(request, &resource, &path, query.as_deref())?;
            return Ok(Flow::Continue);
        }
        let (side, rest) = path::split_first(&path);
        let (name, _) = path::split_first(rest);
        if name.is_empty() {
            return Err(Error::bad_request("a pipe is created within a resource, and none is named")
                .advise("POST /pipes?resource=..., or POST /{resource}/pipes"));
        }
        let id = path::decode(name).unwrap_or_default().into_owned();
        let what = format!("{} {id}", side.trim_end_matches('s'));
        if side == "pipes" {
            let known = fed.mappings(&PIPE, &id.as_str().into(), 10).await?;
            let pinned = fed.pinned();
            let mut known: Vec<_> = known
                .into_iter()
                .filter(|mapping| mapping.state != MappingState::Gone)
                .filter(|mapping| pinned.as_ref().is_none_or(|pinned| *pinned == mapping.provider))
                .filter_map(|mapping| Some((mapping.provider, mapping.resource.parent?)))
                .collect();
            if known.len() > 1 {
                return Err(ambiguous(&what, known.into_iter()));
            }
            if let Some((_, resource)) = known.pop() {
                lead(request, resource.as_str(), &path, query.as_deref())?;
                return Ok(Flow::Continue);
            }
        }
        let (target, resource) = self.find(fed, &format!("/{side}/{name}"), &what).await?;
        lead(request, resource.as_str(), &path, query.as_deref())?;
        Ok(Flow::To(target))
    }
}

/// Takes `resource` out of a query; the rest stays byte for byte.
fn take_resource(query: Option<&str>) -> (Option<String>, Option<String>) {
    let Some(query) = query else { return (None, None) };
    let (named, rest): (Vec<&str>, Vec<&str>) =
        query.split('&').partition(|pair| pair.starts_with("resource="));
    let value = named.first().and_then(|pair| pair.split_once('=')).map(|(_, value)| value.replace('+', " "));
    let resource = value.map(|value| percent_decode_str(&value).decode_utf8_lossy().into_owned());
    match resource.filter(|resource| path::is_segment(resource)) {
        Some(resource) => (Some(resource), (!rest.is_empty()).then(|| rest.join("&"))),
        None => (None, Some(query.to_owned())),
    }
}

/// Turns a request for a root path into one for the resource's.
fn lead(request: &mut Request<Body>, resource: &str, path: &str, query: Option<&str>) -> Result<()> {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let target = format!("/{}{path}{query}", path::encode(resource));
    let target = PathAndQuery::try_from(target).map_err(|_| Error::bad_request("the path cannot be read"))?;
    *request.uri_mut() = Uri::from(target);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use serde_json::json;
    use standpipe_api::testing::{FakeFederation, call, json_answer, provider};
    use standpipe_api::{Mapping, Provider, Settings, Timestamp};

    use crate::cloudpipe::settings::ProviderSettings;

    fn federation(has: &'static [(&'static str, StatusCode)]) -> FakeFederation {
        let settled = |name: &str, resources: &str| {
            let table = format!("resources = [{resources}]").parse().unwrap();
            Provider {
                settings: Settings::new(ProviderSettings::read(&table).unwrap()),
                ..provider(name, NAME)
            }
        };
        FakeFederation::new(NAME, &[], move |target, query| {
            let place = format!("{}{}", target.provider, query.uri().path());
            let status = has
                .iter()
                .find(|(known, _)| *known == place)
                .map_or(StatusCode::NOT_FOUND, |(_, status)| *status);
            Ok(json_answer(status, &json!({})))
        })
        .with_providers(vec![settled("alpha", r#""db""#), settled("beta", r#""web", "app""#)])
    }

    async fn led(federation: &FakeFederation, method: Method, uri: &str) -> Result<(Flow, String)> {
        let route = RoutePipes::new(Arc::default());
        let mut call = call(method, uri, &[]);
        let mut request = Request::default();
        *request.uri_mut() = uri.parse().unwrap();
        let flow = route.take_over(&mut call, &mut request, federation).await?;
        Ok((flow, request.uri().to_string()))
    }

    #[tokio::test]
    async fn a_name_that_one_resource_has_leads_there() {
        let federation = federation(&[("beta/web/offers/page", StatusCode::OK)]);
        let (flow, uri) = led(&federation, Method::POST, "/offers/page/bindings?x=1").await.unwrap();
        assert!(matches!(flow, Flow::To(target) if target.provider.as_str() == "beta"));
        assert_eq!(uri, "/web/offers/page/bindings?x=1");
    }

    #[tokio::test]
    async fn two_that_could_be_meant_are_both_named() {
        let has = &[("beta/web/pipes/p", StatusCode::OK), ("alpha/db/pipes/p", StatusCode::OK)];
        let error = led(&federation(has), Method::DELETE, "/pipes/p").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.candidates()),
            (ErrorKind::Ambiguous, &["alpha".into(), "beta".into()][..])
        );
        assert!(error.public().contains("db at alpha"), "{error}");
    }

    #[tokio::test]
    async fn silence_is_not_absence() {
        let error = led(&federation(&[]), Method::GET, "/pipes/p").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownResource);
        let has = &[("beta/app/pipes/p", StatusCode::INTERNAL_SERVER_ERROR)];
        let error = led(&federation(has), Method::GET, "/pipes/p").await.unwrap_err();
        assert_eq!((error.kind(), error.candidates()), (ErrorKind::CouldNotAsk, &["beta".into()][..]));
    }

    #[tokio::test]
    async fn a_mapped_pipe_needs_no_question() {
        let federation = federation(&[]);
        let pipe = Resource::new(PIPE, "p").within("db");
        federation.learn(Mapping::learned(pipe, "alpha".into(), Timestamp::now())).await.unwrap();
        let (flow, uri) = led(&federation, Method::GET, "/pipes/p").await.unwrap();
        assert!(matches!(flow, Flow::Continue) && uri == "/db/pipes/p");
        assert!(federation.asked().is_empty());
    }

    #[tokio::test]
    async fn a_new_pipe_needs_its_resource() {
        let federation = federation(&[]);
        assert_eq!(led(&federation, Method::POST, "/pipes").await.unwrap_err().kind(), ErrorKind::BadRequest);
        let slash = led(&federation, Method::POST, "/pipes?a=1&resource=arn:db%2F").await.unwrap_err();
        assert_eq!(slash.kind(), ErrorKind::BadRequest, "an id with a slash is no segment");
        let (_, uri) = led(&federation, Method::POST, "/pipes?a=%20&resource=arn:db&b").await.unwrap();
        assert_eq!(uri, "/arn:db/pipes?a=%20&b");
    }
}
