//! From the first provision to the last deletion.

use serde_json::{Value, json};

use super::house::{House, SETTINGS, bind, provision};

const DELETE: &str = "?service_id=s&plan_id=sync";

#[tokio::test]
async fn an_instance_lives_at_once_where_its_plan_says_so() {
    let house = House::new().await;
    let line = "PUT /service_instances/i?accepts_incomplete=true";
    let made = house.expect(201, line, provision("sync")).await;
    assert_eq!(made, json!({"dashboard_url": "https://db.test/sync/i"}));
    assert_eq!(house.expect(200, line, provision("sync")).await, made, "the same again");
    let mut other = provision("sync");
    other["space_guid"] = "q".into();
    house.expect(409, line, other).await;
    let fetched = house.expect(200, "GET /service_instances/i", Value::Null).await;
    let expected = json!({"service_id": "s", "plan_id": "sync", "dashboard_url": "https://db.test/sync/i"});
    assert_eq!(fetched, expected);
    house.expect(200, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    house.expect(404, "GET /service_instances/i", Value::Null).await;
    house.expect(410, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    house.expect(201, line, provision("sync")).await;
}

#[tokio::test]
async fn a_binding_has_credentials_of_its_own() {
    let house = House::new().await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    let line = "PUT /service_instances/i/service_bindings/b";
    let made = house.expect(201, line, bind("sync")).await;
    let uri = made["credentials"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("db://b:") && uri.ends_with("@h/i") && uri.len() > 50, "{uri}");
    assert_eq!(house.expect(200, line, bind("sync")).await, made);
    assert_eq!(house.expect(200, "GET /service_instances/i/service_bindings/b", Value::Null).await, made);
    let second = house.expect(201, "PUT /service_instances/i/service_bindings/c", bind("sync")).await;
    assert_ne!(second["credentials"], made["credentials"]);
    house.expect(409, line, bind("async")).await;
    house.expect(200, &format!("DELETE /service_instances/i/service_bindings/b{DELETE}"), Value::Null).await;
    house.expect(404, "GET /service_instances/i/service_bindings/b", Value::Null).await;
    house.expect(410, &format!("DELETE /service_instances/i/service_bindings/b{DELETE}"), Value::Null).await;
}

#[tokio::test]
async fn bindings_end_with_their_instance() {
    let house = House::new().await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    house.expect(201, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    house.expect(200, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    house.expect(404, "GET /service_instances/i/service_bindings/b", Value::Null).await;
}

#[tokio::test]
async fn a_rotated_binding_takes_over_what_its_predecessor_was_made_with() {
    let text = SETTINGS
        .replace("plan_updateable = true\n[[", "plan_updateable = true\nbinding_rotatable = true\n[[");
    for (house, status) in [(House::with(&text).await, 201), (House::new().await, 400)] {
        house.expect(201, "PUT /service_instances/i", provision("sync")).await;
        let mut body = bind("sync");
        body["parameters"] = json!({"role": "r"});
        let old = house.expect(201, "PUT /service_instances/i/service_bindings/b", body).await;
        let line = "PUT /service_instances/i/service_bindings/c";
        let rotated = house.expect(status, line, json!({"predecessor_binding_id": "b"})).await;
        if status == 201 {
            assert_ne!(rotated["credentials"], old["credentials"]);
            let fetched = house.expect(200, "GET /service_instances/i/service_bindings/c", Value::Null).await;
            assert_eq!(fetched["parameters"], json!({"role": "r"}));
            let unbind = format!("DELETE /service_instances/i/service_bindings/b{DELETE}");
            house.expect(200, &unbind, Value::Null).await;
            house.expect(200, line, json!({"predecessor_binding_id": "b"})).await;
            house
                .expect(
                    400,
                    "PUT /service_instances/i/service_bindings/d",
                    json!({"predecessor_binding_id": "x"}),
                )
                .await;
        }
    }
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_leaves_the_rest() {
    let house = House::new().await;
    let mut body = provision("sync");
    body["parameters"] = json!({"disk": 1, "name": "n"});
    house.expect(201, "PUT /service_instances/i", body).await;
    let line = "PATCH /service_instances/i";
    house.expect(200, line, json!({"service_id": "s", "parameters": {"disk": 2}})).await;
    let fetched = house.expect(200, "GET /service_instances/i", Value::Null).await;
    assert_eq!(
        (&fetched["plan_id"], &fetched["parameters"]),
        (&json!("sync"), &json!({"disk": 2, "name": "n"}))
    );
    house.expect(200, line, json!({"service_id": "s", "plan_id": "only"})).await;
    let fetched = house.expect(200, "GET /service_instances/i", Value::Null).await;
    assert_eq!(fetched["plan_id"], "only");
    house.expect(400, line, json!({"service_id": "s", "plan_id": "sync"})).await;
    house.expect(400, line, json!({"service_id": "t"})).await;
    house.expect(404, "PATCH /service_instances/x", json!({"service_id": "s"})).await;
    let rows = house.rows(super::super::records::Side::Instances).await.len();
    house.expect(200, line, json!({"service_id": "s", "plan_id": "only"})).await;
    let after = house.rows(super::super::records::Side::Instances).await.len();
    assert_eq!(after, rows, "nothing to do is no operation");
}

#[tokio::test]
async fn what_is_not_retrievable_is_not_fetched() {
    let house = House::with(&SETTINGS.replace("instances_retrievable = true", "")).await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    house.expect(404, "GET /service_instances/i", Value::Null).await;
}
