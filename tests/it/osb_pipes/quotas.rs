//! What pipes make counts as if it were made through `/v2`.

use serde_json::json;

use super::{bind, database, front, line, port, said};
use crate::support::{Answer, Standpipe, until};

const PROVISION: &str =
    r#"{"service_id":"pg-id","plan_id":"small-id","organization_guid":"o","space_guid":"s"}"#;

fn quota(kind: &str, most: u32) -> String {
    format!("[[quota]]\nkind = \"{kind}\"\nmost = {most}\n")
}

fn provision(front: &Standpipe) -> Answer {
    let headers = [("content-type", "application/json"), ("x-broker-api-version", "2.17")];
    front.call("PUT", "/v2/service_instances/direct", &headers, PROVISION)
}

#[test]
fn a_tenant_has_no_more_instances_through_pipes_than_through_the_broker_api() {
    let broker = database(json!({}), json!({}));
    let front = front(port(), broker.address, &quota("service_instance", 1)).run();
    let refused = bind(&front, json!({"id": "no", "parameters": {"refuse": 1}}));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202, "what the broker refused takes no room");
    let (sent, direct) = (broker.said().len(), provision(&front));
    let over = bind(&front, json!({"id": "more"}));
    assert_eq!((over.status, direct.status), (403, 403), "{} {}", over.body, direct.body);
    assert!(
        over.body.contains("1 resources of the kind service_instance, which is its quota"),
        "{}",
        over.body
    );
    assert_eq!(broker.said().len(), sent, "nothing leaves");
    assert_eq!(front.get("/pg/pipes/more").status, 404, "and nothing is written");
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202, "what is there takes no more room");
    assert_eq!(front.call("DELETE", "/pg/pipes/app", &[], "").status, 204);
    assert_eq!(bind(&front, json!({"id": "more"})).status, 202, "what is gone makes room");
}

#[test]
fn an_instance_is_not_made_for_a_binding_that_may_not_be() {
    let broker = database(json!({}), json!({}));
    let front = front(port(), broker.address, &quota("service_binding", 1)).run();
    assert_eq!(bind(&front, json!({"id": "app"})).status, 202);
    let instance = front.get("/pg/pipes/app").json()["instance_id"].as_str().unwrap().to_owned();
    assert_eq!(bind(&front, json!({"id": "more"})).status, 403);
    let second = front.post(&format!("/{instance}/offers/postgresql-small/bindings"), r#"{"id":"second"}"#);
    assert_eq!(second.status, 403, "{}", second.body);
    assert_eq!(front.post("/pg/pipes/app/rotate", "").status, 403, "a new binding beside the old one");
    assert_eq!(front.get("/pg/pipes/app").json()["state"], "ready");
    assert_eq!(said(&broker, "PUT").len(), 2);
    assert_eq!(front.call("DELETE", "/pg/pipes/app", &[], "").status, 204);
    until("there is room again", || bind(&front, json!({"id": "more"})).status == 202);
    assert!(said(&broker, "PUT").iter().all(|said| line(said).1.starts_with("/v2/service_instances/")));
}
