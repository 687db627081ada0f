//! A dialect that greets: a provider is asked before it is taken, and again when an operator wants it.

use std::rc::Rc;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use standpipe::assemble::{self, Front};
use standpipe::serve::Server;
use standpipe::telemetry::{AccessLog, Metrics};
use standpipe_api::{
    Answer, Background, Body, CallId, Dialect, Error, Extension, Face, Kind, Operation, Outcome, Problems,
    Query, RequestView, Resource, Rest, Result, Route, Settings, Verdict,
};

use crate::support::{House, Origin, until};

/// Brings the dialect, and writes down what it hears.
#[derive(Default)]
struct Greeter {
    heard: Arc<Mutex<Vec<String>>>,
}

#[async_trait(?Send)]
impl Extension for Greeter {
    fn name(&self) -> &'static str {
        "greeter"
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        vec![Arc::new(Greeting)]
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        loop {
            let heard = tokio::select! {
                name = background.refreshed() => format!("refresh {name}"),
                () = background.reloaded() => {
                    let each = background.providers().into_iter();
                    each.map(|one| format!("{} {}", one.id, one.availability.as_str())).collect::<Vec<_>>().join(", ")
                }
                () = background.stopped() => return Ok(()),
            };
            self.heard.lock().unwrap().push(heard);
        }
    }
}

struct Greeting;

impl Dialect for Greeting {
    fn name(&self) -> &'static str {
        "greeting"
    }

    fn face(&self) -> Face {
        Face { name: "greeting", roots: &["greeting"], owns_the_rest: Rest::NotOwned }
    }

    fn operations(&self) -> Vec<(Route, Operation)> {
        Vec::new()
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
        Response::new(Body::empty())
    }

    fn greeting(&self) -> Option<Query> {
        Request::get("/hello").header("x-version", "1").body(Bytes::new()).ok()
    }

    fn accepts_greeting(&self, answer: &Answer) -> std::result::Result<(), String> {
        let good = answer.body().as_ref() == b"hello";
        if good { Ok(()) } else { Err("$.services[0].id: is missing".into()) }
    }
}

struct World {
    server: Server,
    house: House,
    heard: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new() -> Self {
        let house = House::new("threads = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
        let greeter = Greeter::default();
        let heard = greeter.heard.clone();
        let mut extensions = standpipe_extensions::all();
        extensions.push(Box::new(greeter));
        let reserved = standpipe_extensions::RESERVED;
        let (config, parts) =
            assemble::load(Some(&house.config), extensions, reserved, Front::Proxy).unwrap();
        let server = Server::start(config, parts, &Metrics::new(), AccessLog::OFF).unwrap();
        Self { server, house, heard }
    }

    fn add(&self, url: &str) -> (u16, String) {
        let credential = json!({"kind": "basic", "username": "ann", "password": {"value": "hunter2"}});
        let body = json!({"name": "alpha", "dialect": "greeting", "url": url, "credential": credential});
        let answer = self.house.admin("POST", "/providers", &body.to_string());
        (answer.status, answer.body)
    }
}

#[test]
fn a_provider_is_taken_when_it_lets_standpipe_in_and_speaks_its_dialect() {
    let world = World::new();
    let rows = [
        ("HTTP/1.1 401 No\r\ncontent-length: 6\r\n\r\ncanary", 400, "credential: alpha refuses it"),
        ("HTTP/1.1 403 No\r\ncontent-length: 6\r\n\r\ncanary", 400, "credential: alpha refuses it"),
        (
            "HTTP/1.1 302 No\r\nlocation: http://canary\r\ncontent-length: 0\r\n\r\n",
            400,
            "url: alpha answers 302",
        ),
        ("HTTP/1.1 404 No\r\ncontent-length: 6\r\n\r\ncanary", 400, "url: alpha answers 404"),
        ("HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\ncanary", 502, "failed with 500"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ncanary", 400, "$.services[0].id: is missing"),
        ("canary\r\n\r\n", 502, "did not answer"),
    ];
    for (answer, status, text) in rows {
        let origin = Origin::answering(answer);
        let (found, body) = world.add(&format!("http://{}", origin.address));
        assert!(found == status && body.contains(text), "{answer}: {found} {body}");
        assert!(!body.contains("canary") && !body.contains("hunter2"), "{body}");
    }
    let (status, body) = world.add("http://127.0.0.1:1");
    assert!(
        status == 502 && body.contains("did not answer") && body.contains("nothing was stored"),
        "{body}"
    );
    assert_eq!(world.house.admin("GET", "/providers", "").json()["providers"], json!([]));

    let good = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let (status, body) = world.add(&format!("http://{}", good.address));
    assert_eq!(status, 201, "{body}");
    let asked = good.first();
    assert!(asked.starts_with("GET /hello HTTP/1.1") && asked.contains("Basic YW5uOmh1bnRlcjI="), "{asked}");
    assert!(asked.contains("x-version: 1"), "{asked}");
    let bad = Origin::answering("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n");
    let credential = json!({"kind": "bearer", "token": {"value": "t"}});
    let moved = json!({"url": format!("http://{}", bad.address), "credential": credential}).to_string();
    assert_eq!(world.house.admin("PATCH", "/providers/alpha", &moved).status, 400);
    let shown = world.house.admin("GET", "/providers/alpha", "").json()["url"].clone();
    assert_eq!(shown, json!(format!("http://{}", good.address)), "the old one stays in force");
    world.server.stop();
}

#[test]
fn extensions_hear_of_each_change_and_of_each_wish_to_ask() {
    let world = World::new();
    let good = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let heard = |wanted: &str| {
        until(wanted, || world.heard.lock().unwrap().last().is_some_and(|last| last == wanted));
    };
    assert_eq!(world.add(&format!("http://{}", good.address)).0, 201);
    heard("alpha active");
    assert_eq!(world.house.admin("POST", "/providers/alpha/drain", "").status, 200);
    heard("alpha draining");
    assert_eq!(world.house.admin("POST", "/providers/alpha/refresh", "").status, 202);
    heard("refresh alpha");
    assert_eq!(world.house.admin("DELETE", "/providers/alpha", "").status, 200);
    heard("");
    assert_eq!(world.heard.lock().unwrap().len(), 4, "each once");
    world.server.stop();
}
