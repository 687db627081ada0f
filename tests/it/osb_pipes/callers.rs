//! Whose a pipe is.

use serde_json::json;

use super::{PLAN, database, front, port, said};
use crate::support::{Standpipe, until};

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
