//! An instance that is moved to another plan.

use serde_json::{Value, json};

use super::{body, database, front, line, port, said};
use crate::support::{Origin, Standpipe, until};

const INSTANCE: &str = "/v2/service_instances/direct";

fn call(front: &Standpipe, method: &str, path: &str, body: &Value) -> u16 {
    let headers = [("content-type", "application/json"), ("x-broker-api-version", "2.17")];
    front.call(method, path, &headers, &body.to_string()).status
}

/// What a broker was last asked to bind, and the plan it was told.
fn bound(broker: &Origin) -> (String, Value) {
    let puts = said(broker, "PUT");
    let last = puts.last().unwrap();
    (line(last).1.to_owned(), body(last)["plan_id"].clone())
}

#[test]
fn an_instance_is_bound_with_the_plan_it_has_now() {
    let plan = |name: &str| json!({"id": format!("{name}-id"), "name": name, "description": "d"});
    let plans = ["small", "large", "huge"].map(plan);
    let service = json!({"plans": plans, "plan_updateable": true, "bindings_retrievable": true});
    let broker = database(json!({}), service);
    let front = front(port(), broker.address, "id_prefix = \"pg.\"\n").run();
    let ids = |plan: &str| {
        json!({"service_id": "pg.pg-id", "plan_id": format!("pg.{plan}-id"), "organization_guid": "o",
        "space_guid": "s"})
    };
    until("the catalog is there", || call(&front, "PUT", INSTANCE, &ids("small")) == 201);
    let bind = |plan: &str, pipe: &str| {
        front
            .post(&format!("/direct/offers/postgresql-{plan}/bindings"), &json!({ "id": pipe }).to_string())
            .status
    };
    assert_eq!(bind("small", "first"), 202);
    assert_eq!(bound(&broker).1, "small-id");
    assert_eq!(call(&front, "PATCH", INSTANCE, &ids("large")), 200);
    assert_eq!(front.get("/direct/offers").json()[0]["name"], "postgresql-large");
    assert_eq!((bind("small", "second"), bind("large", "second")), (404, 202));
    assert_eq!(bound(&broker).1, "large-id");
    let second = bound(&broker);
    assert_eq!(front.post("/direct/pipes/first/rotate", "").status, 202);
    assert!(bound(&broker).0 != second.0 && bound(&broker).1 == "large-id", "a rotated binding too");

    let mut slowly = ids("huge");
    slowly["parameters"] = json!({"slowly": true});
    assert_eq!(call(&front, "PATCH", INSTANCE, &slowly), 202);
    assert_eq!(front.get("/direct/offers").json()[0]["name"], "postgresql-large", "it is not moved yet");
    broker.tell();
    assert_eq!(call(&front, "GET", &format!("{INSTANCE}/last_operation?operation=op-8"), &json!({})), 200);
    assert_eq!(front.get("/direct/offers").json()[0]["name"], "postgresql-huge");
    assert_eq!(front.call("DELETE", "/direct/pipes/second", &[], "").status, 204);
    assert!(
        said(&broker, "DELETE").iter().any(|said| said.contains("plan_id=huge-id")),
        "{:?}",
        said(&broker, "DELETE")
    );
}
