//! Automatic configuration: brokers tell each other, through crashes and outages, and believe nobody else.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::{House, Login, Origin, Standpipe, now, until};

/// A port that was free a moment ago, for a broker that must come back under the same uri.
pub fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A broker with a resource; it may ask whatever is on this machine.
fn broker(resource: &str, port: u16, settings: &str, more: &str) -> House {
    House::new(&format!(
        "threads = 1\n[outbound]\nallow = [\"http://127.0.0.1:*\"]\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n[[provider]]\nname = \"it\"\ndialect = \"cloudpipe\"\n[provider.broker]\n{settings}[provider.broker.resource.{resource}]\n{more}"
    ))
}

const ENV_FILE: &str = "sink = { kind = \"env-file\", path = \"app.env\" }\n";

/// Both ends of a pipe, `db` at the first broker and `app` at the second, which know of each other.
fn connect(db: &Standpipe, app: &Standpipe) {
    let uri = |at: SocketAddr, path: &str| format!("http://{at}{path}");
    let made = db.post("/db/pipes", &json!({"id": "app", "this": {"data": {"URI": "one"}}}).to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    let this = made.json()["this"].clone();
    assert_eq!(this["issuer"], json!(uri(db.address, "")));
    let other = json!({"id": "db", "other": {"uri": this["uri"], "Issuer": this["issuer"]}});
    let made = app.post("/app/pipes", &other.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    let this = made.json()["this"].clone();
    let other = json!({"other": {"uri": this["uri"], "issuer": this["issuer"]}});
    assert_eq!(db.post("/db/pipes/app", &other.to_string()).status, 202);
}

fn change(db: &Standpipe, data: Value) {
    let answer = db.call(
        "PATCH",
        "/db/pipes/app",
        &[("content-type", "application/json")],
        &json!({"this": {"data": data}}).to_string(),
    );
    assert_eq!(answer.status, 202, "{}", answer.body);
}

fn told(app: &Standpipe) -> Value {
    app.get("/app/pipes/db").json()["other"]["data"].clone()
}

#[test]
fn what_changes_at_one_end_is_configured_at_the_other() {
    let (one, other) = (broker("db", port(), "", ""), broker("app", port(), "", ENV_FILE));
    let (db, app) = (one.serve_broker(), other.serve_broker());
    connect(&db, &app);
    until("the first data arrives", || told(&app) == json!({"URI": "one"}));
    let env = || std::fs::read_to_string(other.folder.path().join("app.env")).unwrap_or_default();
    until("the app is configured", || env().contains("PIPE_DB_OTHER_URI='one'"));
    change(&db, json!({"URI": "two", "USER": "u"}));
    until("new data arrives", || told(&app) == json!({"URI": "two", "USER": "u"}));
    change(&db, json!({"USER": null}));
    until("a key that is gone is taken back", || told(&app) == json!({"URI": "two"}));
    until("the app follows", || env().contains("PIPE_DB_OTHER_URI='two'") && !env().contains("USER"));
    until("nothing is left to be done", || {
        let (code, text) = one.command(&["outbox", "list", "--json"]);
        (code, text.trim()) == (0, "")
    });
}

#[test]
fn an_outage_and_sigkill_lose_nothing_and_only_the_latest_is_told() {
    let (one, other) = (broker("db", port(), "", ""), broker("app", port(), "", ""));
    let (mut db, mut app) = (one.serve_broker(), other.serve_broker());
    connect(&db, &app);
    until("the first data arrives", || told(&app) == json!({"URI": "one"}));
    app.kill();
    change(&db, json!({"URI": "two"}));
    change(&db, json!({"URI": "three"}));
    until("the job waits", || one.command(&["outbox", "list"]).1.contains("push/it/db/app"));
    db.kill();
    let (_, listed) = one.command(&["outbox", "list", "--json"]);
    assert_eq!(listed.lines().count(), 1, "coalesced: {listed}");
    assert!(!listed.contains("three"), "what a job carries stays sealed: {listed}");
    let app = other.serve_broker();
    let _db = one.serve_broker();
    let (code, text) = one.command(&["outbox", "retry", "push/it/db/app"]);
    assert!(code == 0 || text.contains("there is no job"), "delivered already, or tried now: {text}");
    until("the latest arrives", || told(&app) == json!({"URI": "three"}));
}

#[test]
fn an_answer_that_is_final_stays_visible_until_it_is_dropped() {
    let one = broker("db", port(), "", "");
    let db = one.serve_broker();
    let gone = Origin::answering("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n");
    let uri = format!("http://{}/app/pipes/db", gone.address);
    let pipe = json!({"id": "app", "this": {"data": {"URI": "one"}}, "other": {"uri": uri, "issuer": uri}});
    assert_eq!(db.post("/db/pipes", &pipe.to_string()).status, 201);
    let listed = || one.command(&["outbox", "list"]).1;
    until("it is given up", || listed().contains("failed"));
    assert!(listed().contains("410 Gone"), "{}", listed());
    let request = gone.first();
    assert!(request.starts_with("PATCH /app/pipes/db HTTP/1.1"), "{request}");
    assert!(request.ends_with(r#"{"other":{"data":{"URI":"one"}}}"#), "{request}");
    assert_eq!(one.command(&["outbox", "drop", "push/it/db/app"]).0, 0);
    assert!(!listed().contains("push/"));
}

#[test]
fn whoever_is_deleted_says_so_only_when_asked_to() {
    for (settings, expected) in [("", json!({"URI": "one"})), ("tell_deletions = true\n", Value::Null)] {
        let (one, other) = (broker("db", port(), settings, ""), broker("app", port(), "", ""));
        let (db, app) = (one.serve_broker(), other.serve_broker());
        connect(&db, &app);
        until("the first data arrives", || told(&app) == json!({"URI": "one"}));
        assert_eq!(db.call("DELETE", "/db/pipes/app", &[], "").status, 204);
        until("nothing is left to be told", || {
            one.command(&["outbox", "list", "--json"]).1.trim().is_empty()
        });
        assert_eq!(told(&app), expected);
    }
}

#[test]
fn a_broker_that_is_not_the_other_end_is_refused_row_by_row() {
    let (one, login) = (broker("db", port(), "", ""), Login::new());
    let db = one.serve_broker();
    let (this, other) = (format!("http://{}/db/pipes/app", db.address), "http://elsewhere/app/pipes/db");
    let pipe = json!({"id": "app", "this": {"data": {"SECRET": "s"}}, "other": {"uri": other, "issuer": login.url()}});
    assert_eq!(db.post("/db/pipes", &pipe.to_string()).status, 201);
    assert_eq!(db.post("/db/pipes", r#"{"id":"second"}"#).status, 201);
    let call = |method: &str, path: &str, claims: Value, body: &str| {
        let token = login.token(other, claims);
        db.call(method, path, &[("authorization", &format!("Bearer {token}"))], body).status
    };
    let news = r#"{"other":{"data":{"URI":"new"}}}"#;
    let good = || json!({"aud": this});
    assert_eq!(call("PATCH", "/db/pipes/app", good(), news), 202);
    let data = || db.get("/db/pipes/app").json()["other"]["data"].clone();
    assert_eq!(data(), json!({"URI": "new"}));
    let hostile = r#"{"other":{"data":{"URI":"hostile"}}}"#;
    for (row, claims) in [
        ("a longer audience", json!({"aud": format!("{this}2")})),
        ("a shorter audience", json!({"aud": this[..this.len() - 1]})),
        ("no audience", json!({"aud": null})),
        ("another audience", json!({"aud": "standpipe"})),
        ("a longer subject", json!({"aud": this, "sub": format!("{other}2")})),
        ("a subject that only begins alike", json!({"aud": this, "sub": "http://elsewhere/app/pipes/d"})),
        ("another issuer", json!({"aud": this, "iss": "http://issuer.example"})),
        ("a longer issuer", json!({"aud": this, "iss": format!("{}0", login.url())})),
        ("expired", json!({"aud": this, "exp": now() - 600})),
        ("from the future", json!({"aud": this, "iat": now() + 600})),
    ] {
        assert_eq!(call("PATCH", "/db/pipes/app", claims, hostile), 401, "{row}");
    }
    for (row, method, path, body, status) in [
        ("reading", "GET", "/db/pipes/app", "", 401),
        ("deleting", "DELETE", "/db/pipes/app", "", 401),
        ("listing", "GET", "/db/pipes", "", 401),
        ("creating", "POST", "/db/pipes", hostile, 401),
        ("another pipe", "PATCH", "/db/pipes/second", hostile, 401),
        ("a pipe that is not there", "PATCH", "/db/pipes/third", hostile, 401),
        ("this end", "PATCH", "/db/pipes/app", r#"{"this":{"data":{"SECRET":"x"}}}"#, 403),
        ("the uri", "PATCH", "/db/pipes/app", r#"{"other":{"data":{},"uri":"http://x"}}"#, 403),
    ] {
        assert_eq!(call(method, path, good(), body), status, "{row}");
    }
    assert_eq!(data(), json!({"URI": "new"}));
    let unsigned = format!("{}x", login.token(other, good()));
    let bearer = format!("Bearer {unsigned}");
    assert_eq!(db.call("PATCH", "/db/pipes/app", &[("authorization", &bearer)], hostile).status, 401);
    assert!(db.log().contains("a broker's token was refused"), "the reason is in the log");
}

#[test]
fn nobody_makes_a_broker_reach_what_only_it_can_reach() {
    let inside = Origin::answering("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let port = inside.address.port();
    let one = House::broker("it", 0, &["db"]);
    let db = one.serve_broker();
    for (at, uri) in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://[::ffff:127.0.0.1]:{port}/x"),
        format!("http://2130706433:{port}/x"),
        format!("http://0x7f.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://user@127.0.0.1:{port}/x"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let pipe = json!({"id": format!("p{at}"), "this": {"data": {"A": "b"}}, "other": {"uri": uri, "issuer": uri}});
        assert_eq!(db.post("/db/pipes", &pipe.to_string()).status, 201, "{uri}");
        let job = format!("push/it/db/p{at}");
        let line =
            || one.command(&["outbox", "list"]).1.lines().find(|line| line.contains(&job)).map(str::to_owned);
        until("the attempt is over", || {
            line().is_some_and(|line| line.contains("is not asked") || line.contains("cannot be found"))
        });
    }
    assert_eq!(inside.connections(), 0);
}
