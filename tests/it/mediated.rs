//! Mediated pipes: brokers that know only standpipe tell each other what changes.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::{House, Login, ReferenceBroker, Standpipe, until};

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn broker(resource: &str, port: u16) -> House {
    House::new(&format!(
        "threads = 1\n[outbound]\nallow = [\"http://127.0.0.1:*\"]\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n[[provider]]\nname = \"it\"\ndialect = \"cloudpipe\"\n[provider.broker]\n[provider.broker.resource.{resource}]\n"
    ))
}

/// A standpipe at a port that stays, in front of two brokers whose pipes it mediates.
fn front(port: u16, a: SocketAddr, b: SocketAddr) -> House {
    let provider = |name: &str, at: SocketAddr, resource: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{at}\"\nresources = [\"{resource}\"]\npipes = \"mediated\"\n"
        )
    };
    House::new(&format!(
        "threads = 2\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n{}{}",
        provider("alpha", a, "db"),
        provider("beta", b, "app")
    ))
}

fn patch(standpipe: &Standpipe, path: &str, body: &Value) {
    let answer = standpipe.call("PATCH", path, &[("content-type", "application/json")], &body.to_string());
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[test]
fn two_brokers_that_know_only_standpipe_tell_each_other() {
    let (one, two) = (broker("db", 0), broker("app", port()));
    let (db, mut app) = (one.serve_broker(), two.serve_broker());
    let house = front(port(), db.address, app.address);
    let mut standpipe = house.serve();
    let url = format!("http://{}", standpipe.address);
    let made = standpipe.post("/db/pipes", r#"{"id":"app","this":{"data":{"URI":"one"}}}"#).json();
    assert_eq!(made["this"]["uri"], json!(format!("{url}/ends/alpha/db/pipes/app")));
    assert_eq!(made["this"]["issuer"], json!(url));
    let other = json!({"uri": made["this"]["uri"], "issuer": made["this"]["issuer"]});
    let made = standpipe.post(
        "/app/pipes",
        &json!({"id": "db", "other": other, "this": {"data": {"USER": "u"}}}).to_string(),
    );
    assert_eq!(made.status, 201, "{}", made.body);
    let this = made.json()["this"].clone();
    assert_eq!(this["uri"], json!(format!("{url}/ends/beta/app/pipes/db")));
    patch(&standpipe, "/db/pipes/app", &json!({"other": {"uri": this["uri"], "issuer": this["issuer"]}}));
    let at = |broker: &Standpipe, path: &str| broker.get(path).json()["other"]["data"].clone();
    until("the app has the database's data", || at(&app, "/app/pipes/db") == json!({"URI": "one"}));
    until("the database has the app's data", || at(&db, "/db/pipes/app") == json!({"USER": "u"}));
    let listed = standpipe.get("/pipes").json();
    assert!(listed.as_array().unwrap().iter().all(|pipe| pipe["this"]["issuer"] == json!(url)), "{listed}");
    let own = db.get("/db/pipes/app").json();
    assert_eq!(
        own["this"]["uri"],
        json!(format!("http://{}/db/pipes/app", db.address)),
        "the broker's own stays"
    );

    app.kill();
    patch(&standpipe, "/db/pipes/app", &json!({"this": {"data": {"URI": "two"}}}));
    until("the news wait", || house.command(&["outbox", "list"]).1.contains("relay/"));
    patch(&standpipe, "/db/pipes/app", &json!({"this": {"data": {"URI": "three", "X": "y"}}}));
    standpipe.kill();
    let _standpipe = house.serve();
    let app = two.serve_broker();
    until("the newest arrives", || at(&app, "/app/pipes/db") == json!({"URI": "three", "X": "y"}));
    until("nothing is left", || house.command(&["outbox", "list", "--json"]).1.trim().is_empty());
}

#[test]
fn brokers_that_push_before_they_answer_and_ignore_half_of_a_patch_work_too() {
    let (db, app) = (ReferenceBroker::new(json!({"URI": "one"})), ReferenceBroker::new(json!({"USER": "u"})));
    let standpipe = front(port(), db.origin.address, app.origin.address).run();
    let url = format!("http://{}", standpipe.address);
    // The addresses are known before any broker was asked, so that each end is created with the other one.
    let create = |resource: &str, id: &str, other: &str| {
        let body = json!({"id": id, "other": {"uri": format!("{url}/ends/{other}"), "Issuer": url}});
        let made = standpipe.post(&format!("/{resource}/pipes"), &body.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
        made.json()
    };
    let made = create("db", "app", "beta/app/pipes/db");
    assert_eq!(db.pushes(), [202], "its sender was recognised by reading it");
    assert_eq!(made["this"]["uri"], json!(format!("{url}/ends/alpha/db/pipes/app")));
    create("app", "db", "alpha/db/pipes/app");
    until("the app has the database's data", || {
        app.pipe("/app/pipes/db")["other"]["data"] == json!({"URI": "one"})
    });
    until("the database has the app's data", || {
        db.pipe("/db/pipes/app")["other"]["data"] == json!({"USER": "u"})
    });
    db.change("/db/pipes/app", json!({"URI": "two"}));
    until("news arrive", || app.pipe("/app/pipes/db")["other"]["data"] == json!({"URI": "two"}));
    let listed = standpipe.get("/db/pipes").json();
    assert_eq!(listed["/db/pipes/app"]["this"]["issuer"], json!(url), "{listed}");
}

#[test]
fn a_known_brokers_pipe_is_named_by_its_address_here_and_direct_pipes_stay_direct() {
    let (db, app) = (ReferenceBroker::new(json!({})), ReferenceBroker::new(json!({})));
    let mediated = front(port(), db.origin.address, app.origin.address).run();
    let own = format!("http://{}/db/pipes/app", db.origin.address);
    let body = json!({"id": "db", "other": {"URI": own, "issuer": format!("http://{}", db.origin.address)}});
    assert_eq!(mediated.post("/app/pipes", &body.to_string()).status, 201);
    let other = app.pipe("/app/pipes/db")["other"].clone();
    assert_eq!(other["uri"], json!(format!("http://{}/ends/alpha/db/pipes/app", mediated.address)));
    assert_eq!(other["issuer"], json!(format!("http://{}", mediated.address)));

    let direct = House::in_front_of(&[
        ("alpha", db.origin.address, "\"db\""),
        ("beta", app.origin.address, "\"app\""),
    ])
    .run();
    let body = json!({"id": "direct", "other": {"uri": own, "issuer": "i"}});
    let made = direct.post("/app/pipes", &body.to_string()).json();
    assert_eq!(
        (&made["this"]["issuer"], &made["other"]["uri"]),
        (&json!(format!("http://{}", app.origin.address)), &json!(own))
    );
}

#[test]
fn a_refused_update_ends_with_itself() {
    let (db, app) = (ReferenceBroker::new(json!({})), ReferenceBroker::new(json!({"BAD": "value"})));
    let house = front(port(), db.origin.address, app.origin.address);
    let standpipe = house.serve();
    let url = format!("http://{}", standpipe.address);
    let create = |resource: &str, id: &str, other: &str| {
        let body = json!({"id": id, "other": {"uri": format!("{url}/ends/{other}"), "issuer": url}});
        assert_eq!(standpipe.post(&format!("/{resource}/pipes"), &body.to_string()).status, 201);
    };
    db.refuses("BAD");
    create("db", "app", "beta/app/pipes/db");
    create("app", "db", "alpha/db/pipes/app");
    until("it is refused for good", || house.command(&["outbox", "list"]).1.contains("failed"));
    app.replace("/app/pipes/db", json!({"GOOD": "value"}));
    until("the next one arrives", || db.pipe("/db/pipes/app")["other"]["data"] == json!({"GOOD": "value"}));
}

#[test]
fn a_broker_cannot_call_its_end_by_anothers_name() {
    let (db, app) = (ReferenceBroker::new(json!({})), ReferenceBroker::new(json!({})));
    let standpipe = front(port(), db.origin.address, app.origin.address).run();
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"mine"}"#).status, 201);
    app.claims_to_be(&format!("http://{}", db.origin.address));
    let answer = standpipe.post("/app/pipes", r#"{"id":"evil"}"#);
    assert!(answer.status == 502 && answer.body.contains("beta"), "{}", answer.body);
    let own = format!("http://{}/db/pipes/mine", db.origin.address);
    app.claims_to_be(&format!("http://{}", app.origin.address));
    let body = json!({"id": "good", "other": {"uri": own, "issuer": "x"}});
    assert_eq!(standpipe.post("/app/pipes", &body.to_string()).status, 201);
    let other = app.pipe("/app/pipes/good")["other"]["uri"].clone();
    assert_eq!(other, json!(format!("http://{}/ends/alpha/db/pipes/mine", standpipe.address)));
}

#[test]
fn nobody_else_brings_news() {
    let (db, app, login) = (ReferenceBroker::new(json!({})), ReferenceBroker::new(json!({})), Login::new());
    let standpipe = front(port(), db.origin.address, app.origin.address).run();
    let url = format!("http://{}", standpipe.address);
    let address = format!("{url}/ends/alpha/db/pipes/app");
    let own = format!("http://{}/app/pipes/db", app.origin.address);
    let body = json!({"id": "db", "other": {"uri": address, "issuer": url}});
    assert_eq!(standpipe.post("/app/pipes", &body.to_string()).status, 201);
    let news = r#"{"other":{"data":{"A":"b"}}}"#;
    let call = |method: &str, path: &str, token: &str| {
        standpipe.call(method, path, &[("authorization", &format!("Bearer {token}"))], news).status
    };
    let path = "/ends/alpha/db/pipes/app";
    let issuer = format!("http://{}", app.origin.address);
    for (row, claims) in [
        ("another's keys", json!({"aud": address, "iss": issuer, "sub": own})),
        ("an issuer nobody knows", json!({"aud": address, "sub": own})),
        ("another address", json!({"aud": format!("{address}2"), "iss": issuer, "sub": own})),
    ] {
        assert_eq!(call("PATCH", path, &login.token("x", claims)), 401, "{row}");
    }
    assert_eq!(call("PATCH", path, "nonsense"), 401);
    assert_eq!(standpipe.call("PATCH", path, &[], news).status, 401);
    let good = login.token("x", json!({"aud": address, "iss": issuer, "sub": own}));
    for (method, path) in [
        ("GET", path),
        ("DELETE", path),
        ("PATCH", "/ends/nobody/db/pipes/app"),
        ("PATCH", "/ends/alpha/db/pipes/app/"),
    ] {
        assert_eq!(call(method, path, &good), 401, "{method} {path}");
    }
}
