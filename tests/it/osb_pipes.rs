//! OSB services as pipes: offers, bindings with their credentials, an app that is told them, and brokers that take their time.

mod callers;
mod names;
mod plans;
mod quotas;

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::automatic::port;
use crate::support::osb::message;
use crate::support::{Answer, House, Origin, Standpipe, until};

const PLAN: &str = "/pg/offers/postgresql-small";

/// A database broker. With `plan.asynchronous` instances are ready once the test says so; bindings have their own credentials.
fn database(plan: Value, service: Value) -> Origin {
    let merged = |mut one: Value, other: &Value| {
        let more = other.as_object().unwrap().clone();
        one.as_object_mut().unwrap().extend(more);
        one
    };
    let takes_time = plan["asynchronous"] == true;
    let plan = merged(json!({"id": "small-id", "name": "small", "description": "d"}), &plan);
    let service = merged(
        json!({"id": "pg-id", "name": "postgresql", "description": "d", "bindable": true, "plans": [plan]}),
        &service,
    );
    let catalog = json!({ "services": [service] }).to_string();
    Origin::new(move |mut peer| {
        while let Some(request) = peer.request() {
            let (method, path) = line(&request);
            let credentials =
                |id: &str| json!({"credentials": {"uri": format!("postgres://{id}"), "password": "p"}});
            let answer = match (method, path.rsplit_once("/service_bindings/")) {
                ("GET", _) if path == "/v2/catalog" => message("200 OK", &catalog),
                ("GET", _) if path.ends_with("/last_operation") => {
                    let state = if peer.told() { "succeeded" } else { "in progress" };
                    message("200 OK", &json!({ "state": state }).to_string())
                }
                ("PUT", None) if request.contains("\"refuse\"") => {
                    message("400 Bad Request", r#"{"error":"Bad","description":"no such disk"}"#)
                }
                ("PUT", None) if takes_time => message("202 Accepted", r#"{"operation":"op-7"}"#),
                ("PUT", None) => message("201 Created", "{}"),
                ("PUT", Some(_)) if peer.told() && !takes_time => {
                    message("500 Oops", r#"{"description":"disk full"}"#)
                }
                ("DELETE", _) if peer.told() && !takes_time && !path.contains("/service_bindings/") => {
                    message("503 Not Now", "{}")
                }
                ("PUT", Some((_, id))) => message("201 Created", &credentials(id).to_string()),
                ("GET", Some((_, id))) => message("200 OK", &credentials(id).to_string()),
                ("PATCH", None) if request.contains("\"slowly\"") => {
                    message("202 Accepted", r#"{"operation":"op-8"}"#)
                }
                ("PATCH" | "DELETE", _) => message("200 OK", "{}"),
                _ => message("404 Not Found", "{}"),
            };
            peer.wire.send(answer);
        }
    })
}

/// The method and the path of a request, without its query.
fn line(request: &str) -> (&str, &str) {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    (method, target.split('?').next().unwrap())
}

fn front(at: u16, broker: SocketAddr, more: &str) -> House {
    House::new(&format!(
        "threads = 1\n[outbound]\nallow = [\"http://127.0.0.1:*\"]\n[[listener]]\naddress = \"127.0.0.1:{at}\"\n[[provider]]\nname = \"pg\"\ndialect = \"osb\"\nurl = \"http://{broker}\"\n{more}"
    ))
}

/// An app at a built-in cloudpipe broker, configured by an env file.
fn app() -> House {
    House::new(&format!(
        "threads = 1\n[outbound]\nallow = [\"http://127.0.0.1:*\"]\n[[listener]]\naddress = \"127.0.0.1:{}\"\n[[provider]]\nname = \"it\"\ndialect = \"cloudpipe\"\n[provider.broker]\n[provider.broker.resource.app]\nsink = {{ kind = \"env-file\", path = \"app.env\" }}\n",
        port()
    ))
}

fn bind(front: &Standpipe, body: Value) -> Answer {
    until("the catalog is there", || front.get(PLAN).status == 200);
    front.post(&format!("{PLAN}/bindings"), &body.to_string())
}

fn patch(front: &Standpipe, path: &str, body: Value) -> u16 {
    front.call("PATCH", path, &[("content-type", "application/json")], &body.to_string()).status
}

/// The requests of a broker that begin like this.
fn said(broker: &Origin, begins: &str) -> Vec<String> {
    broker.said().into_iter().filter(|said| said.starts_with(begins)).collect()
}

#[test]
fn an_app_has_the_credentials_of_its_database_and_the_rotated_ones() {
    let broker = database(json!({"binding_rotatable": true}), json!({}));
    let front = front(port(), broker.address, "[extensions.osb-pipes]\ntell_deletions = true\n").run();
    let asked = json!({"pipe": {"id": "app"}, "parameters": {"disk": 20}, "binding_parameters": {"role": "rw"},
        "context": {"platform": "kubernetes", "space_guid": "s1"}});
    let made = bind(&front, asked.clone());
    assert_eq!(made.status, 202, "{}", made.body);
    assert_eq!(made.header("location"), Some("/pg/pipes/app"));
    let pipe = made.json();
    let first = pipe["binding_id"].as_str().unwrap().to_owned();
    assert_eq!(pipe["this"]["data"], json!({"password": "p", "URI": format!("postgres://{first}")}));
    assert_eq!(
        (&pipe["pipe"]["id"], &pipe["proto"], &pipe["state"]),
        (&json!("app"), &json!("postgresqls"), &json!("ready"))
    );
    let sent: Vec<Value> = said(&broker, "PUT").iter().map(|said| body(said)).collect();
    assert_eq!((&sent[0]["parameters"], &sent[0]["space_guid"]), (&json!({"disk": 20}), &json!("s1")));
    assert_eq!(
        (&sent[1]["parameters"], &sent[1]["context"]["platform"]),
        (&json!({"role": "rw"}), &json!("kubernetes"))
    );
    assert_eq!(bind(&front, asked).json()["binding_id"], json!(first), "asked again, it is the same");
    assert_eq!(bind(&front, json!({"id": "app"})).status, 409);
    assert_eq!(said(&broker, "PUT").len(), 2);

    let house = app();
    let app = house.serve_broker();
    connect(&front, &app, &pipe["this"]);
    let env = || std::fs::read_to_string(house.folder.path().join("app.env")).unwrap_or_default();
    until("the app has the credentials", || {
        env().contains(&format!("PIPE_DB_OTHER_URI='postgres://{first}'"))
    });

    assert_eq!(front.post("/pg/pipes/app/rotate", "").status, 202);
    let second = || front.get("/pg/pipes/app").json()["binding_id"].as_str().unwrap().to_owned();
    until("the app has the new ones", || {
        second() != first && env().contains(&format!("PIPE_DB_OTHER_URI='postgres://{}'", second()))
    });
    until("the old binding is unbound", || !said(&broker, "DELETE").is_empty());
    assert!(said(&broker, "DELETE")[0].contains(&first));
    assert_eq!(body(said(&broker, "PUT").last().unwrap())["predecessor_binding_id"], json!(first));

    assert_eq!(front.call("DELETE", "/pg/pipes/app", &[], "").status, 204);
    let gone: Vec<String> = said(&broker, "DELETE").iter().map(|said| line(said).1.to_owned()).collect();
    let (last, bindings) = gone.split_last().unwrap();
    // A deletion that overtakes the end of a rotation asks for the old binding's once more.
    assert!(
        bindings.len() >= 2 && bindings.iter().all(|path| path.contains("/service_bindings/")),
        "{gone:?}"
    );
    assert!(last.ends_with(pipe["instance_id"].as_str().unwrap()), "{gone:?}");
    assert_eq!(front.get("/pg/pipes/app").status, 404);
    assert_eq!(front.get("/pg/pipes").json(), json!([]));
    until("the app has them no more", || !env().contains("PIPE_DB_OTHER_"));
    assert_eq!(app.get("/app/pipes/db").status, 200, "its own pipe stays");
}

/// The same with the built-in brokers of both sides, which have no script.
#[test]
fn a_database_of_the_built_in_osb_broker_is_a_pipe_to_an_app_of_the_built_in_cloudpipe_broker() {
    let databases = House::new(
        r#"
threads = 1
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "databases"
dialect = "osb"
[provider.osb_broker.instances.create]
async = true
[provider.osb_broker.bindings.create]
async = true
retry_after = "1s"
[provider.osb_broker.bindings]
credentials = { uri = "postgresqls://{{binding_id}}:{{password}}@db.example/{{instance_id}}", password = "{{password}}" }
[[provider.osb_broker.services]]
id = "pg-id"
name = "postgresql"
description = "d"
bindable = true
bindings_retrievable = true
binding_rotatable = true
[[provider.osb_broker.services.plans]]
id = "small-id"
name = "small"
description = "d"
"#,
    )
    .run_osb_broker();
    let front = front(port(), databases.address, "").run();
    let made = bind(&front, json!({"id": "app"}));
    assert_eq!(made.status, 202, "{}", made.body);
    let house = app();
    let app = house.serve_broker();
    connect(&front, &app, &made.json()["this"]);
    let env = || std::fs::read_to_string(house.folder.path().join("app.env")).unwrap_or_default();
    let shown = || front.get("/pg/pipes/app").json();
    until("it is ready", || shown()["state"] == "ready");
    let line =
        |pipe: &Value| format!("PIPE_DB_OTHER_URI='{}'", pipe["this"]["data"]["URI"].as_str().unwrap());
    let first = shown();
    until("the app has the credentials", || env().contains(&line(&first)));
    assert_eq!(front.post("/pg/pipes/app/rotate", "").status, 202);
    until("it is rotated", || shown()["state"] == "ready" && shown()["binding_id"] != first["binding_id"]);
    let second = shown();
    until("the app has the new credentials", || env().contains(&line(&second)));
    assert!(!env().contains(&line(&first)));
    assert_eq!(front.call("DELETE", "/pg/pipes/app", &[], "").status, 204);
}

/// The app learns of its database, and the database of its app.
fn connect(front: &Standpipe, app: &Standpipe, this: &Value) {
    let other = json!({"id": "db", "other": {"uri": this["uri"], "issuer": this["issuer"]}});
    let end = app.post("/app/pipes", &other.to_string()).json()["this"].clone();
    let told = json!({"other": {"uri": end["uri"], "issuer": end["issuer"]}});
    assert_eq!(patch(front, "/pg/pipes/app", told), 202);
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn a_broker_takes_its_time_and_standpipe_is_killed_meanwhile() {
    let broker = database(json!({"asynchronous": true}), json!({"bindings_retrievable": true}));
    let house = front(port(), broker.address, "");
    let mut front = house.serve();
    until("the catalog is there", || front.get(PLAN).status == 200);
    let asked = json!({"id": "app"}).to_string();
    let at = front.address;
    // Nobody waits for this answer.
    let asking = std::thread::spawn(move || {
        crate::support::exchange(
            at,
            format!(
                "POST {PLAN}/bindings HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{asked}",
                asked.len()
            )
            .as_bytes(),
        )
    });
    until("the broker is at it", || !said(&broker, "PUT").is_empty());
    until("its answer is written down", || !said(&broker, "GET /v2/service_instances/").is_empty());
    assert_eq!(front.get("/pg/pipes/app").json()["state"], "pending");
    front.kill();
    let _broken_off = asking.join().unwrap();
    let front = house.serve();
    assert_eq!(front.get("/pg/pipes/app").json()["this"]["data"], Value::Null);
    broker.tell();
    until("it is ready", || front.get("/pg/pipes/app").json()["state"] == "ready");
    let pipe = front.get("/pg/pipes/app").json();
    assert_eq!(pipe["this"]["data"]["password"], "p", "{pipe}");
    assert_eq!(
        said(&broker, "PUT /v2/service_instances/")
            .iter()
            .filter(|said| !said.contains("/service_bindings/"))
            .count(),
        1
    );
    // An instance that is there is bound as it is, and stays when its pipe goes.
    let instance = pipe["instance_id"].as_str().unwrap();
    let offers = front.get(&format!("/{instance}/offers")).json();
    assert_eq!(offers[0]["name"], "postgresql-small", "{offers}");
    let made = front.post(&format!("/{instance}/offers/postgresql-small/bindings"), r#"{"id":"second"}"#);
    assert_eq!((made.status, made.json()["instance_id"].as_str()), (202, Some(instance)), "{}", made.body);
    assert_eq!(front.call("DELETE", "/pg/pipes/app", &[], "").status, 409, "another pipe needs its instance");
    assert_eq!(front.call("DELETE", &format!("/{instance}/pipes/second"), &[], "").status, 204);
    let deleted = said(&broker, "DELETE");
    assert!(deleted.len() == 1 && deleted[0].contains("/service_bindings/"), "{deleted:?}");
}

#[test]
fn credentials_that_are_not_told_again_are_kept_only_as_the_operator_says() {
    let broker = database(json!({}), json!({}));
    for (more, kept) in [
        ("[extensions.osb-pipes]\nkeep_credentials = true\nhand_over = \"1ms\"\n", true),
        ("[extensions.osb-pipes]\nhand_over = \"1ms\"\n", false),
    ] {
        let house = front(port(), broker.address, more);
        let front = house.serve();
        assert_eq!(bind(&front, json!({"id": "app"})).status, 202);
        let pipe = || front.get("/pg/pipes/app").json();
        if kept {
            assert_eq!(pipe()["this"]["data"]["password"], "p");
            let secret = pipe()["this"]["data"]["URI"].as_str().unwrap().to_owned();
            for file in std::fs::read_dir(house.folder.path().join("standpipe-data")).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "credentials are sealed");
            }
        } else {
            until("they are removed", || pipe()["this"]["data"] == Value::Null);
            let rotate = pipe()["_links"]["rotate"]["href"].as_str().unwrap().to_owned();
            assert!(
                rotate.ends_with("/pg/pipes/app/rotate")
                    && pipe()["description"].as_str().unwrap().contains("rotate")
            );
        }
    }
}

#[test]
fn what_a_broker_refuses_is_told_and_leaves_nothing() {
    let broker = database(json!({}), json!({}));
    let front = front(port(), broker.address, "").run();
    let refused = bind(&front, json!({"id": "app", "parameters": {"refuse": 1}}));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("no such disk"));
    assert_eq!(front.get("/pg/pipes/app").json()["state"], "failed");
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202, "another attempt takes its place");
    for (body, status) in [
        (json!({"id": "a", "parameters": 5}), 400),
        (json!({"id": "a", "this": {"data": {"x": 1}}}), 400),
        (json!({"id": "a", "proto": "rediss"}), 400),
    ] {
        assert_eq!(bind(&front, body.clone()).status, status, "{body}");
    }
    assert_eq!(front.post("/pg/offers/none/bindings", "{}").status, 404);
}

#[test]
fn the_lists_have_services_beside_everything_else() {
    let broker = database(json!({}), json!({}));
    let more = "[[extensions.osb-pipes.offers]]\nplans = [\"small\"]\nprotos = [\"pgwire\"]\nadapters = [\"auth:basic\"]\n";
    let front = front(port(), broker.address, more).run();
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202);
    let offers = front.get("/offers?proto=pgwire&resource=pg").json();
    assert_eq!(
        (&offers[0]["name"], &offers[0]["provider"]),
        (&json!("postgresql-small"), &json!("pg")),
        "{offers}"
    );
    assert_eq!(front.get("/offers?proto=other").json(), json!([]));
    let href = offers[0]["_links"]["bindings"]["href"].as_str().unwrap();
    assert!(href.ends_with(&format!("{PLAN}/bindings")), "{href}");
    let pipes = front.get("/pipes").json();
    assert_eq!((&pipes[0]["id"], &pipes[0]["this"]["data"]), (&json!("app"), &Value::Null), "{pipes}");
    // The specification's root paths lead there too.
    assert_eq!(front.get("/pipes/app").json()["this"]["data"]["password"], "p");
    assert_eq!(front.get("/offers/postgresql-small/protos/pgwire").json(), json!({"id": "pgwire"}));
    assert_eq!(front.call("DELETE", "/pipes/app?resource=pg", &[], "").status, 204);
}

#[test]
fn a_rotation_that_fails_leaves_the_pipe_as_it_was_and_a_deletion_goes_on_in_the_background() {
    let broker = database(json!({}), json!({"bindings_retrievable": true}));
    let front = front(port(), broker.address, "").run();
    let pipe = bind(&front, json!({"id": "app"})).json();
    broker.tell();
    assert_eq!(front.post("/pg/pipes/app/rotate", "").status, 202);
    let shown = || front.get("/pg/pipes/app").json();
    until("it is told", || shown()["description"] == "disk full");
    assert_eq!(
        (&shown()["binding_id"], &shown()["this"]["data"]),
        (&pipe["binding_id"], &pipe["this"]["data"])
    );
    let orphans =
        || said(&broker, "DELETE").iter().filter(|said| said.contains("/service_bindings/")).count();
    until("what may be left of it is deleted", || orphans() == 1);
    assert!(!said(&broker, "DELETE")[0].contains(pipe["binding_id"].as_str().unwrap()));
    let leaving = front.call("DELETE", "/pg/pipes/app", &[], "");
    assert_eq!((leaving.status, &leaving.json()["state"]), (202, &json!("deleting")));
    assert_eq!(bind(&front, json!({"id": "app"})).status, 409, "it is not gone");
}
