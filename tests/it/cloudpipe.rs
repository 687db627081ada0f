//! The main job: one endpoint, two brokers in processes of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::osb::message;
use crate::support::{House, Origin, Standpipe, until};

struct World {
    alpha: Standpipe,
    beta: Standpipe,
    standpipe: Standpipe,
    _houses: [House; 3],
}

fn world() -> World {
    let houses =
        [House::broker("alpha", 0, &["db", "shared"]), House::broker("beta", 0, &["arn:app:web", "shared"])];
    let [alpha, beta] = [houses[0].serve_broker(), houses[1].serve_broker()];
    let front = House::in_front_of(&[("alpha", alpha.address, ""), ("beta", beta.address, "")]);
    let standpipe = front.serve();
    let [one, two] = houses;
    World { alpha, beta, standpipe, _houses: [one, two, front] }
}

#[test]
fn each_call_reaches_the_broker_that_has_the_resource() {
    let World { alpha, beta, standpipe, .. } = &world();
    let created = standpipe.post("/db/pipes", r#"{"id":"web"}"#);
    assert_eq!((created.status, created.header("standpipe-provider")), (201, Some("alpha")), "{created:?}");
    let read = standpipe.get("/db/pipes/web").json();
    let uri = read["this"]["data"]["URI"].as_str().unwrap();
    let other = format!(r#"{{"id":"db","other":{{"data":{{"URI":"{uri}"}}}}}}"#);
    let bound = standpipe.post("/arn:app:web/offers/o/bindings", &other);
    assert_eq!((bound.status, bound.header("standpipe-provider")), (202, Some("beta")), "{bound:?}");
    assert_eq!(standpipe.get("/arn:app:web/pipes/db").json()["other"]["data"]["URI"], uri);
    assert_eq!(standpipe.call("DELETE", "/db/pipes/web", &[], "").status, 204);
    assert_eq!(standpipe.get("/db/pipes/web").status, 404);
    until("the brokers' logs are written", || {
        alpha.log().contains("DELETE") && beta.log().contains("/arn:app:web/offers/o/bindings")
    });
    assert!(alpha.log().contains("/db/pipes") && !alpha.log().contains("/arn:app:web/offers/o/bindings"));
    assert!(beta.log().contains("/arn:app:web/offers/o/bindings") && !beta.log().contains("/db/pipes/web"));
}

#[test]
fn an_id_that_two_brokers_have_is_an_error_with_candidates() {
    let World { standpipe, .. } = &world();
    let answer = standpipe.get("/shared/pipes");
    assert_eq!((answer.status, &answer.json()["candidates"]), (409, &serde_json::json!(["alpha", "beta"])));
    let pinned = standpipe.call("GET", "/shared/pipes", &[("standpipe-provider", "beta")], "");
    assert_eq!((pinned.status, pinned.header("standpipe-provider")), (200, Some("beta")));
    assert_eq!(standpipe.get("/providers/alpha/shared/pipes").status, 200);
    assert_eq!(standpipe.get("/shared/pipes").status, 409, "a pinned read decides nothing for others");
}

#[test]
fn what_was_learned_is_listed_and_root_paths_find_it() {
    let World { standpipe, .. } = &world();
    standpipe.post("/db/pipes", r#"{"id":"web"}"#);
    standpipe.post("/arn:app:web/pipes", r#"{"id":"db"}"#);
    let pipes = standpipe.get("/pipes").json();
    let places: Vec<String> =
        pipes.as_array().unwrap().iter().map(|pipe| format!("{} {}", pipe["resource"], pipe["id"])).collect();
    assert_eq!(places, [r#""db" "web""#, r#""arn:app:web" "db""#]);
    assert_eq!(standpipe.get("/pipes/web").json()["this"]["data"]["URI"], "https://db.example");
    assert_eq!(standpipe.call("DELETE", "/pipes/web", &[], "").status, 204);
    assert_eq!(standpipe.post("/pipes?resource=db", r#"{"id":"again"}"#).status, 201);
    let offers = standpipe.get("/offers").json();
    assert_eq!(offers[0]["_links"]["self"]["href"], format!("http://{}/db/offers/o", standpipe.address));
}

#[test]
fn a_root_path_reaches_no_pipe_by_guess() {
    let brokers = [House::broker("alpha", 0, &["db"]), House::broker("beta", 0, &["web"])];
    let [alpha, mut beta] = brokers.each_ref().map(House::serve_broker);
    let providers = [("alpha", alpha.address, "\"db\""), ("beta", beta.address, "\"web\"")];
    let standpipe = House::in_front_of(&providers).run();
    let delete = |path: &str| standpipe.call("DELETE", path, &[], "").status;
    assert_eq!(beta.post("/web/pipes", r#"{"id":"dup"}"#).status, 201, "beside standpipe");
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"dup"}"#).status, 201);
    for method in ["GET", "PATCH", "DELETE"] {
        let told = standpipe.call(method, "/pipes/dup", &[], "{}");
        assert!(told.status == 409 && told.body.contains("db at alpha"), "{method}: {}", told.body);
        assert!(told.body.contains("web at beta"), "{method}: {}", told.body);
    }
    assert_eq!((delete("/pipes/dup?resource=db"), delete("/pipes/dup")), (204, 409));
    assert_eq!((beta.get("/web/pipes/dup").status, standpipe.get("/pipes/dup").status), (200, 200));
    // What a broker makes of two ids is the one that is claimed, or none.
    let two = standpipe.post("/db/offers/o/bindings", r#"{"id":"x9","pipe":{"id":"y9"}}"#);
    assert!(two.status == 400 && two.body.contains("x9") && two.body.contains("y9"), "{}", two.body);
    for id in ["gone", "here"] {
        assert_eq!(standpipe.post("/db/pipes", &format!(r#"{{"id":"{id}"}}"#)).status, 201);
    }
    assert_eq!(delete("/pipes/gone"), 204);
    beta.kill();
    assert_eq!((delete("/pipes/gone"), delete("/db/pipes/gone")), (404, 404), "a tombstone tells");
    assert_eq!((delete("/pipes/here"), standpipe.get("/pipes/here").status), (503, 200));
    assert_eq!(delete("/pipes/here?resource=db"), 204);
}

#[test]
fn the_transparent_face_changes_nothing_but_via() {
    let World { alpha, standpipe, .. } = &world();
    let direct = alpha.get("/db/offers/o");
    let through = standpipe.get("/providers/alpha/db/offers/o");
    assert_eq!((direct.status, &direct.body), (through.status, &through.body));
    assert!(through.header("standpipe-provider").is_none() && through.header("via").is_some());
    let links = |answer: &crate::support::Answer| answer.header("content-type").map(str::to_owned);
    assert_eq!(links(&direct), links(&through));
}

#[test]
fn nobody_takes_silence_about_unknown_resources_for_an_empty_list() {
    let house = House::broker("alpha", 0, &["db"]);
    let alpha = house.serve_broker();
    assert_eq!(alpha.post("/db/pipes", r#"{"id":"web"}"#).status, 201);
    let standpipe = House::before(alpha.address, "", "").run();
    for path in ["/offers", "/pipes", "/offers?strict=true"] {
        let told = standpipe.get(path);
        assert!(told.status == 503 && told.body.contains("resources-unknown"), "{path}: {}", told.body);
    }
    assert_eq!(standpipe.get("/pipes/web").status, 503, "it may be anywhere");
    assert_eq!(standpipe.get("/pipes?resource=db").json()[0]["id"], "web");
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"app"}"#).status, 201);
    let told = standpipe.get("/offers");
    assert_eq!((told.status, told.json()[0]["name"].as_str()), (200, Some("o")));
    assert_eq!(told.header("standpipe-partial"), Some("alpha;reason=resources-unknown"));
}

#[test]
fn blueprints_of_a_broker_that_is_gone_are_marked_at_once_after_it_was_asked_in_vain() {
    let house = House::broker("alpha", 0, &["db"]);
    let mut alpha = house.serve_broker();
    let standpipe = House::in_front_of(&[("alpha", alpha.address, "\"db\"")]).run();
    assert_eq!(standpipe.get("/offers").json()[0]["name"], "o");
    alpha.kill();
    let strict = standpipe.get("/offers?strict=true");
    assert!(strict.status == 503 && strict.body.contains("alpha (unreachable)"), "{}", strict.body);
    assert_eq!(standpipe.get("/offers").json()[0]["name"], "o", "what was known last stands in");
}

#[test]
fn links_are_rewritten_however_the_answer_is_framed() {
    let origin = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let host =
                request.to_lowercase().split("host: ").nth(1).unwrap().lines().next().unwrap().to_owned();
            let body = format!(r#"{{"id":"p","_links":{{"self":{{"href":"http://{host}/db/pipes/p"}}}}}}"#);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
            match request.contains("/chunked") {
                true => peer.wire.send(format!(
                    "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                )),
                false => peer.wire.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len())),
            }
        }
    });
    let standpipe = House::before(origin.address, "resources = [\"db\"]\n", "").run();
    for path in ["/db/pipes/chunked", "/db/pipes/whole"] {
        let href = standpipe.get(path).json()["_links"]["self"]["href"].clone();
        assert_eq!(href, format!("http://{}/db/pipes/p", standpipe.address), "{path}");
    }
}

#[test]
fn a_pipe_that_its_broker_names_keeps_the_credential_it_was_created_with() {
    let origin = Origin::answering(
        "HTTP/1.1 201 Created\r\nlocation: /db/pipes/gen%201\r\ncontent-length: 2\r\n\r\n{}",
    );
    let settings = "resources = [\"db\"]\ncredential_by = { header = \"x-key\" }\ncredentials = [{ alias = \"main\", kind = \"bearer\", token = \"file:main\" }, { alias = \"blue\", kind = \"bearer\", token = \"file:blue\" }]\n";
    let house = House::before(origin.address, settings, "");
    for name in ["main", "blue"] {
        std::fs::write(house.folder.path().join(name), name).unwrap();
    }
    let standpipe = house.serve();
    assert_eq!(standpipe.call("POST", "/db/pipes", &[("x-key", "blue")], "{}").status, 201);
    assert_eq!(standpipe.get("/db/pipes/gen%201").status, 201);
    assert_eq!(standpipe.get("/db/pipes/other").status, 201);
    let shown = |request: &String| request.to_lowercase().contains("bearer blue");
    assert_eq!(origin.said().iter().map(shown).collect::<Vec<_>>(), [true, true, false]);
}

/// One that is deleted, or read, while another of its id is created: the broker says that it has none, or no longer.
#[test]
fn nothing_is_buried_by_an_answer_from_before_its_creation() {
    for (method, answer) in [("DELETE", "404 Not Found"), ("DELETE", "200 OK"), ("GET", "404 Not Found")] {
        let turn = Arc::new(AtomicUsize::new(0));
        let broker_turn = turn.clone();
        let alpha = Origin::new(move |mut peer| {
            while let Some(request) = peer.request() {
                let said = if request.starts_with("POST") { "201 Created" } else { answer };
                let mine = if request.starts_with("POST") { 1 } else { 2 };
                until("it is its turn", || broker_turn.load(Ordering::SeqCst) >= mine);
                peer.wire.send(message(said, "{}"));
            }
        });
        let house = House::in_front_of(&[("alpha", alpha.address, "")]);
        let standpipe = house.serve();
        let shown = || house.command(&["mappings", "show", "pipe", "web", "--parent", "db"]).1;
        let said = |method: &str| alpha.said().iter().any(|request| request.starts_with(method));
        std::thread::scope(|scope| {
            let creation = scope.spawn(|| standpipe.post("/db/pipes", r#"{"id":"web"}"#).status);
            until("the creation is at the broker", || said("POST"));
            let other = scope.spawn(|| standpipe.call(method, "/db/pipes/web", &[], "").status);
            until("the other call is too", || said(&format!("{method} /db/pipes/web")));
            turn.store(1, Ordering::SeqCst);
            assert_eq!(creation.join().unwrap(), 201);
            assert!(shown().contains("live"), "{}", shown());
            turn.store(2, Ordering::SeqCst);
            assert_eq!(other.join().unwrap(), answer[..3].parse::<u16>().unwrap());
        });
        let state = if method == "DELETE" { "maybe" } else { "live" };
        assert!(shown().contains(state), "{method} {answer}: {}", shown());
        assert_eq!(standpipe.call("DELETE", "/db/pipes/web", &[], "").status.to_string(), answer[..3]);
        assert!(shown().contains("gone"), "alone, it counts: {}", shown());
    }
}
