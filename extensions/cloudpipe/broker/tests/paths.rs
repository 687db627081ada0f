//! Paths, methods and the shape of refusals.

use http::StatusCode;
use serde_json::{Value, json};

use super::house::House;

#[tokio::test]
async fn blueprints_and_templates_are_seen_from_their_own_end() {
    let house = House::new().await;
    let offers = house.expect(200, "GET /db/offers", Value::Null).await;
    assert_eq!(house.expect(200, "GET /db/offers/postgres", Value::Null).await, offers[0]);
    assert_eq!(offers[0]["defaultAdapters"], json!(["auth:basic"]));
    assert!(offers[0]["protos"][0]["this"].is_object() && offers[0]["protos"][0]["other"].is_null());
    let need = house.expect(200, "GET /frontend/needs/database", Value::Null).await;
    assert!(need["protos"][0]["other"].is_object() && need["protos"][0]["this"].is_null());
    assert_eq!(need["maxPipes"], 1);
    let adapters = house.expect(200, "GET /db/offers/postgres/adapters", Value::Null).await;
    let basic = house.expect(200, "GET /db/offers/postgres/adapters/auth:basic", Value::Null).await;
    assert_eq!(adapters[0], basic);
    house.expect(200, "GET /db/offers/postgres/protos", Value::Null).await;
    house.expect(200, "GET /db/offers/postgres/protos/postgresqls", Value::Null).await;
    assert_eq!(house.expect(200, "GET /db/needs", Value::Null).await, json!([]));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_with_status_404() {
    let house = House::new().await;
    for path in [
        "/",
        "/db",
        "/db/",
        "/db/pipes/",
        "//pipes",
        "/nothing/pipes",
        "/nothing/pipes/p",
        "/db/pipes/p",
        "/db/offers/mysql",
        "/db/offers/mysql/bindings",
        "/db/offers/postgres/protos/https",
        "/db/offers/postgres/adapters/x",
        "/db/offers/postgres/x",
        "/db/pipes/a%2Fb",
        "/nothing/needs",
    ] {
        let (status, headers, problem) = house.call(&format!("GET {path}"), Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!((&problem["status"], &problem["type"]), (&json!(404), &json!("about:blank")));
    }
    house.expect(404, "POST /nothing/pipes", json!({"id": "p"})).await;
    house.expect(404, "DELETE /db/pipes/p", Value::Null).await;
    house.expect(404, "PATCH /db/pipes/p", json!({})).await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let house = House::new().await;
    for (line, allow) in [
        ("PUT /db/pipes/p", "GET, HEAD, POST, PATCH, DELETE"),
        ("DELETE /db/pipes", "GET, HEAD, POST"),
        ("PATCH /db/offers/postgres", "GET, HEAD, POST"),
        ("POST /db/offers", "GET, HEAD"),
        ("GET /db/rotate", "POST"),
    ] {
        let (status, headers, _) = house.call(line, Value::Null).await;
        assert_eq!((status.as_u16(), headers["allow"].to_str().unwrap()), (405, allow), "{line}");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_a_body() {
    let house = House::new().await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    for path in ["/db/pipes/p", "/db/pipes", "/db/offers/postgres"] {
        assert_eq!(house.expect(200, &format!("HEAD {path}"), Value::Null).await, Value::Null);
    }
    house.expect(404, "HEAD /db/pipes/q", Value::Null).await;
}

#[tokio::test]
async fn ids_may_hold_colons_and_whatever_else_is_printable() {
    let house = House::new().await;
    let (_, headers, pipe) = house.call("POST /arn:rds:db/pipes", json!({"id": "a:b ä%"})).await;
    assert_eq!(headers["location"], "/arn:rds:db/pipes/a:b%20%C3%A4%25");
    assert_eq!(pipe["this"]["uri"], "http://127.0.0.1:9001/arn:rds:db/pipes/a:b%20%C3%A4%25");
    for path in ["/arn:rds:db/pipes/a:b%20%C3%A4%25", "/arn%3Ards%3Adb/pipes/a%3Ab%20%C3%A4%25"] {
        assert_eq!(house.expect(200, &format!("GET {path}"), Value::Null).await, pipe);
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let house = House::new().await;
    for body in [Value::Null, json!([]), json!("x"), json!({"id": "a/b"}), json!({"id": ""})] {
        house.expect(400, "POST /db/pipes", body).await;
    }
}
