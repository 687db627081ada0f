//! What the engine needs to know of cloudpipe (`cloudpipe-openapi.yaml` 0.1.0).

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Map, Value};
use standpipe_api::{
    Address, Body, CallId, Dialect, Effect, Error, Face, Hint, Kind, Operation, Outcome, Problems, Provider,
    Query, RequestView, Resource, Rest, Route, Settings, Verdict,
};

use super::resources::Resources;
use super::settings::ProviderSettings;
use super::shape::new_ids;
use crate::path;

/// The word in `dialect = "cloudpipe"`.
pub(super) const NAME: &str = "cloudpipe";
/// An app or backing service; its id is the first path segment.
pub(crate) const RESOURCE: Kind = Kind::of("resource");
/// A pipe, named within its resource.
pub(crate) const PIPE: Kind = Kind::of("pipe");

const READ_PIPE: Operation = Operation::new("read-pipe", Effect::Read);
const UPDATE_PIPE: Operation = Operation::new("update-pipe", Effect::Update);
const DELETE_PIPE: Operation = Operation::new("delete-pipe", Effect::Delete);
const CREATE_PIPE: Operation = Operation::new("create-pipe", Effect::Create);
const BIND: Operation = Operation::new("bind", Effect::Create);

/// The cloudpipe dialect.
pub struct CloudpipeDialect {
    resources: Arc<Resources>,
}

impl CloudpipeDialect {
    /// Reads resources' own URLs from their lists.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources }
    }
}

impl Dialect for CloudpipeDialect {
    fn name(&self) -> &'static str {
        NAME
    }

    fn face(&self) -> Face {
        Face { name: NAME, roots: &["offers", "needs", "pipes"], owns_the_rest: Rest::Owned }
    }

    fn operations(&self) -> Vec<(Route, Operation)> {
        let read = |pattern: &str| Route::of([Method::GET, Method::HEAD], pattern);
        let list = |name| Operation::new(name, Effect::Read);
        let mut operations = vec![
            (read("/{resource}/pipes"), list("list-pipes")),
            (Route::post("/{resource}/pipes"), CREATE_PIPE),
            (read("/{resource}/pipes/{pipe}"), READ_PIPE),
            (Route::of([Method::PATCH, Method::POST, Method::PUT], "/{resource}/pipes/{pipe}"), UPDATE_PIPE),
            (Route::delete("/{resource}/pipes/{pipe}"), DELETE_PIPE),
        ];
        for (side, all) in [("offers", "list-offers"), ("needs", "list-needs")] {
            operations.push((read(&format!("/{{resource}}/{side}")), list(all)));
            operations.push((read(&format!("/{{resource}}/{side}/{{*blueprint}}")), list("read-blueprint")));
            operations.push((Route::post(&format!("/{{resource}}/{side}/{{blueprint}}")), BIND));
            operations.push((Route::post(&format!("/{{resource}}/{side}/{{blueprint}}/bindings")), BIND));
        }
        operations.push((Route::any("/{resource}"), Operation::OTHER));
        operations.push((Route::any("/{resource}/{*rest}"), Operation::OTHER));
        operations
    }

    fn kinds(&self) -> Vec<Kind> {
        vec![RESOURCE, PIPE]
    }

    fn provider_settings(&self, table: &toml::Table) -> Result<Settings, Problems> {
        ProviderSettings::read(table).map(Settings::new)
    }

    /// A list of resources may be a file, or what a program prints.
    fn reaches_machine(&self, table: &toml::Table) -> Vec<&'static str> {
        let elsewhere = table.get("resources").and_then(toml::Value::as_table);
        let here = elsewhere.is_some_and(|list| list.contains_key("file") || list.contains_key("command"));
        if here { vec!["resources"] } else { Vec::new() }
    }

    fn needs_body(&self, operation: Operation) -> bool {
        operation == CREATE_PIPE || operation == BIND
    }

    fn names(&self, operation: Operation, request: &RequestView<'_>) -> Vec<Resource> {
        let resource = request.params.get("resource");
        if resource.is_empty() {
            return Vec::new();
        }
        let named = match operation {
            READ_PIPE | UPDATE_PIPE | DELETE_PIPE => Some(request.params.get("pipe").to_owned()),
            CREATE_PIPE | BIND => request.body.and_then(pipe_id),
            _ => None,
        };
        let pipe = named.map(|pipe| Resource::new(PIPE, pipe).within(resource));
        pipe.into_iter().chain([Resource::new(RESOURCE, resource)]).collect()
    }

    fn claims(&self, operation: Operation, first: &Resource) -> bool {
        // Without an id in the body the broker chooses one, and the resource is named first: it exists already.
        operation.effect == Effect::Create && first.kind == PIPE
    }

    fn creates(&self, operation: Operation) -> Option<Kind> {
        (operation.effect == Effect::Create).then_some(PIPE)
    }

    fn created(&self, operation: Operation, named: &[Resource], answer: &HeaderMap) -> Option<Resource> {
        self.creates(operation)?;
        let resource = named.iter().find(|resource| resource.kind == RESOURCE)?;
        let location = answer.get(LOCATION)?.to_str().ok()?;
        let path = location.split(['?', '#']).next()?.trim_end_matches('/');
        let (_, id) = path.rsplit_once("/pipes/")?;
        let id = path::decode(id).filter(|id| path::is_segment(id))?;
        Some(Resource::new(PIPE, &*id).within(resource.id.clone()))
    }

    fn hints(&self, _operation: Operation, request: &RequestView<'_>) -> Vec<Hint> {
        let resource = request.params.get("resource");
        if resource.is_empty() { Vec::new() } else { vec![Hint::new(RESOURCE, resource)] }
    }

    fn address<'a>(&self, provider: &'a Provider, path: &'a str) -> Address<'a> {
        let (resource, rest) = path::split_first(path);
        if let Some(own) = self.resources.url(provider, resource) {
            return Address { base: Cow::Owned(own), path: Cow::Borrowed(rest) };
        }
        // Hardly any URL is a template, and one byte is found faster than a word.
        if provider.url.as_bytes().contains(&b'{') {
            let base = provider.url.replace("{resource}", resource);
            return Address { base: Cow::Owned(base), path: Cow::Borrowed(rest) };
        }
        Address { base: Cow::Borrowed(&provider.url), path: Cow::Borrowed(path) }
    }

    /// Every broker answers for the pipes of a resource it has; one without offers or needs may say 404 there.
    fn question(&self, resource: &Resource) -> Option<Query> {
        if resource.kind != RESOURCE {
            return None;
        }
        let path = format!("/{}/pipes", path::encode(resource.id.as_str()));
        http::Request::get(path).body(Bytes::new()).ok()
    }

    fn judge(&self, operation: Operation, outcome: &Outcome<'_>) -> Verdict {
        match outcome {
            // A full blueprint is 409 as well, so that it proves nothing about the id.
            Outcome::Answered { status: StatusCode::CONFLICT, .. } if operation == BIND => Verdict::Maybe,
            _ => outcome.plain_verdict(operation.effect),
        }
    }

    fn not_found(&self, _operation: Operation, error: &Error, call: CallId) -> Response<Body> {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": error.public(),
            "fault": "caller",
            "call": call.to_string(),
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }

    fn accepts_foreign_bearer(&self, operation: Operation, provider: &Provider) -> bool {
        let single = matches!(operation, READ_PIPE | UPDATE_PIPE | DELETE_PIPE);
        single && ProviderSettings::of(provider).is_some_and(|settings| settings.peer_bearer)
    }
}

/// The id a caller gave a new pipe. Brokers differ in which of two they take: the answer says it then.
pub(super) fn pipe_id(body: &Bytes) -> Option<String> {
    let given: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let id = match new_ids(&given) {
        [Some(flat), Some(nested)] if flat != nested => return None,
        [flat, nested] => flat.or(nested)?,
    };
    id.as_str().filter(|id| path::is_segment(id)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use standpipe_api::{Params, testing};

    fn dialect() -> CloudpipeDialect {
        CloudpipeDialect::new(Arc::default())
    }

    fn named(operation: Operation, params: &[(&str, &str)], body: &'static str) -> Vec<String> {
        let params = Params::decode(params.iter().map(|(name, value)| (Arc::from(*name), *value)));
        let (request, body) = (Request::new(()), Bytes::from_static(body.as_bytes()));
        let view = RequestView::of(&request, &params, Some(&body));
        dialect().names(operation, &view).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_new_pipe_is_named_by_its_body_flat_or_nested() {
        let db = [("resource", "arn:rds:db")];
        assert_eq!(
            named(CREATE_PIPE, &db, r#"{"id":"web"}"#),
            ["pipe arn:rds:db/web", "resource arn:rds:db"]
        );
        assert_eq!(
            named(BIND, &db, r#"{"pipe":{"id":"web"}}"#),
            ["pipe arn:rds:db/web", "resource arn:rds:db"]
        );
        assert_eq!(
            named(BIND, &db, r#"{"id":"web","pipe":{"ID":"web"}}"#),
            ["pipe arn:rds:db/web", "resource arn:rds:db"]
        );
        let two = r#"{"id":"web","pipe":{"id":"app"}}"#;
        for body in ["{}", "", "[", r#"{"id":7}"#, r#"{"id":"a/b"}"#, two] {
            let names = named(CREATE_PIPE, &db, body);
            assert_eq!(names, ["resource arn:rds:db"], "{body}");
        }
        assert!(
            !dialect().claims(CREATE_PIPE, &Resource::new(RESOURCE, "db")),
            "a resource is never claimed"
        );
    }

    #[test]
    fn a_full_blueprint_is_no_proof_of_a_pipe() {
        let conflict =
            Outcome::Answered { status: StatusCode::CONFLICT, headers: &http::HeaderMap::new(), body: None };
        assert_eq!(dialect().judge(BIND, &conflict), Verdict::Maybe);
        assert_eq!(dialect().judge(CREATE_PIPE, &conflict), Verdict::Live);
        let gone = Outcome::Answered {
            status: StatusCode::NO_CONTENT,
            headers: &http::HeaderMap::new(),
            body: None,
        };
        assert_eq!(dialect().judge(DELETE_PIPE, &gone), Verdict::Gone);
    }

    #[test]
    fn a_template_takes_the_resource_out_of_the_path() {
        let mut provider = testing::provider("alpha", NAME);
        provider.url = "https://host/apps/{resource}".into();
        let dialect = dialect();
        let address = dialect.address(&provider, "/arn:rds:db/pipes/a%2Fb");
        assert_eq!((&*address.base, &*address.path), ("https://host/apps/arn:rds:db", "/pipes/a%2Fb"));
    }

    #[test]
    fn the_question_keeps_colons_and_hides_slashes() {
        let path =
            |id: &str| dialect().question(&Resource::new(RESOURCE, id)).unwrap().uri().path().to_owned();
        assert_eq!(path("arn:rds:db"), "/arn:rds:db/pipes");
        assert_eq!(path("a/b c"), "/a%2Fb%20c/pipes");
        assert!(dialect().question(&Resource::new(PIPE, "p")).is_none());
    }
}
