//! Data made anew.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::source::Event;
use super::house::{Counter, House, SETTINGS, settings, with_source};

async fn data(house: &House) -> Value {
    house.expect(200, "GET /db/pipes/p", Value::Null).await["this"]["data"].clone()
}

#[tokio::test]
async fn changed_settings_reach_every_pipe_made_from_them() {
    let house = House::new().await;
    let body = json!({"id": "p", "this": {"data": {"X": "the caller's"}}});
    house.expect(201, "POST /db/pipes", body).await;
    house.expect(202, "POST /db/offers/postgres", json!({"id": "q"})).await;
    let changed = SETTINGS.replace("postgresqls://one", "postgresqls://two");
    house.broker.replace_settings(settings(&changed));
    house.broker.sweep().await;
    assert_eq!(data(&house).await, json!({"X": "the caller's", "URI": "postgresqls://two"}));
    let other = house.expect(200, "GET /db/pipes/q", Value::Null).await;
    assert_eq!(other["this"]["data"]["URI"], "postgresqls://two");
}

#[tokio::test]
async fn changed_settings_are_noticed_after_a_restart() {
    let first = House::new().await;
    first.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    let changed = SETTINGS.replace("URI = \"postgresqls://one\"", "URL = \"postgresqls://two\"");
    let second = House::open(settings(&changed), first.memory).await;
    second.broker.sweep().await;
    assert_eq!(data(&second).await, json!({"URL": "postgresqls://two"}), "what is no longer made is gone");
}

#[tokio::test]
async fn a_callers_value_stands_until_the_source_has_news() {
    let source = Arc::new(Counter::default());
    source.makes(&json!({"URI": "one"}));
    let house = House::open(with_source(SETTINGS, &source), Arc::default()).await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    house.expect(202, "PATCH /db/pipes/p", json!({"this": {"data": {"URI": "mine"}}})).await;
    assert_eq!(data(&house).await["URI"], "mine");
    source.makes(&json!({"URI": "two"}));
    house.expect(202, "PATCH /db/pipes/p", json!({"other": {"data": {"a": 1}}})).await;
    assert_eq!(data(&house).await["URI"], "two");
    house.expect(202, "PATCH /db/pipes/p", json!({"this": {"data": {"URI": null}}})).await;
    house.expect(202, "POST /db/pipes/p/rotate", Value::Null).await;
    assert_eq!(data(&house).await["URI"], "two");
}

#[tokio::test]
async fn rotating_a_resource_makes_all_of_it_anew_once() {
    let source = Arc::new(Counter::default());
    source.makes(&json!({"URI": "one"}));
    let house = House::open(with_source(SETTINGS, &source), Arc::default()).await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    house.broker.sweep().await;
    assert_eq!(source.told(), ["Bind p"], "nothing is out of date");
    source.makes(&json!({"URI": "two"}));
    tokio::join!(house.expect(202, "POST /db/rotate", Value::Null), async {
        house.broker.stale.notified().await;
        house.broker.sweep().await;
    });
    assert_eq!(data(&house).await["URI"], "two");
    assert_eq!(source.told(), ["Rotate p"]);
}

#[tokio::test]
async fn a_rotation_that_fails_or_breaks_a_schema_leaves_the_pipe_and_is_tried_again() {
    let source = Arc::new(Counter::default());
    source.makes(&json!({"URI": "postgresqls://one"}));
    let house = House::open(with_source(SETTINGS, &source), Arc::default()).await;
    house.expect(202, "POST /db/offers/postgres", json!({"id": "p"})).await;
    *source.fails.lock().unwrap() = Some(Event::Rotate);
    house.expect(502, "POST /db/pipes/p/rotate", Value::Null).await;
    *source.fails.lock().unwrap() = None;
    source.makes(&json!({"URI": "gopher://two"}));
    house.expect(502, "POST /db/pipes/p/rotate", Value::Null).await;
    assert_eq!(data(&house).await["URI"], "postgresqls://one");
    source.makes(&json!({"URI": "postgresqls://two"}));
    house.expect(202, "POST /db/pipes/p/rotate", Value::Null).await;
    assert_eq!(data(&house).await["URI"], "postgresqls://two");
}

#[tokio::test]
async fn a_timer_that_has_run_out_makes_data_anew() {
    let source = Arc::new(Counter::default());
    *source.every.lock().unwrap() = Some(Duration::from_secs(600));
    let house = House::open(with_source(SETTINGS, &source), Arc::default()).await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    assert_eq!(house.broker.sweep().await, Duration::from_secs(60));
    assert_eq!(source.told(), ["Bind p"]);
    *source.every.lock().unwrap() = Some(Duration::ZERO);
    assert_eq!(house.broker.sweep().await, Duration::from_secs(1));
    assert_eq!(source.told(), ["Rotate p"]);
}
