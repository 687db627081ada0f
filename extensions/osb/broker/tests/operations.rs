//! Asynchronous operations: begun once, polled, and settled whatever happens.

use serde_json::{Value, json};
use standpipe_api::State as _;

use super::super::records::{Progress, Side, Task};
use super::house::{House, SETTINGS, bind, provision};

const ASYNC: &str = "accepts_incomplete=true&service_id=s&plan_id=async";

#[tokio::test]
async fn the_row_is_there_before_the_work_and_the_poll_tells_its_end() {
    let house = House::new().await;
    let line = format!("PUT /service_instances/i?{ASYNC}");
    let told = house.ask(&line, provision("async")).await;
    assert_eq!(told.status, 202);
    assert_eq!(told.body["dashboard_url"], "https://db.test/async/i");
    let operation = told.body["operation"].as_str().unwrap();
    let rows = house.rows(Side::Instances).await;
    assert_eq!(
        (rows[0].task, rows[0].progress, rows[0].id.0.as_str()),
        (Task::Create, Progress::Running, operation)
    );
    let poll = house.poll("i", operation).await;
    assert_eq!((poll.state(), &poll.headers["retry-after"]), ((200, "in progress"), &"7".parse().unwrap()));
    assert_eq!(poll.body["description"], "Service instance creation is in progress.");
    assert_eq!(house.ask("GET /service_instances/i", Value::Null).await.status, 404);
    house.run_jobs().await;
    let poll = house.poll("i", operation).await;
    assert_eq!(poll.state(), (200, "succeeded"));
    assert!(!poll.headers.contains_key("retry-after"));
    assert_eq!(house.ask("GET /service_instances/i", Value::Null).await.status, 200);
}

#[tokio::test]
async fn the_same_request_again_starts_nothing() {
    let house = House::new().await;
    let line = format!("PUT /service_instances/i?{ASYNC}");
    let operation = house.accepted(&line, provision("async")).await;
    assert_eq!(house.accepted(&line, provision("async")).await, operation);
    assert_eq!(house.rows(Side::Instances).await.len(), 1);
    assert_eq!(house.ask(&line, provision("sync")).await.status, 409);
    let waiting = house.expect(201, "PUT /service_instances/i", provision("async")).await;
    assert_eq!(waiting["dashboard_url"], "https://db.test/async/i", "who does not poll waits for it");
    assert_eq!(house.rows(Side::Instances).await.len(), 1);
    assert_eq!(house.ask(&line, provision("async")).await.status, 200);
}

#[tokio::test]
async fn while_one_operation_is_in_progress_no_other_begins() {
    let house = House::new().await;
    house.expect(201, "PUT /service_instances/i", provision("async")).await;
    let patch = json!({"service_id": "s", "parameters": {"a": 1}});
    let line = format!("PATCH /service_instances/i?{ASYNC}");
    let operation = house.accepted(&line, patch.clone()).await;
    assert_eq!(house.accepted(&line, patch).await, operation, "the same update");
    for (line, body) in [
        (line, json!({"service_id": "s", "parameters": {"a": 2}})),
        (format!("DELETE /service_instances/i?{ASYNC}"), Value::Null),
        (format!("PUT /service_instances/i?{ASYNC}"), provision("async")),
        (format!("PUT /service_instances/i/service_bindings/b?{ASYNC}"), bind("async")),
        ("GET /service_instances/i".to_owned(), Value::Null),
    ] {
        let told = house.ask(&line, body).await;
        assert_eq!((told.status.as_u16(), &told.body["error"]), (422, &json!("ConcurrencyError")), "{line}");
    }
    house.run_jobs().await;
    let binding =
        house.accepted(&format!("PUT /service_instances/i/service_bindings/b?{ASYNC}"), bind("async")).await;
    let told = house.ask(&format!("DELETE /service_instances/i?{ASYNC}"), Value::Null).await;
    assert_eq!(told.status, 422, "a binding is in progress");
    house.run_jobs().await;
    assert_eq!(house.poll("i/service_bindings/b", &binding).await.state(), (200, "succeeded"));
}

#[tokio::test]
async fn a_deletion_that_succeeded_is_gone_or_says_so() {
    let said = format!("deleted_poll = \"succeeded\"\n{SETTINGS}");
    for (house, state) in [(House::new().await, (410, "")), (House::with(&said).await, (200, "succeeded"))] {
        house.expect(201, "PUT /service_instances/i", provision("async")).await;
        let line = format!("DELETE /service_instances/i?{ASYNC}");
        let operation = house.accepted(&line, Value::Null).await;
        assert_eq!(house.accepted(&line, Value::Null).await, operation);
        assert_eq!(house.poll("i", &operation).await.state(), (200, "in progress"));
        house.run_jobs().await;
        assert_eq!(house.poll("i", &operation).await.state(), state);
        let last = house.ask("GET /service_instances/i/last_operation", Value::Null).await;
        assert_eq!(last.state(), state, "without naming it");
        assert_eq!(house.ask(&line, Value::Null).await.status, 410);
        house.expect(404, "GET /service_instances/i", Value::Null).await;
    }
}

#[tokio::test]
async fn an_operation_is_polled_by_its_own_id() {
    let house = House::new().await;
    let one = house.accepted(&format!("PUT /service_instances/i?{ASYNC}"), provision("async")).await;
    house.run_jobs().await;
    let two = house.accepted(&format!("PUT /service_instances/j?{ASYNC}"), provision("async")).await;
    assert_eq!(house.poll("i", &one).await.state(), (200, "succeeded"));
    assert_eq!(house.poll("j", &two).await.state(), (200, "in progress"));
    for (of, operation) in
        [("i", "x"), ("i", two.as_str()), ("x", one.as_str()), ("i/service_bindings/b", one.as_str())]
    {
        assert_eq!(house.poll(of, operation).await.status, 404, "{of} {operation}");
    }
    assert_eq!(house.ask("GET /service_instances/x/last_operation", Value::Null).await.status, 404);
}

#[tokio::test]
async fn after_a_restart_what_is_in_progress_goes_on() {
    let house = House::new().await;
    let operation = house.accepted(&format!("PUT /service_instances/i?{ASYNC}"), provision("async")).await;
    let lost = house.memory.jobs().remove(0).id;
    house.memory.commit(vec![standpipe_api::Change::Cancel(lost)]).await.unwrap().unwrap();
    let next = House::over(SETTINGS, house.memory.clone()).await;
    assert_eq!(next.poll("i", &operation).await.state(), (200, "in progress"));
    next.run_jobs().await;
    assert_eq!(next.poll("i", &operation).await.state(), (200, "succeeded"));
    let again = House::over(SETTINGS, house.memory.clone()).await;
    assert_eq!(again.memory.jobs().len(), 0, "what has ended is left alone");
}

#[tokio::test]
async fn a_plan_that_is_not_offered_any_more_can_still_be_deleted() {
    let house = House::new().await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    let without = SETTINGS.replace("id = \"sync\"", "id = \"new\"");
    let next = House::over(&without, house.memory.clone()).await;
    next.expect(200, "DELETE /service_instances/i?service_id=s&plan_id=sync", Value::Null).await;
}

#[tokio::test]
async fn what_is_not_known_is_deleted_only_where_that_is_forced() {
    let text = SETTINGS
        .replace("[instances]", "[instances]\nforce_delete_unknown = true")
        .replace("[bindings]", "[bindings]\nforce_delete_unknown = true");
    let (house, forced) = (House::new().await, House::with(&text).await);
    for path in ["/service_instances/x", "/service_instances/x/service_bindings/b"] {
        let line = format!("DELETE {path}?service_id=s&plan_id=sync");
        house.expect(410, &line, Value::Null).await;
        assert_eq!(forced.expect(200, &line, Value::Null).await, json!({}));
        forced.expect(400, &format!("DELETE {path}"), Value::Null).await;
    }
    let only_instances = SETTINGS.replace("[instances]", "[instances]\nforce_delete_unknown = true");
    let house = House::with(&only_instances).await;
    house
        .expect(410, "DELETE /service_instances/x/service_bindings/b?service_id=s&plan_id=sync", Value::Null)
        .await;
    assert_eq!(house.rows(Side::Instances).await.len(), 0);
}
