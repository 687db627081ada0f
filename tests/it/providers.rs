//! Providers that come, change and go while standpipe runs.

use serde_json::json;

use crate::support::{House, Origin, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const EMPTY: &str = "threads = 2\n[[listener]]\naddress = \"127.0.0.1:0\"\n";

fn password(value: &str) -> serde_json::Value {
    json!({ "kind": "basic", "username": "ann", "password": { "value": value } })
}

/// A provider as JSON.
fn table(name: &str, url: &str, more: &serde_json::Value) -> String {
    let mut table = json!({ "name": name, "dialect": "cloudpipe", "url": url });
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    table.to_string()
}

fn names(house: &House) -> Vec<String> {
    let listed = house.admin("GET", "/providers", "").json();
    let each = listed["providers"].as_array().unwrap().iter();
    each.map(|one| format!("{} {}", one["name"].as_str().unwrap(), one["origin"].as_str().unwrap())).collect()
}

#[test]
fn a_provider_is_added_by_a_command_serves_at_once_and_survives_a_kill() {
    let (alpha, beta) =
        (House::broker("alpha", 0, &["db"]).run_broker(), House::broker("beta", 0, &["web"]).run_broker());
    let house = House::in_front_of(&[("alpha", alpha.address, "\"db\"")]);
    let mut standpipe = house.serve();
    let url = format!("http://{}", beta.address);
    let words =
        ["providers", "add", "beta", "--dialect", "cloudpipe", "--url", &url, "--set", "resources=[\"web\"]"];
    let (code, text) = house.command(&words);
    assert_eq!((code, text.as_str()), (0, "beta is registered and serves under /providers/beta/\n"));
    standpipe.kill();

    let standpipe = house.serve();
    assert_eq!(standpipe.post("/providers/beta/web/pipes", r#"{"id":"p"}"#).status, 201);
    until("its resources are known", || standpipe.get("/web/pipes/p").status == 200);
    let created = standpipe.post("/web/pipes", r#"{"id":"q"}"#);
    assert_eq!((created.status, created.header("standpipe-provider")), (201, Some("beta")));
    let (_, listed) = house.command(&["providers", "list"]);
    assert!(listed.contains("alpha  cloudpipe  config      active"), "{listed}");
    assert!(listed.contains("beta   cloudpipe  registered  active"), "{listed}");

    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, config + "[resolve]\nsearch = true\n").unwrap();
    standpipe.signal("-HUP");
    until("it has reloaded", || standpipe.log().contains("the configuration was reloaded"));
    assert_eq!(names(&house), ["alpha config", "beta registered"], "a reload keeps it");
    let (code, text) = house.command(&words);
    assert!(code == 1 && text.contains("a provider named beta is registered"), "{text}");
    let (code, text) = house.command(&["providers", "add", "alpha", "--dialect", "cloudpipe", "--url", &url]);
    assert!(code == 1 && text.contains("a provider of the configuration is named alpha"), "{text}");
    let audit = house.command(&["audit", "list"]).1;
    assert!(audit.contains("operator:socket") && audit.contains("beta"), "{audit}");
}

#[test]
fn it_is_routed_as_soon_as_it_was_said_to_be_and_disturbs_nobody() {
    let slow = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            if request.contains("/wait") {
                until("the test goes on", || peer.told());
            }
            peer.wire.send(OK);
        }
    });
    let fast = Origin::answering(OK);
    let house = House::before(
        slow.address,
        "credential = { kind = \"basic\", username = \"a\", password = \"file:p\" }\n",
        "threads = 1\n",
    );
    std::fs::write(house.folder.path().join("p"), "secret").unwrap();
    let standpipe = house.serve();
    assert_eq!(standpipe.get("/providers/alpha/one").status, 200);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| standpipe.get("/providers/alpha/wait").status);
        slow.wait_for(2);
        let added = house.admin(
            "POST",
            "/providers",
            &table("beta", &format!("http://{}", fast.address), &json!({})),
        );
        assert_eq!(
            (added.status, added.header("location")),
            (201, Some("/providers/beta")),
            "{}",
            added.body
        );
        assert_eq!(standpipe.get("/providers/beta/x").body, "ok");
        slow.tell();
        assert_eq!(waiting.join().unwrap(), 200, "what was in flight is answered");
    });
    assert_eq!(standpipe.get("/providers/alpha/two").status, 200);
    assert_eq!(slow.connections(), 1, "one that did not change keeps its connections");
}

#[test]
fn every_mistake_is_named_and_nothing_is_stored() {
    let house = House::new(EMPTY);
    let _standpipe = house.serve();
    let refused = |body: &str, wanted: &[&str]| {
        let answer = house.admin("POST", "/providers", body);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && wanted.iter().all(|text| detail.contains(text)), "{detail}");
    };
    refused("{", &["no JSON: look at line 1"]);
    refused("[]", &["must be a provider's table"]);
    refused("{}", &["name: is missing", "dialect: is missing", "url: is missing"]);
    refused(
        r#"{"name":"A","dialect":"soap","url":"ftp://x","breaker":{"open":"soon"}}"#,
        &["name: must be", "dialect: `soap`", "url: ", "breaker.open: `soon`"],
    );
    refused(&table("a", "http://a.example", &json!({"resources": 7})), &["resources: must be"]);
    refused(&table("a", "http://a.example", &json!({"urls": 7})), &["urls: unknown key"]);
    let (bare, value) = (
        json!({"kind": "bearer", "token": "hunter2"}),
        json!({"kind": "bearer", "token": {"value": "x\ny"}}),
    );
    refused(
        &table("a", "http://a.example", &json!({"credential": bare})),
        &["credential.token: must be `env:NAME`"],
    );
    refused(&table("a", "http://a.example", &json!({"credential": value})), &["credential.token: "]);
    refused(
        r#"{"name":"a","dialect":"cloudpipe","broker":{}}"#,
        &["broker: a provider served in this process"],
    );
    assert_eq!(names(&house), Vec::<String>::new());
    assert_eq!(house.admin("GET", "/providers/a", "").status, 404);
    assert_eq!(house.admin("POST", "/providers/a/drain", "").status, 404);
    assert_eq!(house.admin("POST", "/providers/a/refresh", "").status, 404);
    assert_eq!(house.admin("DELETE", "/providers/a", "").status, 404);
    assert_eq!(house.admin("GET", "/providers/a/drain", "").status, 405);
}

#[test]
fn of_many_changes_at_once_none_is_lost_and_a_name_is_given_once() {
    let house = House::new(EMPTY);
    let mut standpipe = house.serve();
    let add = |name: String| {
        house.admin("POST", "/providers", &table(&name, "http://127.0.0.1:1", &json!({}))).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let add = &add;
        let each = (0..16).map(|number| scope.spawn(move || add(format!("p{}", number % 8))));
        each.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(201), count(409)), (8, 8), "{statuses:?}");
    let before = names(&house);
    assert_eq!(before.len(), 8, "{before:?}");
    standpipe.kill();
    let _standpipe = house.serve();
    assert_eq!(names(&house), before, "in the same order");
}

#[test]
fn a_secret_is_sealed_never_shown_and_outlives_the_key_that_sealed_it() {
    let origin = Origin::answering(OK);
    let house = House::new(EMPTY);
    let mut standpipe = house.serve();
    let body =
        table("alpha", &format!("http://{}", origin.address), &json!({"credential": password("hunter2")}));
    let added = house.admin("POST", "/providers", &body);
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(added.json()["settings"]["credential"]["password"], "sealed:credential.password");
    let sent = |standpipe: &crate::support::Standpipe, wanted: &str| {
        assert_eq!(standpipe.get("/providers/alpha/x").status, 200);
        let said = origin.said().pop().unwrap();
        assert!(said.contains(wanted), "{wanted}: {said}");
    };
    sent(&standpipe, "Basic YW5uOmh1bnRlcjI=");
    let (code, text) = house.command(&["keys", "rotate"]);
    assert_eq!(code, 0, "{text}");
    standpipe.kill();
    let mut standpipe = house.serve();
    sent(&standpipe, "Basic YW5uOmh1bnRlcjI=");

    let shown = house.admin("GET", "/providers/alpha", "").json()["settings"].clone();
    let mut slower = shown.clone();
    slower["response_timeout"] = json!("9s");
    assert_eq!(house.admin("PUT", "/providers/alpha", &slower.to_string()).status, 200);
    sent(&standpipe, "Basic YW5uOmh1bnRlcjI=");
    let changed = json!({"credential": {"password": {"value": "hunter3"}}}).to_string();
    assert_eq!(house.admin("PATCH", "/providers/alpha", &changed).status, 200);
    sent(&standpipe, "Basic YW5uOmh1bnRlcjM=");

    let mut written = standpipe.log() + &added.body;
    for words in
        [&["providers", "list", "--json"][..], &["providers", "show", "alpha"], &["audit", "list", "--json"]]
    {
        written += &house.command(words).1;
    }
    standpipe.kill();
    for file in std::fs::read_dir(house.folder.path().join("standpipe-data")).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            written += &String::from_utf8_lossy(&std::fs::read(file.path()).unwrap());
        }
    }
    for secret in ["hunter2", "hunter3", "aHVudGVy", "YW5uOmh1bnRlc"] {
        assert!(!written.contains(secret), "{secret}");
    }
}

#[test]
fn another_url_wants_the_credentials_again() {
    let (one, other) = (Origin::answering(OK), Origin::answering(OK));
    let house = House::new(EMPTY);
    let standpipe = house.serve();
    let (here, there) = (format!("http://{}", one.address), format!("http://{}", other.address));
    let body = table("alpha", &here, &json!({"credential": password("hunter2")}));
    assert_eq!(house.admin("POST", "/providers", &body).status, 201);
    let (code, text) = house.command(&["providers", "update", "alpha", "--url", &there]);
    assert!(code == 1 && text.contains("give the credentials again"), "{text}");
    let refused = house.admin("PATCH", "/providers/alpha", &json!({"url": there}).to_string());
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(standpipe.get("/providers/alpha/x").status, 200);
    assert!(other.said().is_empty(), "nothing went there");
    std::fs::write(house.folder.path().join("p"), "new").unwrap();
    let file = format!("file:{}", house.folder.path().join("p").display());
    let words = ["providers", "update", "alpha", "--url", &there, "--username", "ann", "--password", &file];
    let (code, text) = house.command(&words);
    assert_eq!((code, text.as_str()), (0, "alpha is changed\n"));
    assert_eq!(standpipe.get("/providers/alpha/x").status, 200);
    assert!(other.first().contains("Basic YW5uOm5ldw=="), "{}", other.first());
    let configured = House::before(one.address, "", "");
    let _standpipe = configured.serve();
    for method in ["PUT", "DELETE"] {
        let refused = configured.admin(method, "/providers/alpha", &body);
        assert!(
            refused.status == 409 && refused.body.contains("stands in the configuration"),
            "{}",
            refused.body
        );
    }
}

#[test]
fn a_draining_provider_serves_what_it_has_and_takes_nothing_new() {
    let (alpha, beta) =
        (House::broker("alpha", 0, &["db"]).run_broker(), House::broker("beta", 0, &["web"]).run_broker());
    let house = House::in_front_of(&[("alpha", alpha.address, "\"db\""), ("beta", beta.address, "\"web\"")]);
    let mut standpipe = house.serve();
    until("the resources are known", || standpipe.post("/db/pipes", r#"{"id":"old"}"#).status == 201);
    let (code, text) = house.command(&["providers", "drain", "alpha"]);
    assert_eq!(code, 0, "{text}");
    standpipe.kill();

    let standpipe = house.serve();
    until("the resources are known", || standpipe.get("/web/offers").status == 200);
    assert_eq!(house.admin("GET", "/providers/alpha", "").json()["availability"], "draining");
    let offers = standpipe.get("/offers").json();
    assert!(offers.as_array().unwrap().iter().all(|offer| offer["provider"] == "beta"), "{offers}");
    assert_eq!(
        standpipe.get("/offers?provider=alpha").json()[0]["provider"],
        "alpha",
        "who asks for it sees it"
    );
    let refused = standpipe.post("/db/pipes", r#"{"id":"new"}"#);
    assert!(refused.status == 503 && refused.body.contains("alpha is being drained"), "{}", refused.body);
    assert_eq!(standpipe.post("/db/pipes", "{}").status, 503, "whoever chooses the id");
    assert_eq!(standpipe.post("/providers/alpha/db/pipes", r#"{"id":"named"}"#).status, 201);
    assert_eq!(standpipe.get("/db/pipes/old").status, 200);
    assert_eq!(standpipe.call("DELETE", "/db/pipes/old", &[], "").status, 204);

    assert_eq!(house.command(&["providers", "drain", "alpha", "--undo"]).0, 0);
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"new"}"#).status, 201);
    assert_eq!(house.admin("POST", "/providers/alpha/drain", "").json()["availability"], "draining");
    assert_eq!(house.admin("POST", "/providers/alpha/undrain", "").json()["availability"], "active");
}

#[test]
fn a_provider_with_resources_is_removed_by_force_only_and_says_what_it_leaves() {
    let alpha = House::broker("alpha", 0, &["db"]).run_broker();
    let house = House::new(EMPTY);
    let mut standpipe = house.serve();
    let body = table("alpha", &format!("http://{}", alpha.address), &json!({"resources": ["db"]}));
    assert_eq!(house.admin("POST", "/providers", &body).status, 201);
    until("its resources are known", || standpipe.get("/db/offers").status == 200);
    for id in ["one", "two"] {
        assert_eq!(standpipe.post("/db/pipes", &json!({"id": id}).to_string()).status, 201);
    }
    assert_eq!(standpipe.call("DELETE", "/db/pipes/two", &[], "").status, 204);
    let refused = house.admin("DELETE", "/providers/alpha", "");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        refused.status == 409 && detail.starts_with("alpha still has 1 resources") && detail.contains("one"),
        "{detail}"
    );
    assert_eq!(standpipe.get("/db/pipes/one").status, 200);
    let (code, text) = house.command(&["providers", "remove", "alpha", "--force"]);
    assert!(code == 0 && text.contains("1 mappings lead nowhere now"), "{text}");
    assert_eq!(standpipe.get("/db/pipes/one").status, 503, "not knowing is not knowing that it is gone");
    assert_eq!(standpipe.get("/providers/alpha/db/pipes").status, 404);
    standpipe.kill();
    let standpipe = house.serve();
    assert_eq!(names(&house), Vec::<String>::new());
    assert_eq!(house.admin("POST", "/providers", &body).status, 201, "the name is free");
    assert_eq!(standpipe.get("/db/pipes/one").status, 200);
}

#[test]
fn one_that_cannot_be_put_to_work_at_start_is_left_out_and_keeps_nobody_from_starting() {
    let origin = Origin::answering(OK);
    let house = House::new(EMPTY);
    let mut standpipe = house.serve();
    let file = house.folder.path().join("p");
    std::fs::write(&file, "secret").unwrap();
    let credential = json!({"credential": {"kind": "bearer", "token": format!("file:{}", file.display())}});
    let url = format!("http://{}", origin.address);
    for (name, more) in [("alpha", credential), ("beta", json!({})), ("gamma", json!({}))] {
        assert_eq!(house.admin("POST", "/providers", &table(name, &url, &more)).status, 201, "{name}");
    }
    standpipe.kill();
    std::fs::remove_file(&file).unwrap();
    let clash = format!("{EMPTY}[[provider]]\nname = \"gamma\"\ndialect = \"cloudpipe\"\nurl = \"{url}\"\n");
    std::fs::write(&house.config, clash).unwrap();
    let standpipe = house.serve();
    assert_eq!(names(&house), ["gamma config", "beta registered"]);
    let left_out = house.admin("GET", "/providers", "").json()["left_out"].clone();
    assert_eq!(
        (&left_out[0]["name"], &left_out[1]["name"]),
        (&json!("alpha"), &json!("gamma")),
        "{left_out}"
    );
    assert!(left_out[0]["problems"][0].as_str().unwrap().starts_with("credential.token: cannot read"));
    assert!(standpipe.log().contains("a registered provider is left out"), "{}", standpipe.log());
    assert_eq!(standpipe.get("/providers/beta/x").status, 200);
    let (code, text) = house.command(&["providers", "list"]);
    assert!(code == 0 && text.contains("left out"), "{text}");
    std::fs::write(&file, "secret").unwrap();
    assert_eq!(house.admin("PATCH", "/providers/alpha", "{}").status, 200);
    assert_eq!(standpipe.get("/providers/alpha/x").status, 200);
}

#[test]
fn commands_say_when_nobody_is_there() {
    let house = House::new(EMPTY);
    let (code, text) = house.command(&["providers", "list"]);
    assert!(code == 1 && text.contains("no standpipe runs on") && text.contains("standpipe serve"), "{text}");
}
