//! A registered OSB broker that cannot be put to work: what it offers and has stays its own until it is back.

use serde_json::{Value, json};

use crate::osb::{VERSION, call, put, said};
use crate::support::osb::{broker, front, message, service, tenants};
use crate::support::{Answer, House, Origin, Standpipe, until};

fn created(request: &str) -> Option<String> {
    Some(match request.split(' ').next() {
        Some("PUT") => message("201 Created", "{}"),
        Some("DELETE") => message("200 OK", "{}"),
        _ => message("404 Not Found", "{}"),
    })
}

/// A house with a broker in its configuration, and behind it, registered in this order, `alpha`, whose secret is in a file, and
/// `beta`.
struct Left {
    house: House,
    standpipe: Standpipe,
    first: Origin,
    alpha: Origin,
    beta: Origin,
}

fn is_read(answer: &Answer, services: usize) -> bool {
    answer.status == 200 && answer.json()["services"].as_array().unwrap().len() == services
}

impl Left {
    /// `alpha` stands behind the prefix `x-`.
    fn new(alpha: &[Value], beta: &[Value]) -> Self {
        Self::of(&[service("c", "cache")], ("x-", alpha), beta)
    }

    fn of(first: &[Value], (prefix, alpha): (&str, &[Value]), beta: &[Value]) -> Self {
        let first = broker(first, created);
        let (alpha, beta) = (broker(alpha, created), broker(beta, created));
        let house = front(&[("first", &first, "")], "");
        let left = Self::alone(house, (prefix, alpha), first, beta);
        left.register("beta", &left.beta, &json!({}));
        left
    }

    fn alone(house: House, (prefix, alpha): (&str, Origin), first: Origin, beta: Origin) -> Self {
        let standpipe = house.serve();
        let left = Self { house, standpipe, first, alpha, beta };
        left.hide_nothing();
        left.register("alpha", &left.alpha, &json!({ "id_prefix": prefix, "credential": left.credential() }));
        left
    }

    fn credential(&self) -> Value {
        json!({ "kind": "bearer", "token": format!("file:{}", self.secret().display()) })
    }

    fn secret(&self) -> std::path::PathBuf {
        self.house.folder.path().join("secret")
    }

    fn register(&self, name: &str, origin: &Origin, more: &Value) {
        let mut table =
            json!({ "name": name, "dialect": "osb", "url": format!("http://{}", origin.address) });
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let added = self.house.admin("POST", "/providers", &table.to_string());
        assert_eq!(added.status, 201, "{}", added.body);
        until("its catalog was read", || {
            let shown = self.house.admin("GET", &format!("/providers/{name}"), "").json();
            shown["indexed"].as_u64().unwrap() > 0
        });
    }

    fn hide_nothing(&self) {
        std::fs::write(self.secret(), "secret").unwrap();
    }

    /// The process ends, the file is lost, and the process starts.
    fn restart_without(&mut self) {
        self.standpipe.kill();
        std::fs::remove_file(self.secret()).unwrap();
        self.standpipe = self.house.serve();
        assert_eq!(self.house.admin("GET", "/providers", "").json()["left_out"][0]["name"], "alpha");
    }

    fn catalog(&self) -> Answer {
        call(&self.standpipe, "GET", "/v2/catalog", "")
    }

    fn put(&self, instance: &str, service: &str) -> Answer {
        put(&self.standpipe, instance, service)
    }

    fn delete(&self, instance: &str, service: &str) -> Answer {
        let path = format!("/v2/service_instances/{instance}?service_id={service}&plan_id={service}-small");
        call(&self.standpipe, "DELETE", &path, "")
    }
}

#[track_caller]
fn is_out_of_work(answer: &Answer) {
    let told = answer.body.contains("is registered, but could not be put to work")
        && answer.body.contains("standpipe providers refresh alpha");
    assert!(answer.status == 503 && told, "{} {}", answer.status, answer.body);
    assert_eq!(answer.header("retry-after"), Some("2"));
}

#[test]
fn what_it_offers_and_has_stays_its_own_until_it_is_back() {
    // Beta has another offering under the id that alpha's has first.
    let mut left = Left::new(
        &[service("s", "db"), service("t", "queue")],
        &[service("x-s", "db"), service("b", "mail")],
    );
    until("all catalogs were read", || is_read(&left.catalog(), 4));
    let whole = left.catalog();
    assert_eq!(left.put("old", "x-s").status, 201);
    left.restart_without();

    let now = left.catalog();
    assert_eq!((now.body.as_str(), now.header("standpipe-partial")), (whole.body.as_str(), None));
    assert_eq!(now.header("etag"), whole.header("etag"));
    is_out_of_work(&left.put("new", "x-s"));
    is_out_of_work(&left.put("new", "x-t"));
    is_out_of_work(&left.delete("unmapped", "x-s"));
    is_out_of_work(&call(&left.standpipe, "GET", "/providers/alpha/v2/catalog", ""));
    let pin = [VERSION, ("standpipe-provider", "alpha")];
    is_out_of_work(&left.standpipe.call("GET", "/v2/catalog", &pin, ""));
    let mapped = left.delete("old", "x-s");
    assert!(
        mapped.status == 503 && mapped.body.contains("lives at alpha, which is registered, but"),
        "{}",
        mapped.body
    );
    assert_eq!(said(&left.beta, "PUT") + said(&left.beta, "DELETE"), 0, "nothing of alpha's goes to beta");
    assert_eq!(left.put("other", "b").status, 201, "nobody else is disturbed");
    assert_eq!(left.delete("none", "nobodys").status, 410, "every catalog is known");
    let stale = "standpipe_provider_notes{provider=\"alpha\",note=\"catalog-stale\"}";
    until("the operator sees it", || left.house.figures().contains(stale));
    let (code, text) = left.house.command(&["providers", "refresh", "alpha"]);
    assert!(code == 1 && text.contains("credential.token: cannot read"), "{text}");

    left.hide_nothing();
    let (code, text) = left.house.command(&["providers", "refresh", "alpha"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(left.delete("old", "x-s").status, 200);
    assert_eq!(left.put("new", "x-s").status, 201);
    assert_eq!((said(&left.alpha, "PUT"), said(&left.beta, "PUT")), (2, 1));
    assert_eq!(left.catalog().body, whole.body);
    until("nothing is stale", || !left.house.figures().contains(stale));
}

#[test]
fn a_reload_that_leaves_one_out_takes_nothing_from_it_either() {
    let left = Left::new(&[service("s", "database")], &[service("x-s", "db")]);
    until("all catalogs were read", || is_read(&left.catalog(), 2));
    let whole = left.catalog().body;
    std::fs::remove_file(left.secret()).unwrap();
    left.standpipe.signal("-HUP");
    until("it is left out", || left.put("i", "x-s").status == 503);
    assert_eq!(left.catalog().body, whole);
    left.hide_nothing();
    left.standpipe.signal("-HUP");
    until("it is back", || left.put("i", "x-s").status == 201);
    assert_eq!((said(&left.beta, "PUT"), left.catalog().body), (0, whole));
}

#[test]
fn one_that_drains_is_offered_nowhere_and_what_others_offer_alike_steps_in() {
    let alike = [service("s", "db")];
    let mut left = Left::of(&[service("c", "cache")], ("", &alike), &alike);
    assert_eq!(left.put("old", "s").status, 201);
    let whole = left.catalog().body;
    assert_eq!(left.house.command(&["providers", "drain", "alpha"]).0, 0);
    assert_eq!(left.put("new", "s").status, 201);
    assert_eq!((said(&left.alpha, "PUT"), said(&left.beta, "PUT")), (1, 1));
    left.restart_without();
    assert_eq!(left.catalog().body, whole);
    assert_eq!(left.put("newer", "s").status, 503, "it may be at alpha");
    assert_eq!(left.delete("old", "s").status, 503);
    left.hide_nothing();
    assert_eq!(left.house.command(&["providers", "refresh", "alpha"]).0, 0);
    assert_eq!(left.put("newer", "s").status, 201);
    assert_eq!((said(&left.alpha, "PUT"), said(&left.beta, "PUT")), (1, 2));
}

#[test]
fn the_ids_of_one_that_drains_stay_its_own() {
    // Beta has another offering under the id that alpha's has first.
    let mut left = Left::new(&[service("s", "database")], &[service("x-s", "db")]);
    assert_eq!(left.put("old", "x-s").status, 201);
    assert_eq!(left.house.command(&["providers", "drain", "alpha"]).0, 0);
    until("it is offered nowhere", || is_read(&left.catalog(), 1));
    let conflict = "standpipe_provider_notes{provider=\"beta\",note=\"catalog-conflict\"} 1";
    assert!(left.house.figures().contains(conflict));
    let drained = |left: &Left| {
        let new = left.put("new", "x-s");
        assert!(new.status == 503 && new.body.contains("alpha is being drained"), "{}", new.body);
    };
    drained(&left);
    let body = json!({"service_id": "x-s", "plan_id": "x-s-small"}).to_string();
    let binding = "/v2/service_instances/unmapped/service_bindings/b";
    assert_eq!(call(&left.standpipe, "PUT", binding, &body).status, 201, "bound as ever");
    assert_eq!(left.delete("unmapped", "x-s").status, 200);
    assert_eq!(left.delete("old", "x-s").status, 200);
    left.restart_without();
    until("the catalogs are there", || is_read(&left.catalog(), 1));
    drained(&left);
    assert_eq!((said(&left.alpha, "PUT"), said(&left.alpha, "DELETE")), (2, 2));
    assert_eq!((said(&left.beta, "PUT"), said(&left.beta, "DELETE")), (0, 0));
    left.hide_nothing();
    assert_eq!(left.house.command(&["providers", "refresh", "alpha"]).0, 0);
    assert_eq!(left.house.command(&["providers", "drain", "alpha", "--undo"]).0, 0);
    assert_eq!(left.put("new", "x-s").status, 201);
    assert_eq!((said(&left.alpha, "PUT"), said(&left.beta, "PUT")), (3, 0));
}

#[test]
fn of_those_who_share_a_service_it_counts_as_one_that_is_silent() {
    let mut alike = service("s", "db");
    alike["instances_retrievable"] = true.into();
    let alike = std::slice::from_ref(&alike);
    let mut left = Left::of(alike, ("", alike), &[service("b", "mail")]);
    until("both were asked", || left.put("there", "s").status == 201);
    assert_eq!((said(&left.first, "PUT"), said(&left.alpha, "PUT")), (1, 0), "the first has it");
    left.restart_without();
    assert_eq!(left.put("new", "s").status, 503, "it may be at alpha");
    assert_eq!(left.delete("unmapped", "s").status, 503, "it may be at alpha");
    assert_eq!((said(&left.first, "PUT"), said(&left.first, "DELETE")), (1, 0));
    assert_eq!(left.delete("there", "s").status, 200);
}

#[test]
fn nobody_else_is_needed_for_its_last_good_catalog() {
    let nobody = || broker(&[], created);
    let alpha = broker(&[service("s", "db")], created);
    let mut left = Left::alone(front(&[], ""), ("", alpha), nobody(), nobody());
    let whole = left.catalog().json();
    left.restart_without();
    assert_eq!(left.catalog().json(), whole);
    is_out_of_work(&left.put("new", "s"));
    is_out_of_work(&call(&left.standpipe, "GET", "/v2/service_instances/unmapped", ""));
}

#[test]
fn who_does_not_see_it_is_shown_nothing_of_it() {
    let mut left = Left::new(&[service("s", "db"), service("t", "queue")], &[service("x-s", "db")]);
    tenants(&left.house);
    let config = std::fs::read_to_string(&left.house.config).unwrap();
    let rules =
        "[[access]]\ntenants = [\"red\"]\n[[access]]\ntenants = [\"blue\"]\nproviders = [\"beta*\"]\n";
    std::fs::write(&left.house.config, config + rules).unwrap();
    left.standpipe.kill();
    left.standpipe = left.house.serve();
    let catalog = |left: &Left, login: &str| {
        let login = ("authorization", login);
        let seen = left.standpipe.call("GET", "/v2/catalog", &[VERSION, login], "");
        assert_eq!((seen.status, seen.header("standpipe-partial")), (200, None), "{}", seen.body);
        seen.body
    };
    let (red, blue) = ("Basic cmVkOnB3", "Basic Ymx1ZTpwdw==");
    let before = (catalog(&left, red), catalog(&left, blue));
    left.restart_without();
    assert_eq!((catalog(&left, red), catalog(&left, blue)), before);
    let body =
        json!({"service_id": "x-s", "plan_id": "x-s-small", "organization_guid": "o", "space_guid": "s"});
    let put = |login: &str, instance: &str| {
        let headers = [VERSION, ("content-type", "application/json"), ("authorization", login)];
        left.standpipe.call("PUT", &format!("/v2/service_instances/{instance}"), &headers, &body.to_string())
    };
    is_out_of_work(&put(red, "r"));
    assert_eq!(put(blue, "b").status, 201, "to whom only beta has it");
    let named =
        left.standpipe.call("GET", "/providers/alpha/v2/catalog", &[VERSION, ("authorization", blue)], "");
    assert_eq!(named.status, 404, "{}", named.body);
}
