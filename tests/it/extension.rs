//! Each part of the contract, proven by an extension that uses it, inside a whole standpipe.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::request::Parts;
use http::{Request, Response};
use standpipe::assemble::{self, Front};
use standpipe::serve::Server;
use standpipe::telemetry::{AccessLog, Metrics};
use standpipe_api::{
    Authenticator, Background, Body, Call, Caller, Change, Connection, Credential, CredentialRequest,
    CredentialSource, CredentialStrategy, Extension, Federation, Flow, Hint, Identified, Job, JobId,
    JobOutcome, Kind, NewEvent, NewJob, Problems, Provider, Result, Route, Secrets, Target, Upstream,
};

use crate::support::{Answer, House, exchange, until};

#[derive(Default)]
struct Probe {
    jobs: Arc<AtomicU32>,
}

#[async_trait(?Send)]
impl Extension for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn routes(&self) -> Vec<Route> {
        vec![Route::any("/probe/{what}"), Route::any("/{resource}/echo"), Route::get("/led")]
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        let text = |text: String| Ok(Flow::Respond(Response::new(Body::from(text))));
        match call.params.get("what") {
            "panic" => panic!("on purpose"),
            "caller" => text(fed.caller().id.to_string()),
            "providers" => {
                text(fed.providers().iter().map(|one| one.id.to_string()).collect::<Vec<_>>().join(","))
            }
            "query" => {
                let query = Request::get("/thing/echo").body(Bytes::new()).unwrap();
                let answer = fed.query(&Target::provider("inside".into()), query).await?;
                text(String::from_utf8_lossy(answer.body()).into_owned())
            }
            "state" => {
                let put = Change::Put { key: "k".into(), value: Bytes::from_static(b"kept"), expected: None };
                let job = NewJob {
                    id: JobId("j".into()),
                    payload: Bytes::from_static(b"work"),
                    delay: Duration::ZERO,
                };
                let told = Change::Event(NewEvent::new("probe.state", &"kept").of(fed.caller()));
                let changes = vec![put, Change::Schedule(job), told];
                fed.state().commit(changes).await?.expect("nobody else writes");
                fed.event_behind(0).await;
                let page = fed.events(0, 100).await?.expect("nothing was removed");
                let told =
                    page.events.iter().find(|event| event.kind == "probe.state").expect("just written");
                assert_eq!((told.owner.as_ref(), &told.payload), (Some(&fed.caller().id), &"kept".into()));
                assert_eq!(fed.last_event(), page.next);
                let record = fed.state().get("k").await?.expect("just written");
                text(String::from_utf8_lossy(&record.value).into_owned())
            }
            _ if call.uri.path() == "/led" => {
                *request.uri_mut() = "/thing/echo?led".parse().unwrap();
                Ok(Flow::To(Target::provider("inside".into())))
            }
            _ => Ok(Flow::Continue),
        }
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        _to: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        call.notes.insert(7u8);
        request.headers_mut().insert("x-before", HeaderValue::from_static("1"));
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        assert_eq!(call.notes.get::<u8>(), Some(&7));
        response.headers_mut().insert("x-after", HeaderValue::try_from(from.provider.as_str()).unwrap());
        Ok(())
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        background.publish_index(&"inside".into(), vec![Hint::new(Kind::of("resource"), "thing")]);
        Ok(())
    }

    async fn run_job(&self, job: Job, _background: Rc<dyn Background>) -> JobOutcome {
        assert_eq!(&job.payload[..], b"work");
        let before = self.jobs.fetch_add(1, Ordering::Relaxed);
        let again =
            JobOutcome::Again { delay: Duration::ZERO, payload: job.payload, reason: "once more".into() };
        if before == 0 { again } else { JobOutcome::Done }
    }

    fn upstream_kind(&self) -> Option<&'static str> {
        Some("echo")
    }

    fn upstream(&self, _provider: &Provider, _table: &toml::Table) -> Result<Arc<dyn Upstream>, Problems> {
        Ok(Arc::new(Echo))
    }

    fn authenticators(&self) -> Vec<Arc<dyn Authenticator>> {
        vec![Arc::new(Key)]
    }

    fn credential_strategies(&self) -> Vec<Arc<dyn CredentialStrategy>> {
        vec![Arc::new(Stamp)]
    }
}

/// Answers with what it got.
struct Echo;

#[async_trait(?Send)]
impl Upstream for Echo {
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let field = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
        };
        Response::new(Body::from(format!(
            "{} before={} auth={}",
            request.uri(),
            field("x-before"),
            field("authorization")
        )))
    }
}

/// Knows callers by `x-key`.
struct Key;

#[async_trait(?Send)]
impl Authenticator for Key {
    fn name(&self) -> &'static str {
        "key"
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("Key"))
    }

    async fn identify(&self, head: &Parts, _connection: &Connection) -> Identified {
        let Some(key) = head.headers.get("x-key").and_then(|key| key.to_str().ok()) else {
            return Identified::NotMine;
        };
        let id = format!("key:{key}").into();
        Identified::Caller(Arc::new(Caller { id, tenant: None, groups: Vec::new(), authenticator: "key" }))
    }
}

/// A credential that says for whom it is.
struct Stamp;

impl CredentialStrategy for Stamp {
    fn kind(&self) -> &'static str {
        "stamp"
    }

    fn source(
        &self,
        _table: &toml::Table,
        _secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        Ok(Arc::new(Self))
    }
}

#[async_trait(?Send)]
impl CredentialSource for Stamp {
    async fn obtain(&self, request: &CredentialRequest<'_>) -> Result<Credential> {
        let caller = request.caller.map_or("nobody", |caller| caller.id.as_str());
        let mut credential = Credential::none();
        credential.headers.push((AUTHORIZATION, HeaderValue::try_from(format!("Stamp {caller}")).unwrap()));
        Ok(credential)
    }
}

const CONFIG: &str = r#"
threads = 1
[[listener]]
address = "127.0.0.1:0"
callers = ["key"]
[[provider]]
name = "inside"
dialect = "cloudpipe"
echo = {}
credential = { kind = "stamp" }
[[provider]]
name = "nowhere"
dialect = "cloudpipe"
url = "http://127.0.0.1:1"
"#;

struct World {
    server: Server,
    jobs: Arc<AtomicU32>,
    _house: House,
}

impl World {
    fn new() -> Self {
        let house = House::new(CONFIG);
        let probe = Probe::default();
        let jobs = probe.jobs.clone();
        let mut extensions = standpipe_extensions::all();
        extensions.push(Box::new(probe));
        let reserved = standpipe_extensions::RESERVED;
        let (config, parts) =
            assemble::load(Some(&house.config), extensions, reserved, Front::Proxy).unwrap();
        let server = Server::start(config, parts, &Metrics::new(), AccessLog::OFF).unwrap();
        Self { server, jobs, _house: house }
    }

    fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-key: ann\r\n\r\n");
        Answer::parse(&exchange(self.server.addresses()[0], request.as_bytes()).unwrap()).unwrap()
    }
}

#[test]
fn every_part_of_the_contract_does_what_it_says() {
    let world = World::new();
    assert_eq!(world.get("/probe/caller").body, "key:ann");
    assert_eq!(world.get("/probe/providers").body, "inside,nowhere");
    until("the index is published", || world.get("/thing/echo").status == 200);

    let forwarded = world.get("/thing/echo?x");
    assert_eq!(forwarded.body, "/thing/echo?x before=1 auth=Stamp key:ann");
    assert_eq!(forwarded.header("x-after"), Some("inside"));
    let led = world.get("/led");
    assert_eq!((led.status, led.body.as_str()), (200, "/thing/echo?led before=1 auth=Stamp key:ann"));
    assert_eq!(
        world.get("/probe/query").body,
        "/thing/echo before=- auth=Stamp key:ann",
        "queries run no hooks"
    );

    assert_eq!(world.get("/probe/state").body, "kept");
    until("the job has run twice", || world.jobs.load(Ordering::Relaxed) == 2);

    let panicked = world.get("/probe/panic");
    assert_eq!(
        (panicked.status, panicked.json()["detail"].as_str()),
        (500, Some("the extension probe failed"))
    );
    assert_eq!(world.get("/probe/caller").status, 200, "nothing else is disturbed");

    let stranger = exchange(
        world.server.addresses()[0],
        b"GET /probe/caller HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    );
    let stranger = Answer::parse(&stranger.unwrap()).unwrap();
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("key")));
    world.server.stop();
}
