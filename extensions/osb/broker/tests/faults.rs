//! Simulated steps and faults.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use standpipe_api::{Body, JobOutcome};

use super::house::{House, SETTINGS, provision};

fn simulating(simulate: &str) -> String {
    SETTINGS.replace(
        "create = { async = true, retry_after = \"7s\" }",
        &format!("create = {{ async = true, simulate = {{ {simulate} }} }}"),
    )
}

const LINE: &str = "PUT /service_instances/i?accepts_incomplete=true";

#[tokio::test]
async fn steps_take_their_time_one_after_the_other_and_survive_a_restart() {
    let text = simulating(
        "steps = [{ description = 'one', delay = '2s' }, { description = 'two' }, { delay = '3s' }]",
    );
    let house = House::with(&text).await;
    let operation = house.accepted(LINE, provision("async")).await;
    let outcome = house.run_jobs().await.remove(0);
    assert!(
        matches!(&outcome, JobOutcome::Again { delay, .. } if *delay == Duration::from_secs(2)),
        "{outcome:?}"
    );
    assert_eq!(house.poll("i", &operation).await.body["description"], "one");
    let next = House::over(&text, house.memory.clone()).await;
    let outcome = next.run_jobs().await.remove(0);
    assert!(
        matches!(&outcome, JobOutcome::Again { delay, .. } if *delay == Duration::from_secs(3)),
        "{outcome:?}"
    );
    let poll = next.poll("i", &operation).await;
    assert_eq!(poll.body["description"], "Service instance creation is in progress: step 3 of 3.");
    assert!(matches!(next.run_jobs().await.remove(0), JobOutcome::Done));
    assert_eq!(next.poll("i", &operation).await.state(), (200, "succeeded"));
}

#[tokio::test]
async fn a_step_fails_where_it_is_told_to() {
    let text = simulating(
        "steps = [{ delay = '1s' }, { delay = '1s' }, { delay = '1s' }], fail = 'no machine', fail_at = 2, fail_status = 507, fail_error = 'E', update_repeatable = false",
    );
    let house = House::with(&text).await;
    let operation = house.accepted(LINE, provision("async")).await;
    assert!(matches!(house.run_jobs().await.remove(0), JobOutcome::Again { .. }));
    assert!(matches!(house.run_jobs().await.remove(0), JobOutcome::Done));
    let poll = house.poll("i", &operation).await;
    let expected = json!({"state": "failed", "description": "no machine", "update_repeatable": false});
    assert_eq!(poll.body, expected);
    let told = house.expect(507, "PUT /service_instances/j", provision("async")).await;
    assert_eq!(told, json!({"description": "no machine", "error": "E", "update_repeatable": false}));
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_come_late_or_say_something_else_while_the_work_is_done() {
    let house = House::with(&simulating("answer_after = '90s', answer_status = 503")).await;
    let began = tokio::time::Instant::now();
    let told = house.ask(LINE, provision("async")).await;
    assert_eq!(told.status, 503);
    assert!(began.elapsed() >= Duration::from_secs(90));
    house.run_jobs().await;
    assert_eq!(house.ask("GET /service_instances/i", Value::Null).await.status, 200);
}

#[tokio::test]
async fn an_answer_may_break_off() {
    let house = House::with(&simulating("answer_dropped = true")).await;
    let body = Body::from(provision("async").to_string());
    let request = Request::put("/v2/service_instances/i?accepts_incomplete=true")
        .header("x-broker-api-version", "2.17");
    let answer = house.broker.answer(request.body(body).unwrap()).await;
    assert!(answer.into_body().collect().await.is_err());
    house.run_jobs().await;
    assert_eq!(house.ask("GET /service_instances/i", Value::Null).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_wait_for_ever() {
    let house = House::with(&simulating("steps = [{ delay = '1h' }]")).await;
    let told = house.ask("PUT /service_instances/i", provision("async")).await;
    assert_eq!(told.status, 504);
}
