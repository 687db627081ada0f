//! Whose a pipe is, and who else may speak.

use serde_json::{Value, json};

use super::{PLAN, app, bind, database, front, patch, port, said};
use crate::support::{House, Login, Standpipe, until};

#[test]
fn a_pipe_is_its_tenants_alone() {
    let broker = database(json!({}), json!({}));
    let hash = crate::support::password_hash("pw");
    let caller = |name: &str, tenant: &str| {
        format!("[[caller]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\ntenant = \"{tenant}\"\n")
    };
    let house = front(
        port(),
        broker.address,
        &(caller("red", "one") + &caller("blue", "two") + &caller("pink", "one")),
    );
    let config = std::fs::read_to_string(&house.config).unwrap();
    std::fs::write(&house.config, config.replace("[[listener]]\n", "[[listener]]\ncallers = [\"basic\"]\n"))
        .unwrap();
    let front = house.run();
    let [red, blue, pink] = ["Basic cmVkOnB3", "Basic Ymx1ZTpwdw==", "Basic cGluazpwdw=="].map(|login| {
        move |front: &Standpipe, method: &str, path: &str, body: &str| {
            front.call(method, path, &[("authorization", login)], body)
        }
    });
    until("the catalog is there", || red(&front, "GET", PLAN, "").status == 200);
    let made = red(&front, "POST", &format!("{PLAN}/bindings"), r#"{"id":"app"}"#).json();
    assert_eq!(pink(&front, "GET", "/pg/pipes/app", "").json()["this"]["data"]["password"], "p");
    let instance = made["instance_id"].as_str().unwrap();
    for (method, path) in [
        ("GET", "/pg/pipes/app".to_owned()),
        ("DELETE", "/pg/pipes/app".to_owned()),
        ("POST", "/pg/pipes/app/rotate".to_owned()),
        ("GET", "/pipes/app".to_owned()),
    ] {
        assert_eq!(blue(&front, method, &path, "").status, 404, "{method} {path}");
    }
    assert_ne!(blue(&front, "GET", &format!("/{instance}/offers"), "").status, 200);
    assert_eq!(blue(&front, "GET", "/pipes", "").json(), json!([]));
    // Its uri names one pipe for everybody, so that nobody can speak for another's.
    assert_eq!(blue(&front, "POST", &format!("{PLAN}/bindings"), r#"{"id":"app"}"#).status, 409);
    assert_eq!(said(&broker, "DELETE").len(), 0);
}

const RED: (&str, &str) = ("authorization", "Basic cmVkOnB3");

/// A front whose callers are known, and a call of one of them.
fn guarded(house: &House, more: &str) {
    let hash = crate::support::password_hash("pw");
    let config = std::fs::read_to_string(&house.config).unwrap();
    let config = config.replace("[[listener]]\n", "[[listener]]\ncallers = [\"basic\"]\n");
    let caller = format!("[[caller]]\nname = \"red\"\npassword_hash = \"{hash}\"\ntenant = \"one\"\n");
    std::fs::write(&house.config, format!("{config}{caller}{more}")).unwrap();
}

fn red(front: &Standpipe, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = front.call(method, path, &[RED], &body.to_string());
    (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
}

#[test]
fn the_other_ends_broker_says_what_has_become_of_it() {
    let broker = database(json!({}), json!({"bindings_retrievable": true}));
    let house = front(port(), broker.address, "");
    guarded(&house, "");
    let front = house.serve();
    until("the catalog is there", || red(&front, "GET", PLAN, &json!({})).0 == 200);
    let (_, pipe) = red(&front, "POST", &format!("{PLAN}/bindings"), &json!({"id": "app"}));
    let (this, app) = (&pipe["this"], app().run_broker());
    let other = json!({"id": "db", "other": {"uri": this["uri"], "issuer": this["issuer"]}});
    let end = app.post("/app/pipes", &other.to_string()).json()["this"].clone();
    let told = json!({"other": {"uri": end["uri"], "issuer": end["issuer"]}});
    assert_eq!(red(&front, "PATCH", "/pg/pipes/app", &told).0, 202);
    assert_eq!(patch(&app, "/app/pipes/db", json!({"this": {"data": {"ADDRESS": "10.0.0.7"}}})), 202);
    let data = || red(&front, "GET", "/pg/pipes/app", &json!({})).1["other"]["data"].clone();
    until("the database knows its app", || data() == json!({"ADDRESS": "10.0.0.7"}));
}

#[test]
fn nobody_else_is_believed_row_by_row() {
    let broker = database(json!({}), json!({"bindings_retrievable": true}));
    for guard in [true, false] {
        let (house, login) = (front(port(), broker.address, ""), Login::new());
        if guard {
            guarded(&house, "");
        }
        let front = house.serve();
        let other = "http://elsewhere/app/pipes/db";
        let wanted = |id: &str| json!({"id": id, "other": {"uri": other, "issuer": login.url()}});
        if guard {
            until("the catalog is there", || red(&front, "GET", PLAN, &json!({})).0 == 200);
            for id in ["app", "second"] {
                assert_eq!(red(&front, "POST", &format!("{PLAN}/bindings"), &wanted(id)).0, 202);
            }
        } else {
            assert_eq!(
                (bind(&front, wanted("app")).status, bind(&front, wanted("second")).status),
                (202, 202)
            );
        }
        let this = format!("http://{}/pg/pipes/app", front.address);
        let call = |method: &str, path: &str, claims: Value, body: &str| {
            let token = format!("Bearer {}", login.token(other, claims));
            front.call(method, path, &[("authorization", &token)], body).status
        };
        let good = || json!({ "aud": this });
        let news = r#"{"other":{"data":{"URI":"new"}}}"#;
        assert_eq!(call("PATCH", "/pg/pipes/app", good(), news), 202);
        let data = || red(&front, "GET", "/pg/pipes/app", &json!({})).1["other"]["data"].clone();
        assert_eq!(data(), json!({"URI": "new"}));
        let hostile = r#"{"other":{"data":{"URI":"hostile"}}}"#;
        for (row, claims) in [
            ("another audience", json!({"aud": format!("{this}2")})),
            ("no audience", json!({"aud": null})),
            ("another subject", json!({"aud": this, "sub": "http://elsewhere/app/pipes/d"})),
            ("another issuer", json!({"aud": this, "iss": "http://issuer.example"})),
            ("expired", json!({"aud": this, "exp": crate::support::now() - 600})),
        ] {
            assert_eq!(call("PATCH", "/pg/pipes/app", claims, hostile), 401, "{row}");
        }
        assert_eq!(call("PATCH", "/pg/pipes/second", good(), hostile), 401, "another pipe");
        for body in [r#"{"this":{"data":{"A":"x"}}}"#, r#"{"other":{"data":{},"uri":"http://x"}}"#] {
            assert_eq!(call("PATCH", "/pg/pipes/app", good(), body), 403, "{body}");
        }
        let unsigned = format!("Bearer {}x", login.token(other, good()));
        let unsigned = front.call("PATCH", "/pg/pipes/app", &[("authorization", &unsigned)], hostile);
        assert_eq!(unsigned.status, 401, "{}", unsigned.body);
        if guard {
            let nowhere = call("PATCH", "/pg/pipes/third", json!({"aud": format!("{this}3")}), hostile);
            assert_eq!(nowhere, 401, "whether there is a pipe is nobody's business");
            for (method, path) in [
                ("GET", "/pg/pipes/app"),
                ("DELETE", "/pg/pipes/app"),
                ("POST", "/pg/pipes/app/rotate"),
                ("GET", "/pg/offers"),
                ("GET", "/pg/pipes"),
                ("POST", "/pg/offers/postgresql-small/bindings"),
            ] {
                assert_eq!(call(method, path, good(), "{}"), 401, "{method} {path}");
            }
        }
        assert_eq!(data(), json!({"URI": "new"}));
        assert_eq!(said(&broker, "DELETE").len(), 0);
    }
}

#[test]
fn rules_count_for_the_other_ends_broker() {
    let broker = database(json!({}), json!({}));
    for (rule, expected) in
        [("", 401), ("[[access]]\ncallers = [\"stranger\"]\nmethods = [\"PATCH\"]\n", 202)]
    {
        let (house, login) = (front(port(), broker.address, ""), Login::new());
        guarded(&house, &format!("[[access]]\ncallers = [\"basic:red\"]\n{rule}"));
        let front = house.serve();
        until("the catalog is there", || red(&front, "GET", PLAN, &json!({})).0 == 200);
        let wanted = json!({"id": "app", "other": {"uri": "http://x/app/pipes/db", "issuer": login.url()}});
        assert_eq!(red(&front, "POST", &format!("{PLAN}/bindings"), &wanted).0, 202);
        let aud = json!({"aud": format!("http://{}/pg/pipes/app", front.address)});
        let token = format!("Bearer {}", login.token("http://x/app/pipes/db", aud));
        let news = r#"{"other":{"data":{"URI":"new"}}}"#;
        let heard = front.call("PATCH", "/pg/pipes/app", &[("authorization", &token)], news);
        assert_eq!(heard.status, expected, "{}", heard.body);
    }
}

#[test]
fn nobody_does_through_pipes_what_it_may_not_do_at_the_broker() {
    let broker = database(json!({}), json!({}));
    let house = front(port(), broker.address, "");
    let hash = crate::support::password_hash("pw");
    let blue = format!("[[caller]]\nname = \"blue\"\npassword_hash = \"{hash}\"\ntenant = \"one\"\n");
    let rules = "[[access]]\ncallers = [\"basic:red\"]\n[[access]]\ncallers = [\"basic:blue\"]\nmethods = [\"GET\"]\n";
    guarded(&house, &format!("{blue}{rules}"));
    let front = house.serve();
    until("the catalog is there", || red(&front, "GET", PLAN, &json!({})).0 == 200);
    let bindings = format!("{PLAN}/bindings");
    assert_eq!(red(&front, "POST", &bindings, &json!({"id": "app"})).0, 202);
    let asked = broker.said().len();
    let blue = |method: &str, path: &str| {
        front.call(method, path, &[("authorization", "Basic Ymx1ZTpwdw==")], "{}").status
    };
    assert_eq!((blue("GET", "/pg/pipes/app"), blue("GET", PLAN)), (200, 200));
    for (method, path) in [
        ("POST", bindings.as_str()),
        ("POST", "/pg/pipes/app/rotate"),
        ("PATCH", "/pg/pipes/app"),
        ("DELETE", "/pg/pipes/app"),
    ] {
        assert_eq!(blue(method, path), 403, "{method} {path}");
    }
    assert_eq!(broker.said().len(), asked);
    assert_eq!(red(&front, "DELETE", "/pg/pipes/app", &json!({})).0, 204);
}
