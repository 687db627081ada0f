//! The flows of the protocol's own documents.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::core::PIPE_BYTES;
use super::house::{House, SETTINGS, settings};

#[tokio::test]
async fn the_manual_flow_hands_data_from_one_end_to_the_other() {
    let house = House::new().await;
    let (status, headers, pipe) = house.call("POST /db/pipes", json!({"id": "frontend"})).await;
    assert_eq!((status.as_u16(), headers["location"].to_str().unwrap()), (201, "/db/pipes/frontend"));
    assert_eq!(pipe["this"]["uri"], "http://127.0.0.1:9001/db/pipes/frontend");
    assert_eq!(pipe["this"]["issuer"], "http://standpipe.test");
    assert_eq!(pipe["_links"]["self"]["href"], pipe["this"]["uri"]);
    let data = &pipe["this"]["data"];
    assert_eq!(data["URI"], "postgresqls://one");
    let body = json!({"id": "db", "other": {"data": data, "uri": pipe["this"]["uri"], "Issuer": "i"}});
    let other = house.expect(201, "POST /frontend/pipes", body).await;
    assert_eq!((&other["other"]["data"], &other["other"]["issuer"]), (data, &json!("i")));
    house.expect(409, "POST /frontend/pipes", json!({"id": "db"})).await;
    assert_eq!(house.expect(200, "GET /frontend/pipes/db", Value::Null).await, other);
    assert_eq!(house.expect(200, "GET /frontend/pipes", Value::Null).await, json!([other]));
    house.expect(204, "DELETE /frontend/pipes/db", Value::Null).await;
    house.expect(404, "GET /frontend/pipes/db", Value::Null).await;
    house.expect(404, "DELETE /frontend/pipes/db", Value::Null).await;
    assert_eq!(house.expect(200, "GET /frontend/pipes", Value::Null).await, json!([]));
}

#[tokio::test]
async fn a_binding_gets_the_defaults_and_its_answer_reads_flat_and_nested() {
    let house = House::new().await;
    let line = "POST /db/offers/postgres/bindings";
    let (status, headers, answer) = house.call(line, json!({"id": "frontend"})).await;
    assert_eq!((status.as_u16(), headers["location"].to_str().unwrap()), (202, "/db/pipes/frontend"));
    let pipe = house.expect(200, "GET /db/pipes/frontend", Value::Null).await;
    assert_eq!(answer["pipe"], pipe);
    for field in ["id", "this", "other", "_links"] {
        assert_eq!(answer[field], pipe[field]);
    }
    assert_eq!((&answer["proto"], &answer["adapters"]), (&json!("postgresqls"), &json!(["auth:basic"])));
    let offer = "http://127.0.0.1:9001/db/offers/postgres";
    let links = &pipe["_links"];
    assert_eq!(links["blueprint"]["href"], offer);
    assert_eq!(links["adapters"][0]["href"], format!("{offer}/adapters/auth:basic"));
    assert_eq!(links["proto"]["href"], format!("{offer}/protos/postgresqls"));
    let bound = house.expect(200, "GET /db/offers/postgres/bindings", Value::Null).await;
    assert_eq!(bound, json!([pipe]));
}

#[tokio::test]
async fn a_binding_may_leave_the_name_to_the_broker_but_a_pipe_made_by_hand_may_not() {
    let house = House::new().await;
    let body = json!({"proto": "postgresqls", "adapters": ["auth:basic"]});
    let answer = house.expect(202, "POST /db/offers/postgres", body).await;
    let id = answer["id"].as_str().unwrap();
    house.expect(200, &format!("GET /db/pipes/{id}"), Value::Null).await;
    let problem = house.expect(400, "POST /db/pipes", json!({})).await;
    assert_eq!(problem["path"], "id");
}

#[tokio::test]
async fn what_a_blueprint_does_not_have_creates_nothing() {
    let house = House::new().await;
    for (body, path) in [
        (json!({"id": "p", "adapters": ["auth:basic", "auth:mtls"]}), "adapters[1]"),
        (json!({"id": "p", "proto": "https"}), "proto"),
        (json!({"id": "p", "other": {"data": {"USER": "u"}}}), "other.data.PASS"),
    ] {
        let problem = house.expect(400, "POST /db/offers/postgres/bindings", body).await;
        assert_eq!(problem["path"], path);
    }
    house.expect(404, "POST /db/offers/mysql/bindings", json!({"id": "p"})).await;
    assert_eq!(house.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn all_adapters_and_the_callers_schema_hold_together_for_both_ends() {
    let house = House::new().await;
    let basic = json!({"USER": "u", "PASS": "p"});
    let body = |data: &Value| {
        json!({"id": "p", "adapters": ["auth:basic", "auth:secret"], "other": {"data": data,
            "schema": {"properties": {"SECRET": {"minLength": 8}}}}})
    };
    let line = "POST /db/offers/postgres/bindings";
    let problem = house.expect(400, line, body(&basic)).await;
    assert_eq!(problem["path"], "other.data.SECRET");
    let short = json!({"USER": "u", "PASS": "p", "SECRET": "hunter2"});
    let problem = house.expect(400, line, body(&short)).await;
    assert_eq!(problem["path"], "other.data.SECRET");
    assert!(!problem.to_string().contains("hunter2"), "{problem}");
    let fits = json!({"USER": "u", "PASS": "p", "SECRET": "correct horse"});
    let answer = house.expect(202, line, body(&fits)).await;
    assert_eq!(answer["other"]["schema"]["allOf"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_update_that_breaks_a_schema_changes_nothing() {
    let house = House::new().await;
    house.expect(202, "POST /db/offers/postgres/bindings", json!({"id": "p"})).await;
    let before = house.expect(200, "GET /db/pipes/p", Value::Null).await;
    let bad = json!({"this": {"data": {"URI": "http://bad.data"}}, "other": {"uri": "u"}});
    for line in ["PATCH /db/pipes/p", "POST /db/pipes/p"] {
        let problem = house.expect(400, line, bad.clone()).await;
        assert_eq!(problem["path"], "this.data.URI");
    }
    assert_eq!(house.expect(200, "GET /db/pipes/p", Value::Null).await, before);
    let good =
        json!({"this": {"uri": "stolen", "data": {"URI": "postgres://two", "X": 1}}, "other": {"uri": "u"}});
    assert_eq!(house.expect(202, "PATCH /db/pipes/p", good).await, Value::Null);
    let after = house.expect(200, "GET /db/pipes/p", Value::Null).await;
    assert_eq!(after["this"]["uri"], before["this"]["uri"]);
    assert_eq!(after["this"]["data"], json!({"URI": "postgres://two", "X": 1}));
    assert_eq!(after["other"]["uri"], "u");
}

#[tokio::test]
async fn the_brokers_own_data_wins_over_what_the_caller_creates_a_pipe_with() {
    let house = House::new().await;
    let body = json!({"id": "p", "this": {"uri": "u", "issuer": "i", "data": {"URI": "mine", "X": "y"}}});
    let pipe = house.expect(201, "POST /db/pipes", body).await;
    assert_eq!(pipe["this"]["data"], json!({"URI": "postgresqls://one", "X": "y"}));
    assert_eq!(pipe["this"]["issuer"], "http://standpipe.test");
}

#[tokio::test]
async fn a_full_need_is_a_conflict_until_its_pipe_goes() {
    let house = House::new().await;
    let line = "POST /frontend/needs/database/bindings";
    house.expect(202, line, json!({"id": "one"})).await;
    house.expect(409, line, json!({"id": "two"})).await;
    house.expect(404, "GET /frontend/pipes/two", Value::Null).await;
    house.expect(204, "DELETE /frontend/pipes/one", Value::Null).await;
    house.expect(202, line, json!({"id": "two"})).await;
}

#[tokio::test]
async fn bodies_and_pipes_are_bounded() {
    let house = House::new().await;
    let large = json!({"id": "p", "this": {"data": {"X": "x".repeat(PIPE_BYTES)}}});
    house.expect(413, "POST /frontend/pipes", large).await;
    let half = "x".repeat(PIPE_BYTES * 2 / 3);
    house.expect(201, "POST /frontend/pipes", json!({"id": "p", "this": {"data": {"X": half}}})).await;
    house.expect(400, "PATCH /frontend/pipes/p", json!({"this": {"data": {"Y": half}}})).await;
}

#[tokio::test]
async fn pipes_outlive_the_broker() {
    let first = House::new().await;
    first.expect(202, "POST /frontend/needs/database/bindings", json!({"id": "p"})).await;
    let pipe = first.expect(200, "GET /frontend/pipes/p", Value::Null).await;
    let second = House::open(super::house::settings(super::house::SETTINGS), first.memory).await;
    assert_eq!(second.expect(200, "GET /frontend/pipes/p", Value::Null).await, pipe);
    second.expect(409, "POST /frontend/needs/database/bindings", json!({"id": "q"})).await;
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_whole() {
    let house = House::new().await;
    for n in 0..250 {
        house.expect(202, "POST /db/offers/postgres", json!({"id": format!("p{n:03}")})).await;
    }
    for line in ["GET /db/pipes", "GET /db/offers/postgres/bindings"] {
        let list = house.expect(200, line, Value::Null).await;
        let ids: Vec<&str> =
            list.as_array().unwrap().iter().map(|pipe| pipe["id"].as_str().unwrap()).collect();
        assert_eq!((ids.len(), ids[0], ids[249]), (250, "p000", "p249"), "{line}");
    }
}

/// The order of the blueprint diagram: the consumer is bound before anybody can tell it of the provider's end.
#[tokio::test]
async fn an_identity_for_an_end_that_is_not_known_yet_is_pending() {
    let source = "[adapter.\"auth:oidc\".need]\nsource = { kind = \"oidc\", subject = \"app\" }\n";
    let text = SETTINGS.replace("[resource.frontend]\n", "[resource.frontend]\ndata = { NAME = \"shop\" }\n");
    let house = House::open(settings(&format!("{text}{source}")), Arc::default()).await;
    let binding = json!({"id": "db", "adapters": ["auth:oidc"]});
    let answer = house.expect(202, "POST /frontend/needs/database", binding).await;
    assert_eq!(answer["this"]["data"], json!({"NAME": "shop"}));
    house.expect(202, "POST /frontend/pipes/db/rotate", Value::Null).await;
    let data =
        async || house.expect(200, "GET /frontend/pipes/db", Value::Null).await["this"]["data"].clone();
    let told =
        async |other: Value| house.expect(202, "PATCH /frontend/pipes/db", json!({"other": other})).await;
    told(json!({"issuer": "https://i"})).await;
    assert_eq!(data().await, json!({"NAME": "shop"}));
    told(json!({"uri": "https://o/pipes/1"})).await;
    let known =
        json!({"NAME": "shop", "AUD": "https://o/pipes/1", "ISS": "http://standpipe.test", "SUB": "app"});
    assert_eq!(data().await, known);
    let wrong = json!({"this": {"data": {"SUB": 5}}});
    assert_eq!(house.expect(400, "PATCH /frontend/pipes/db", wrong).await["path"], "this.data.SUB");
    told(json!({"uri": null})).await;
    assert_eq!(data().await, json!({"NAME": "shop"}));
}
