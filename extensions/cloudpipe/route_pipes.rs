//! The specification's root paths: `/pipes/{id}`, `/offers/{b}`, `/needs/{b}` and what is under them.
//!
//! A pipe or blueprint is named within a resource, so that the same name may mean several. The one that is meant is
//! searched for in all resources; then the call goes on as one for `/{resource}/...`. Two that could be meant are an
//! error that names them.

mod search;

use std::sync::Arc;

use async_trait::async_trait;
use http::Request;
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;
use standpipe_api::{Body, Call, Error, Extension, Federation, Flow, Result, Route};

use self::search::Sought;
use super::resources::Resources;
use crate::path;

/// The extension.
pub struct RoutePipes {
    resources: Arc<Resources>,
}

impl RoutePipes {
    /// Looks in these lists, and among learned resources.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources }
    }
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
        let id = path::decode(name).unwrap_or_default();
        let sought = Sought {
            method: &call.method,
            under: format!("/{side}/{name}"),
            pipe: (side == "pipes").then_some(&*id),
            what: format!("{} {id}", side.trim_end_matches('s')),
        };
        let place = sought.find(&self.resources, fed).await?;
        lead(request, place.resource.as_str(), &path, query.as_deref())?;
        // Where a mapping leads, the engine follows it.
        Ok(if place.mapped.is_some() { Flow::Continue } else { Flow::To(place.target) })
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
    use http::{Method, StatusCode};
    use serde_json::json;
    use standpipe_api::testing::{FakeFederation, call, json_answer, provider};
    use standpipe_api::{ErrorKind, Mapping, MappingState, Provider, Resource, Settings, Timestamp};

    use crate::cloudpipe::dialect::{NAME, PIPE};
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

    /// The pipe `p` of alpha's `db`, mapped like this; what has it, and how many resources were asked.
    async fn led_with(
        state: MappingState,
        has: &'static [(&'static str, StatusCode)],
        method: Method,
    ) -> std::result::Result<(String, usize), (ErrorKind, Vec<String>)> {
        let federation = federation(has);
        let pipe = Resource::new(PIPE, "p").within("db");
        let row = Mapping { state, ..Mapping::learned(pipe, "alpha".into(), Timestamp::now()) };
        federation.learn(row).await.unwrap();
        let outcome = led(&federation, method, "/pipes/p").await;
        let names = |error: &Error| error.candidates().iter().map(ToString::to_string).collect();
        outcome.map(|(_, uri)| (uri, federation.asked().len())).map_err(|error| (error.kind(), names(&error)))
    }

    const DB: (&str, StatusCode) = ("alpha/db/pipes/p", StatusCode::OK);
    const WEB: (&str, StatusCode) = ("beta/web/pipes/p", StatusCode::OK);
    const DOWN: (&str, StatusCode) = ("beta/app/pipes/p", StatusCode::BAD_GATEWAY);

    #[tokio::test]
    async fn a_mapping_says_nothing_of_other_resources() {
        let (live, both) =
            (MappingState::Live, Err((ErrorKind::Ambiguous, vec!["alpha".into(), "beta".into()])));
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let alone = led_with(live, &[DB], method.clone()).await;
            assert_eq!(alone, Ok(("/db/pipes/p".to_owned(), 3)), "{method}");
            let told = led_with(live, &[DB, WEB], method.clone()).await;
            assert_eq!(told, both, "{method}");
        }
    }

    #[tokio::test]
    async fn a_change_goes_nowhere_while_somebody_is_silent() {
        let silent = Err((ErrorKind::CouldNotAsk, vec!["beta".to_owned()]));
        for (state, has) in [(MappingState::Live, &[DB, DOWN]), (MappingState::Maybe, &[DB, DOWN])] {
            assert_eq!(led_with(state, has, Method::PATCH).await, silent, "{state:?}");
            assert_eq!(led_with(state, has, Method::DELETE).await, silent, "{state:?}");
            assert_eq!(led_with(state, has, Method::GET).await.unwrap().0, "/db/pipes/p");
        }
    }

    #[tokio::test]
    async fn a_repeated_deletion_reaches_no_other_pipe() {
        let both = Err((ErrorKind::Ambiguous, vec!["alpha".to_owned(), "beta".to_owned()]));
        // The second is one whose answer was lost.
        for state in [MappingState::Gone, MappingState::Live] {
            assert_eq!(led_with(state, &[], Method::DELETE).await.unwrap().0, "/db/pipes/p");
            assert_eq!(led_with(state, &[DOWN], Method::DELETE).await.unwrap().0, "/db/pipes/p");
            assert_eq!(led_with(state, &[WEB], Method::DELETE).await, both, "{state:?}");
            assert_eq!(led_with(state, &[WEB], Method::GET).await.unwrap().0, "/web/pipes/p");
        }
    }

    #[tokio::test]
    async fn an_open_claim_is_no_proof() {
        for state in [MappingState::Maybe, MappingState::Intent] {
            assert_eq!(led_with(state, &[WEB], Method::DELETE).await.unwrap().0, "/web/pipes/p");
            let nowhere = led_with(state, &[], Method::GET).await.unwrap_err();
            assert_eq!(nowhere.0, ErrorKind::UnknownResource);
            assert_eq!(led_with(state, &[DB], Method::PATCH).await.unwrap().0, "/db/pipes/p");
        }
    }

    #[tokio::test]
    async fn the_only_resource_needs_no_question() {
        let federation = federation(&[]).pinning("alpha");
        let pipe = Resource::new(PIPE, "p").within("db");
        federation.learn(Mapping::learned(pipe, "alpha".into(), Timestamp::now())).await.unwrap();
        let (flow, uri) = led(&federation, Method::DELETE, "/pipes/p").await.unwrap();
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
