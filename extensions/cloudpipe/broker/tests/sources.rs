//! What sources are told, and what is left when they or we fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use standpipe_api::JobOutcome;

use super::super::source::Event;
use super::house::{Counter, House, SETTINGS, settings, with_source};

async fn house() -> (House, Arc<Counter>) {
    let source = Arc::new(Counter::default());
    source.makes(&json!({"URI": "postgresqls://one"}));
    let house = House::open(with_source(SETTINGS, &source), Arc::default()).await;
    (house, source)
}

#[tokio::test]
async fn a_source_is_told_of_bind_update_rotate_and_unbind() {
    let (house, source) = house().await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    house.expect(202, "PATCH /db/pipes/p", json!({"other": {"data": {"IP": "192.0.2.1"}}})).await;
    house.expect(202, "POST /db/pipes/p/rotate", Value::Null).await;
    house.expect(204, "DELETE /db/pipes/p", Value::Null).await;
    house.run_jobs().await;
    assert_eq!(source.told(), ["Bind p", "Update p", "Rotate p", "Unbind p"]);
    assert_eq!(house.keys().await, Vec::<String>::new());
    assert_eq!(house.memory.jobs().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_whose_names_clash_is_refused_before_it_keeps_others_from_the_app() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let sink = format!("[resource.web]\nsink = {{ kind = \"env-file\", path = {:?} }}\n", file.path());
    let house = House::open(settings(&format!("url = \"http://a\"\n{sink}")), Arc::default()).await;
    house.expect(201, "POST /web/pipes", json!({"id": "db", "other": {"data": {"URI": "secret"}}})).await;
    let clash = json!({"id": "c", "other": {"data": {"a-b": "1", "a_b": "2"}}});
    let told = house.expect(409, "POST /web/pipes", clash).await;
    assert!(told["detail"].as_str().unwrap().contains("PIPE_C_OTHER_A_B"), "{told}");
    house.expect(201, "POST /web/pipes", json!({"id": "d", "other": {"data": {"X": "y"}}})).await;
    house.expect(204, "DELETE /web/pipes/db", Value::Null).await;
    house.run_jobs().await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(text.contains("PIPE_D_OTHER_X") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_source_that_fails_on_bind_is_named_and_nothing_is_left() {
    let (house, source) = house().await;
    *source.fails.lock().unwrap() = Some(Event::Bind);
    let problem = house.expect(502, "POST /db/offers/postgres", json!({"id": "p"})).await;
    assert!(problem["detail"].as_str().unwrap().contains("resource of db"), "{problem}");
    house.expect(404, "GET /db/pipes/p", Value::Null).await;
    house.run_jobs().await;
    assert_eq!(source.told(), ["Bind p", "Unbind p"]);
    assert_eq!(house.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn data_that_breaks_the_schema_is_released_again() {
    let (house, source) = house().await;
    source.makes(&json!({"URI": "gopher://x"}));
    house.expect(400, "POST /db/offers/postgres", json!({"id": "p"})).await;
    house.run_jobs().await;
    assert_eq!(source.told(), ["Bind p", "Unbind p"]);
    assert_eq!(house.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_crash_while_a_source_is_asked_leaves_a_promise_to_release() {
    let (house, source) = house().await;
    source.hangs.store(1, Ordering::SeqCst);
    {
        let call = house.call("POST /db/pipes", json!({"id": "p"}));
        tokio::pin!(call);
        while source.told.lock().unwrap().is_empty() {
            assert!(futures_util::poll!(&mut call).is_pending());
        }
    }
    source.hangs.store(0, Ordering::SeqCst);
    assert_eq!(house.keys().await, ["unbind/db/p"]);
    assert_eq!(house.memory.jobs().len(), 1);
    // The same process or the next one: the name is free, and released before it is bound again.
    let next = House::open(with_source(SETTINGS, &source), house.memory).await;
    next.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    assert_eq!(source.told(), ["Bind p", "Unbind p", "Bind p"]);
    assert_eq!(next.keys().await, ["pipe/db/p"]);
    assert_eq!(next.memory.jobs().len(), 0);
}

#[tokio::test]
async fn releasing_never_hits_a_later_pipe_of_the_same_name() {
    let (house, source) = house().await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    house.expect(204, "DELETE /db/pipes/p", Value::Null).await;
    let late = house.memory.jobs();
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    assert_eq!(source.told(), ["Bind p", "Unbind p", "Bind p"]);
    for job in late {
        let job = standpipe_api::Job { id: job.id, payload: job.payload, attempts: 0 };
        let task = super::super::jobs::Task::read(&job).unwrap();
        assert!(matches!(house.run(&task, job).await, JobOutcome::Done));
    }
    assert_eq!(source.told(), Vec::<String>::new());
}

#[tokio::test]
async fn a_source_that_cannot_release_is_asked_again() {
    let (house, source) = house().await;
    house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    *source.fails.lock().unwrap() = Some(Event::Unbind);
    house.expect(204, "DELETE /db/pipes/p", Value::Null).await;
    let outcomes = house.run_jobs().await;
    assert!(matches!(outcomes[..], [JobOutcome::Again { .. }]), "{outcomes:?}");
    assert_eq!(house.keys().await, ["unbind/db/p"]);
}

#[tokio::test]
async fn a_source_that_fails_on_update_leaves_the_pipe_as_it_was() {
    let (house, source) = house().await;
    let before = house.expect(201, "POST /db/pipes", json!({"id": "p"})).await;
    *source.fails.lock().unwrap() = Some(Event::Update);
    house.expect(502, "PATCH /db/pipes/p", json!({"other": {"data": {"a": 1}}})).await;
    assert_eq!(house.expect(200, "GET /db/pipes/p", Value::Null).await, before);
}

#[tokio::test]
async fn a_declared_adapter_has_its_own_schema_and_source_at_its_end() {
    let text = SETTINGS.replace("\"auth:secret\"]", "\"conn:privateLink\"]")
        + r#"
        [adapter."conn:privateLink".offer]
        schema = { required = ["ENDPOINT"] }
        source = { kind = "table", data = { ENDPOINT = "vpce-1", URI = "postgresqls://private" } }
        "#;
    let house = House::open(settings(&text), Arc::default()).await;
    let body = json!({"id": "p", "adapters": ["conn:privateLink"]});
    let answer = house.expect(202, "POST /db/offers/postgres", body).await;
    let data = json!({"URI": "postgresqls://private", "ENDPOINT": "vpce-1"});
    assert_eq!(answer["this"]["data"], data, "an adapter's data stands over the resource's");
    let patch = json!({"this": {"data": {"ENDPOINT": null}}});
    let problem = house.expect(400, "PATCH /db/pipes/p", patch).await;
    assert_eq!(problem["path"], "this.data.ENDPOINT");
}
