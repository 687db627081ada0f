//! Requests that are wrong, and change nothing.

use serde_json::{Value, json};

use super::super::records::Side;
use super::house::{House, SETTINGS, bind, provision};

#[tokio::test]
async fn the_version_must_be_2() {
    let house = House::new().await;
    for headers in [&[][..], &[("x-broker-api-version", "3.0")], &[("x-broker-api-version", "2")]] {
        let told = house.send("GET /catalog", Value::Null, headers).await;
        assert_eq!(told.status, 412, "{headers:?}");
        assert!(told.body["description"].is_string());
    }
    assert_eq!(
        house.send("GET /catalog", Value::Null, &[("x-broker-api-version", "2.13")]).await.status,
        200
    );
}

#[tokio::test]
async fn every_id_must_be_there_and_known() {
    let house = House::new().await;
    for field in ["service_id", "plan_id", "organization_guid", "space_guid"] {
        for value in [Value::Null, json!(""), json!("Invalid")] {
            let mut body = provision("sync");
            body[field] = value.clone();
            // Organisations and spaces are the platform's own.
            if field.ends_with("_guid") && value == "Invalid" {
                continue;
            }
            house.expect(400, "PUT /service_instances/i", body).await;
        }
    }
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    for query in ["", "?service_id=s", "?plan_id=sync", "?service_id=&plan_id=sync"] {
        house.expect(400, &format!("DELETE /service_instances/i{query}"), Value::Null).await;
        house
            .expect(400, &format!("DELETE /service_instances/i/service_bindings/b{query}"), Value::Null)
            .await;
    }
    for body in [json!({"service_id": "s"}), json!({"plan_id": "sync"}), bind("x"), json!([]), json!("x")] {
        house.expect(400, "PUT /service_instances/i/service_bindings/b", body).await;
    }
    house.expect(400, "DELETE /service_instances/i?service_id=t&plan_id=tp", Value::Null).await;
    house.expect(400, "PUT /service_instances/i/service_bindings/b", bind("async")).await;
    let rows = (house.rows(Side::Instances).await.len(), house.rows(Side::Bindings).await.len());
    assert_eq!(rows, (1, 0), "nothing was begun but the one provision");
}

#[tokio::test]
async fn parameters_must_satisfy_the_plans_schemas() {
    let house = House::new().await;
    let with = |mut body: Value, parameters: Value| {
        body["parameters"] = parameters;
        body
    };
    let line = "PUT /service_instances/i";
    let told = house.expect(400, line, with(provision("sync"), json!({"disk": "hunter2"}))).await;
    let text = told["description"].as_str().unwrap();
    assert!(text.contains("parameters.disk") && !text.contains("hunter2"), "{text}");
    house.expect(201, line, with(provision("sync"), json!({"disk": 1}))).await;
    let update = |parameters| with(json!({"service_id": "s"}), parameters);
    house.expect(400, "PATCH /service_instances/i", update(json!({"name": "n"}))).await;
    house.expect(200, "PATCH /service_instances/i", update(json!({"disk": 2}))).await;
    let line = "PUT /service_instances/i/service_bindings/b";
    house.expect(400, line, with(bind("sync"), json!({"role": "x"}))).await;
    house.expect(201, line, with(bind("sync"), json!({"role": "w"}))).await;
}

#[tokio::test]
async fn the_specifications_own_errors_have_their_codes() {
    let house =
        House::with(&SETTINGS.replace("name = \"sync\"", "name = \"sync\"\nrequires_app = true")).await;
    let mut body = provision("sync");
    body["maintenance_info"] = json!({"version": "9"});
    let told = house.expect(422, "PUT /service_instances/i", body).await;
    assert_eq!(told["error"], "MaintenanceInfoConflict");
    let told = house.expect(422, "PUT /service_instances/i", provision("only")).await;
    assert_eq!(told["error"], "AsyncRequired");
    let mut body = provision("sync");
    body["maintenance_info"] = json!({"version": "1.0.0", "description": "x"});
    house.expect(201, "PUT /service_instances/i", body.clone()).await;
    house.expect(200, "PUT /service_instances/i", body).await;
    let line = "PUT /service_instances/i/service_bindings/b";
    assert_eq!(house.expect(422, line, bind("sync")).await["error"], "RequiresApp");
    let mut with_app = bind("sync");
    with_app["bind_resource"] = json!({"app_guid": "a"});
    house.expect(201, line, with_app).await;
}

#[tokio::test]
async fn what_is_not_bindable_or_not_there_is_not_bound() {
    let house = House::new().await;
    house.expect(404, "PUT /service_instances/x/service_bindings/b", bind("sync")).await;
    let body = json!({"service_id": "t", "plan_id": "tp", "organization_guid": "o", "space_guid": "p"});
    house.expect(201, "PUT /service_instances/q", body).await;
    let body = json!({"service_id": "t", "plan_id": "tp"});
    house.expect(400, "PUT /service_instances/q/service_bindings/b", body).await;
}

#[tokio::test]
async fn a_wrong_method_or_path_is_told() {
    let house = House::new().await;
    let told = house.ask("POST /service_instances/i", json!({})).await;
    assert_eq!(
        (told.status.as_u16(), &told.headers["allow"]),
        (405, &"GET, HEAD, PUT, PATCH, DELETE".parse().unwrap())
    );
    for path in ["/service_instances", "/service_instances/", "/service_instances/i/other", "/catalog/"] {
        house.expect(404, &format!("GET {path}"), Value::Null).await;
    }
}

#[tokio::test]
async fn the_platforms_name_for_a_request_comes_back_on_every_answer() {
    let house = House::new().await;
    for (line, version) in [("GET /catalog", "2.17"), ("GET /catalog", "1.0"), ("GET /nothing", "2.17")] {
        let headers = [("x-broker-api-version", version), ("x-broker-api-request-identity", "r-1")];
        let told = house.send(line, Value::Null, &headers).await;
        assert_eq!(told.headers["x-broker-api-request-identity"], "r-1", "{line}");
    }
}
