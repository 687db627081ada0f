//! Two standpipes that tell each other what they know, and what one does not take from the other.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use standpipe_api::Timestamp;

use crate::support::{Answer, Authority, House, Login, Origin, Standpipe, now, until};

pub(super) const MAPPINGS: &str = "/peer/v1/mappings";

/// A port that was free a moment ago, for a standpipe whose url must be known before it starts.
pub(super) fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A provider that has these resources and creates every pipe.
pub(super) fn provider(has: &'static [&'static str]) -> Origin {
    Origin::new(move |mut peer| {
        while let Some(request) = peer.request() {
            let (method, path) = request.split_once(' ').unwrap();
            let resource = path.split(['/', ' ']).nth(1).unwrap();
            peer.wire.send(match (method, has.contains(&resource)) {
                (_, false) => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                ("POST", true) => "HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
                (_, true) => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
            });
        }
    })
}

/// A standpipe at a port in front of `alpha` and `beta`.
pub(super) fn standpipe(port: u16, alpha: &Origin, beta: &Origin, more: &str) -> House {
    let mut config = format!("threads = 1\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n");
    for (name, origin) in [("alpha", alpha), ("beta", beta)] {
        config += &format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n",
            origin.address
        );
    }
    House::new(&(config + more))
}

/// A `[[peer]]` beside `alpha`.
pub(super) fn peer(name: &str, url: &str, more: &str) -> String {
    format!("[[peer]]\nname = \"{name}\"\nurl = \"{url}\"\nbeside = [\"alpha\"]\n{more}\n")
}

pub(super) const MAY: &str = "may_inject = { kinds = [\"resource\", \"pipe\"], max_lifetime = \"1h\" }";

/// A standpipe that lets a login be its peer `west`, and what the peer sends.
struct World {
    west: Login,
    alpha: Origin,
    beta: Origin,
    house: House,
    standpipe: Standpipe,
}

impl World {
    fn new(alpha: &'static [&'static str], beta: &'static [&'static str]) -> Self {
        let (west, alpha, beta) = (Login::new(), provider(alpha), provider(beta));
        let house = standpipe(0, &alpha, &beta, &peer("west", &west.url(), MAY));
        let standpipe = house.serve();
        Self { west, alpha, beta, house, standpipe }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.west.peer_token(self.standpipe.address, json!({})));
        self.standpipe.call(method, path, &[("authorization", &bearer)], body)
    }

    fn give(&self, resources: Value) -> Answer {
        let batch = json!({"given_at": after(0), "resources": resources});
        self.send("POST", MAPPINGS, &batch.to_string())
    }

    fn mappings(&self) -> String {
        self.house.command(&["mappings", "list", "--json"]).1
    }
}

/// So many seconds from now, as it is written in JSON.
pub(super) fn after(seconds: i64) -> String {
    Timestamp::from_millis(Timestamp::now().as_millis() + seconds * 1000).to_string()
}

fn db(at: &str, seconds: i64) -> Value {
    json!({"kind": "resource", "id": "db", "provider": at, "expires_at": after(seconds)})
}

#[test]
fn what_is_created_through_one_is_routed_by_the_other_without_a_search() {
    let (alpha, beta) = (provider(&["db"]), provider(&[]));
    let (at_a, at_b) = (port(), port());
    let url = |port| format!("http://127.0.0.1:{port}");
    let one = standpipe(at_a, &alpha, &beta, &peer("b", &url(at_b), "inject = true\nlifetime = \"30m\""));
    let other = standpipe(at_b, &alpha, &beta, &peer("a", &url(at_a), MAY));
    let (a, b) = (one.serve(), other.serve());
    let made = a.call("POST", "/db/pipes", &[("content-type", "application/json")], r#"{"id":"web"}"#);
    assert_eq!(made.status, 201, "{}", made.body);
    until("the other one knows", || other.command(&["mappings", "list"]).1.contains("injected by a"));
    let shown = other.command(&["mappings", "show", "pipe", "web", "--parent", "db"]).1;
    let field = |name: &str| shown.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(field("peer").unwrap().ends_with(" a") && field("expires").is_some(), "{shown}");
    let (asked, elsewhere) = (alpha.said().len(), beta.connections());
    assert_eq!(b.get("/db/pipes/web").status, 200);
    assert_eq!(
        (alpha.said().len(), beta.connections()),
        (asked + 1, elsewhere),
        "nobody was asked where it is"
    );
    assert_eq!(one.command(&["outbox", "list", "--json"]).1.trim(), "", "nothing is left to be told");
}

#[test]
fn sigkill_and_an_outage_between_giving_and_delivery_lose_nothing() {
    let (alpha, beta) = (provider(&["db"]), provider(&[]));
    let (at_a, at_b) = (port(), port());
    let url = |port| format!("http://127.0.0.1:{port}");
    let one = standpipe(at_a, &alpha, &beta, &peer("b", &url(at_b), "inject = true"));
    let other = standpipe(at_b, &alpha, &beta, &peer("a", &url(at_a), MAY));
    let mut a = one.serve();
    for _ in 0..2 {
        assert_eq!(a.post("/db/pipes", r#"{"id":"web"}"#).status, 201);
    }
    a.kill();
    let listed = one.command(&["outbox", "list", "--json"]).1;
    assert_eq!(listed.lines().count(), 1, "news of the same takes its place: {listed}");
    assert!(listed.contains("standpipe-peers") && !listed.contains("web"), "{listed}");
    let (_a, b) = (one.serve(), other.serve());
    until("it arrives", || other.command(&["mappings", "list"]).1.contains("injected by a"));
    assert_eq!(b.get("/db/pipes").status, 200);
}

#[test]
fn whatever_instant_the_giver_dies_at_what_it_acknowledged_arrives() {
    let (alpha, beta) = (provider(&["db"]), provider(&[]));
    let (at_a, at_b) = (port(), port());
    let url = |port| format!("http://127.0.0.1:{port}");
    let other = standpipe(at_b, &alpha, &beta, &peer("a", &url(at_a), MAY));
    let _b = other.serve();
    let one = standpipe(at_a, &alpha, &beta, &peer("b", &url(at_b), "inject = true"));
    // The first start writes signing keys; the points are to be met by the pipes.
    drop(one.serve());
    for (at, point) in ["commit-before", "commit-after"]
        .iter()
        .flat_map(|point| (1..=3).map(move |turn| (turn, format!("{point}:{turn}"))))
    {
        let mut a = one.serve_until(&point);
        let name = format!("{}-{at}", point.split(':').next().unwrap());
        let made = a.try_call(
            "POST",
            "/db/pipes",
            &[("content-type", "application/json")],
            &format!(r#"{{"id":"{name}"}}"#),
        );
        a.kill();
        let a = one.serve();
        if made.is_some_and(|answer| answer.status == 201) {
            until("it arrives", || other.command(&["mappings", "list"]).1.contains(&name));
            until("nothing is left to be told", || one.command(&["outbox", "list", "--json"]).1.is_empty());
        }
        drop(a);
    }
}

#[test]
fn a_peer_known_by_its_certificate_gives_over_tls() {
    let (alpha, beta, authority) = (provider(&["db"]), provider(&[]), Authority::new());
    authority.issue("front");
    authority.issue("client");
    let (at_a, at_b) = (port(), port());
    let path = |name: &str| authority.path(name);
    let calling = format!(
        "inject = true\ntls = {{ roots = {:?}, certificate = {:?}, key = {:?} }}",
        path("roots.pem"),
        path("client.pem"),
        path("client.key")
    );
    let one = standpipe(at_a, &alpha, &beta, &peer("b", &format!("https://localhost:{at_b}"), &calling));
    let certificate = format!("certificate = \"localhost\"\n{MAY}");
    let other = standpipe(at_b, &alpha, &beta, &peer("a", &format!("http://127.0.0.1:{at_a}"), &certificate));
    let text = std::fs::read_to_string(&other.config).unwrap();
    let tls = format!(
        "tls = {{ certificate = {:?}, key = {:?}, client_roots = {:?} }}\n[[provider]]",
        path("front.pem"),
        path("front.key"),
        path("roots.pem")
    );
    std::fs::write(&other.config, text.replacen("[[provider]]", &tls, 1)).unwrap();
    let (a, _b) = (one.serve(), other.serve());
    assert_eq!(a.post("/db/pipes", "{}").status, 201);
    until("the other one knows", || other.command(&["mappings", "list"]).1.contains("injected by a"));
}

#[test]
fn outside_its_grant_a_peer_is_refused_and_nothing_is_written() {
    let world = World::new(&["db"], &["db"]);
    let row = |more: Value| {
        let mut row = db("alpha", 60);
        for (name, value) in more.as_object().unwrap() {
            row[name] = value.clone();
        }
        row
    };
    for (what, bad, status) in [
        ("a kind", row(json!({"kind": "need"})), 403),
        ("a provider", row(json!({"provider": "beta"})), 403),
        ("a provider nobody knows", row(json!({"provider": "gamma"})), 403),
        ("a lifetime", row(json!({"expires_at": after(3700)})), 403),
        ("somebody's host", row(json!({"endpoint": "http://127.0.0.1:1"})), 403),
        ("no id", row(json!({"id": ""})), 400),
        ("a long id", row(json!({"id": "x".repeat(5000)})), 400),
        ("a state", row(json!({"state": "gone"})), 400),
        ("an owner", row(json!({"owner": "basic:ann"})), 400),
        ("no end", json!({"kind": "resource", "id": "db", "provider": "alpha"}), 400),
    ] {
        let answer = world.give(json!([row(json!({"id": "good"})), bad]));
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        assert!(status == 400 || answer.body.contains("resources[1]"), "{what}: {}", answer.body);
        assert_eq!(world.mappings(), "", "{what}: all or nothing");
    }
    let many: Vec<Value> = (0..1001).map(|number| row(json!({"id": number.to_string()}))).collect();
    assert_eq!(world.give(json!(many)).status, 400);
    assert_eq!(world.give(json!([])).status, 400);
    assert_eq!(world.send("POST", MAPPINGS, &" ".repeat(2 << 20)).status, 413);
    assert_eq!(world.send("POST", MAPPINGS, "[").status, 400);
    assert_eq!(world.send("PUT", MAPPINGS, "{}").status, 405);
    assert_eq!(world.send("GET", "/peer/v1/other", "").status, 404);
    assert_eq!((world.mappings().as_str(), world.alpha.connections()), ("", 0));
}

#[test]
fn the_same_batch_again_comes_to_the_same_and_what_is_known_here_stays() {
    let world = World::new(&["db", "cache"], &[]);
    assert_eq!(world.standpipe.get("/cache/pipes").status, 200, "found by a search, and learned");
    let cache = json!({"kind": "resource", "id": "cache", "provider": "alpha", "expires_at": after(60)});
    let batch = json!({"given_at": after(0), "resources": [db("alpha", 60), cache]}).to_string();
    for _ in 0..2 {
        let answer = world.send("POST", MAPPINGS, &batch);
        assert_eq!(
            answer.json(),
            json!({"written": 1, "kept": [{"at": "resources[1]", "origin": "learned"}]})
        );
    }
    let before = world.mappings();
    assert_eq!(world.send("POST", MAPPINGS, &batch).status, 200);
    assert_eq!(world.mappings(), before);
    let late = json!({"given_at": after(-60), "resources": [db("alpha", 3000)]});
    let answer = world.send("POST", MAPPINGS, &late.to_string()).json();
    assert_eq!(answer["kept"][0]["origin"], "injected", "older news does not follow newer");
}

#[test]
fn after_the_end_of_what_a_peer_said_standpipe_finds_its_own_way() {
    let world = World::new(&["db"], &["cache"]);
    let cache = json!({"kind": "resource", "id": "cache", "provider": "alpha", "expires_at": after(2)});
    assert_eq!(world.give(json!([cache, db("alpha", 60)])).status, 200);
    let deleted = world.standpipe.call("DELETE", "/cache/pipes/p", &[], "");
    assert_eq!((deleted.status, world.beta.connections()), (404, 0), "the peer is believed");
    until("it has ended", || world.standpipe.call("DELETE", "/cache/pipes/p", &[], "").status == 200);
    assert!(world.beta.connections() > 0 && world.mappings().contains("\"learned\""));
}

#[test]
fn callers_are_no_peers_and_peers_are_no_callers() {
    let (west, caller, alpha) = (Login::new(), Login::new(), provider(&["db"]));
    let config = format!(
        "{}{}[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"oidc\"]\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n{}",
        caller.trusted(),
        west.trusted().replace("corp", "west"),
        alpha.address,
        peer("west", &west.url(), MAY)
    );
    let standpipe = House::new(&config).run();
    let at = |path: &str, token: &str| {
        standpipe.call("GET", path, &[("authorization", &format!("Bearer {token}"))], "")
    };
    let here = standpipe.address;
    let good = west.peer_token(here, json!({}));
    assert_eq!(at(MAPPINGS, &good).json(), json!({"mappings": []}));
    assert_eq!(at("/db/pipes", &good).status, 401, "a peer is no caller, even of a trusted issuer");
    let asked = alpha.said().len();
    assert_eq!(at("/db/pipes/web", &good).status, 401, "nor is it a broker's");
    assert_eq!(alpha.said().len(), asked);
    assert_eq!(at("/db/pipes", &west.token("ann", json!({}))).status, 200);
    let (own, audience) = (west.url(), format!("http://{here}/peer/v1"));
    for (row, token) in [
        ("a caller's", caller.token("ann", json!({"aud": audience}))),
        ("a caller's of the peer's issuer", west.signed("JWT", &own, json!({"aud": audience}))),
        ("of nobody we know", caller.peer_token(here, json!({}))),
        ("with another type", west.signed("standpipe-peer+JWT", &own, json!({"aud": audience}))),
        ("for a caller's audience", west.peer_token(here, json!({"aud": "standpipe"}))),
        ("for the url", west.peer_token(here, json!({"aud": format!("http://{here}")}))),
        ("for more than the page", west.peer_token(here, json!({"aud": format!("{audience}/mappings")}))),
        ("for another standpipe", west.peer_token(SocketAddr::from(([127, 0, 0, 1], 1)), json!({}))),
        ("of another subject", west.peer_token(here, json!({"sub": format!("{own}/x")}))),
        ("of no subject", west.peer_token(here, json!({"sub": null}))),
        ("expired", west.peer_token(here, json!({"exp": now() - 60}))),
        ("without an end", west.peer_token(here, json!({"exp": null}))),
        ("from the future", west.peer_token(here, json!({"nbf": now() + 600}))),
        ("signed by somebody else", caller.peer_token(here, json!({"iss": own, "sub": own}))),
        ("no token", "nonsense".to_owned()),
    ] {
        let answer = at(MAPPINGS, &token);
        let challenge = answer.header("www-authenticate");
        assert_eq!((answer.status, challenge), (401, Some("bearer realm=\"standpipe peers\"")), "{row}");
    }
    assert_eq!(standpipe.get(MAPPINGS).status, 401);
    assert!(!standpipe.log().contains(&good));
}

#[test]
fn what_was_given_is_shown_and_revoked_on_both_sides() {
    let (alpha, beta) = (provider(&["db"]), provider(&[]));
    let (at_a, at_b) = (port(), port());
    let url = |port| format!("http://127.0.0.1:{port}");
    let one = standpipe(at_a, &alpha, &beta, &peer("b", &url(at_b), "inject = true"));
    let other = standpipe(at_b, &alpha, &beta, &peer("a", &url(at_a), MAY));
    let (a, b) = (one.serve(), other.serve());
    let give = || {
        assert_eq!(a.post("/db/pipes", r#"{"id":"web"}"#).status, 201);
        until("it arrives", || other.command(&["peers", "show", "a"]).1.contains("pipe db/web"));
    };
    give();
    let listed = other.command(&["peers", "list"]).1;
    let row = listed.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row, ["a", &url(at_a), "issuer", &url(at_a), "alpha", "2", "0"], "{listed}");
    assert!(one.command(&["peers", "show", "b", "--given"]).1.contains("resource db"));
    assert_eq!(one.command(&["peers", "show", "b", "--json"]).1, "", "it gave nothing itself");
    let one_pipe = one.command(&["peers", "revoke", "b", "--given", "--kind", "pipe", "--id", "web"]);
    assert_eq!(one_pipe, (0, "1 mappings and 0 tokens are revoked\n".into()));
    assert_eq!(other.command(&["peers", "show", "a", "--json"]).1.lines().count(), 1);
    assert_eq!(one.command(&["peers", "revoke", "b", "--given"]).1, "1 mappings and 0 tokens are revoked\n");
    assert!(!other.command(&["mappings", "list"]).1.contains("injected"));
    give();
    assert_eq!(b.get("/db/pipes/web").status, 200);
    drop(b);
    let (code, text) = other.command(&["peers", "revoke", "a"]);
    assert_eq!((code, text.as_str()), (0, "2 mappings and 0 tokens are revoked\n"), "in the file itself");
    assert_eq!(a.post("/db/pipes", r#"{"id":"web"}"#).status, 201);
    assert_eq!(one.command(&["outbox", "list", "--json"]).1.lines().count(), 1);
    let (code, text) = one.command(&["peers", "revoke", "b", "--given"]);
    assert_eq!(one.command(&["outbox", "list", "--json"]).1, "", "what waits is not given any more");
    assert!(code != 0 && text.contains(&url(at_b)), "{text}");
    for side in [&["--given"][..], &[]] {
        let (code, text) = one.command(&[&["peers", "show", "nobody"], side].concat());
        assert!(code != 0 && text.contains("no peer is named nobody"), "{text}");
    }
}
