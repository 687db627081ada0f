use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response};
use standpipe_api::{
    Body, CallId, Dialect, Effect, Error, Extension, Face, Kind, Operation, Outcome, Problems, Query,
    RequestView, Resource, Rest, Route, Settings, Verdict,
};

use super::*;

struct Pipes;

impl Dialect for Pipes {
    fn name(&self) -> &'static str {
        "pipes"
    }
    fn face(&self) -> Face {
        Face { name: "pipes", roots: &["offers"], owns_the_rest: Rest::Owned }
    }
    fn operations(&self) -> Vec<(Route, Operation)> {
        vec![
            (Route::any("/{resource}/{*rest}"), Operation::new("rest", Effect::Unknown)),
            (Route::get("/{resource}/pipes"), Operation::new("list", Effect::Read)),
            (Route::get("/{resource}/{thing}"), Operation::new("thing", Effect::Read)),
        ]
    }
    fn provider_settings(&self, _table: &toml::Table) -> Result<Settings, Problems> {
        Ok(Settings::new(()))
    }
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }
    fn names(&self, _operation: Operation, _request: &RequestView<'_>) -> Vec<Resource> {
        Vec::new()
    }
    fn question(&self, _resource: &Resource) -> Option<Query> {
        None
    }
    fn judge(&self, _operation: Operation, _outcome: &Outcome<'_>) -> Verdict {
        Verdict::Keep
    }
    fn not_found(&self, _operation: Operation, _error: &Error, _call: CallId) -> Response<Body> {
        Response::default()
    }
    fn error_body(&self, _: &Error, _: http::StatusCode, _: CallId) -> Option<(&'static str, Bytes)> {
        None
    }
}

struct Named(&'static str, Vec<Route>, Vec<Arc<dyn Dialect>>);

#[async_trait(?Send)]
impl Extension for Named {
    fn name(&self) -> &'static str {
        self.0
    }
    fn routes(&self) -> Vec<Route> {
        self.1.clone()
    }
    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        self.2.clone()
    }
}

fn extension(name: &'static str, routes: &[&str]) -> Arc<dyn Extension> {
    Arc::new(Named(name, routes.iter().map(|pattern| Route::any(pattern)).collect(), Vec::new()))
}

fn router(extensions: Vec<Arc<dyn Extension>>) -> Router {
    let mut all: Vec<Arc<dyn Extension>> = vec![Arc::new(Named("pipes", Vec::new(), vec![Arc::new(Pipes)]))];
    all.extend(extensions);
    Router::build(&all, &["matches"]).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn operation(router: &Router, path: &str) -> Option<&'static str> {
    let way = router.way(path).unwrap();
    let way = Way { dialect: way.dialect.or(router.dialect_named("pipes")), ..way };
    router.find(&Method::GET, &way).operation.map(|matched| matched.operation.name)
}

#[test]
fn the_most_specific_operation_is_chosen_on_both_faces() {
    let router = router(Vec::new());
    assert_eq!(operation(&router, "/db/pipes"), Some("list"));
    assert_eq!(operation(&router, "/db/other"), Some("thing"));
    assert_eq!(operation(&router, "/db/other/deep"), Some("rest"));
    assert_eq!(operation(&router, "/providers/alpha/db/pipes"), Some("list"));
    assert_eq!(operation(&router, "/db"), None);
}

#[test]
fn the_transparent_face_names_the_provider_and_keeps_the_path() {
    let router = router(vec![extension("spy", &["/{resource}/pipes"])]);
    let way = router.way("/providers/alpha/db/pipes").unwrap();
    assert_eq!((way.face, way.provider, way.path), (FaceId::TRANSPARENT, Some("alpha"), "/db/pipes"));
    assert!(router.find(&Method::GET, &way).extensions.is_empty(), "nothing alters the transparent face");
    assert_eq!(router.way("/providers/alpha").unwrap().path, "/");
    assert!(router.way("/providers").is_err());
}

#[test]
fn all_matching_extensions_are_asked_once_in_order() {
    let spies = vec![extension("one", &["/{resource}/pipes", "/{a}/{b}"]), extension("two", &["/db/{what}"])];
    let router = router(spies);
    let found = router.find(&Method::GET, &router.way("/db/pipes").unwrap());
    let ids: Vec<usize> = found.extensions.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn an_open_pattern_does_not_reach_reserved_words_however_they_are_written() {
    let router = router(vec![extension("spy", &["/{resource}/pipes", "/matches/{id}"])]);
    let way = router.way("/offers/pipes").unwrap();
    assert!(router.find(&Method::GET, &way).extensions.is_empty());
    let planned = router.way("/matches/pipes").unwrap();
    assert_eq!(planned.dialect, None, "a planned face is nobody's resource");
    assert_eq!(
        router.find(&Method::GET, &planned).extensions.len(),
        1,
        "unless an extension asks for the word itself"
    );
    assert_eq!(router.way("/%6Fffers/x").unwrap_err().kind(), ErrorKind::BadRequest);
    assert_eq!(router.way("/%6Dine/x").unwrap().path, "/%6Dine/x");
}

#[test]
fn all_mistakes_are_reported_together() {
    let again: Arc<dyn Extension> =
        Arc::new(Named("again", Vec::new(), vec![Arc::new(Pipes), Arc::new(Pipes)]));
    let all = [extension("one", &["/a//b", "/providers/{x}"]), extension("one", &["nope"]), again];
    let Err(problems) = Router::build(&all, &[]) else { panic!("accepted") };
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("two extensions have this name")));
    assert!(lines.iter().any(|line| line.contains("transparent face")));
}
