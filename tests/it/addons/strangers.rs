//! Add-ons' ids can be computed by whoever knows their names: that must be worth nothing.

use serde_json::json;

use super::{broker, sent};
use crate::support::osb::{front, tenants};
use crate::support::{Answer, Standpipe, until};

const RED: &str = "Basic cmVkOnB3";
const BLUE: &str = "Basic Ymx1ZTpwdw==";
/// What the broker gives as the password.
const SECRET: &str = "it's@h";

fn call(standpipe: &Standpipe, login: &str, method: &str, path: &str, body: &str) -> Answer {
    let version = ("x-broker-api-version", "2.17");
    let headers = [version, ("authorization", login), ("content-type", "application/json")];
    standpipe.call(method, path, &headers, body)
}

fn add(standpipe: &Standpipe, app: &str) -> Answer {
    let body = json!({ "name": "mysql", "app": app, "channel": "prod" }).to_string();
    call(standpipe, BLUE, "POST", "/addons", &body)
}

#[test]
fn the_ids_of_anothers_addon_open_nothing() {
    let alpha = broker();
    let house = front(&[("alpha", &alpha, "")], "");
    tenants(&house);
    let standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, BLUE, "GET", "/v2/catalog", "").status == 200);
    let added = add(&standpipe, "shop");
    assert_eq!(added.status, 201, "{}", added.body);
    let added = added.json();
    let (id, bound) = (added["instance"].as_str().unwrap(), added["binding"].as_str().unwrap());
    let before = alpha.said().len();
    let ids = "?service_id=m&plan_id=m-free";
    let body = r#"{"service_id":"m","plan_id":"m-free","organization_guid":"blue","space_guid":"shop/prod"}"#;
    for face in ["", "/providers/alpha"] {
        let instance = format!("{face}/v2/service_instances/{id}");
        let (binding, evil) =
            (format!("{instance}/service_bindings/{bound}"), format!("{instance}/service_bindings/evil"));
        for (method, path, body) in [
            ("GET", format!("{instance}{ids}"), ""),
            ("GET", format!("{instance}/last_operation{ids}"), ""),
            ("GET", format!("{binding}{ids}"), ""),
            ("GET", format!("{binding}/last_operation{ids}"), ""),
            ("PUT", instance.clone(), body),
            ("PUT", binding.clone(), body),
            ("PUT", evil, body),
            ("PATCH", instance.clone(), body),
            ("DELETE", format!("{binding}{ids}"), ""),
            ("DELETE", format!("{instance}{ids}"), ""),
        ] {
            let answer = call(&standpipe, RED, method, &path, body);
            assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.body);
            assert!(!answer.body.contains(SECRET), "{method} {path}");
        }
    }
    for (method, path) in [
        ("GET", "/addons/shop/prod/mysql".to_owned()),
        ("GET", "/addons/shop/prod/mysql/credentials".to_owned()),
        ("PATCH", "/addons/shop/prod/mysql".to_owned()),
        ("DELETE", "/addons/shop/prod/mysql".to_owned()),
        ("GET", format!("/{id}/offers")),
        ("POST", format!("/{id}/offers/binding/bindings")),
        ("GET", format!("/{id}/pipes")),
        ("DELETE", format!("/{id}/pipes/{bound}")),
        ("GET", format!("/pipes/{bound}")),
    ] {
        let answer = call(&standpipe, RED, method, &path, r#"{"plan":"free"}"#);
        // 503: there is no cloudpipe broker that could know the path.
        assert!(matches!(answer.status, 400..500 | 503), "{method} {path}: {}", answer.body);
    }
    assert_eq!(alpha.said().len(), before, "the broker heard of none of it: {:?}", &alpha.said()[before..]);
    let credentials = call(&standpipe, BLUE, "GET", "/addons/shop/prod/mysql/credentials", "");
    assert!(credentials.status == 200 && credentials.body.contains(SECRET), "{}", credentials.body);
}

#[test]
fn an_id_that_somebody_took_first_is_neither_shared_nor_in_the_way() {
    let alpha = broker();
    let house = front(&[("alpha", &alpha, "")], "");
    tenants(&house);
    let standpipe = house.serve();
    until("the catalog is there", || call(&standpipe, BLUE, "GET", "/v2/catalog", "").status == 200);
    let id = add(&standpipe, "shop").json()["instance"].as_str().unwrap().to_owned();
    let removed = call(&standpipe, BLUE, "DELETE", "/addons/shop/prod/mysql", "");
    assert_eq!(removed.status, 200, "{}", removed.body);
    let body = r#"{"service_id":"m","plan_id":"m-free","organization_guid":"blue","space_guid":"shop/prod"}"#;
    let path = format!("/v2/service_instances/{id}");
    let taken = call(&standpipe, RED, "PUT", &path, body);
    assert_eq!(taken.status, 201, "nobody has it: {}", taken.body);
    let before = alpha.said().len();
    let added = add(&standpipe, "shop");
    assert_eq!(added.status, 201, "whoever takes an id keeps nobody from an add-on: {}", added.body);
    let other = added.json()["instance"].as_str().unwrap().to_owned();
    assert_ne!(other, id);
    let said = alpha.said();
    let puts = sent(&said[before..], "PUT");
    assert_eq!(puts.len(), 2, "{puts:?}");
    assert!(puts.iter().all(|put| put.contains(&other)), "nothing of blue's at red's instance: {puts:?}");
    assert_eq!(add(&standpipe, "shop").json()["instance"], other.as_str(), "and it keeps the one it has");
    assert_eq!(call(&standpipe, BLUE, "DELETE", "/addons/shop/prod/mysql", "").status, 200);
    assert_eq!(call(&standpipe, RED, "GET", &path, "").status, 200, "red's is untouched");
}
