//! Hooks: what they are told, what they keep, what becomes of their failures.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use standpipe_api::{Answer, Outbound, Result};

use super::super::records::{Progress, Side};
use super::house::{House, SETTINGS, bind, provision};

const DELETE: &str = "?service_id=s&plan_id=sync";

/// The plan `sync` with one hook for everything: it writes down what it is told, each time a line, and prints what is in
/// the file of its event.
fn hooked(folder: &Path) -> String {
    let script = folder.join("hook.sh");
    let text = "cd \"$0\"; cat >> told; echo >> told; cat \"$STANDPIPE_EVENT\" 2>/dev/null; true";
    let hook = format!("{{ hook = {{ command = ['sh', '-c', '{text}', '{}'] }} }}", folder.display());
    std::fs::write(script, text).unwrap();
    SETTINGS.replace(
        "[[services.plans]]\nid = \"async\"",
        &format!(
            "instances = {{ create = {hook}, update = {hook}, delete = {hook} }}\nbindings = {{ create = {hook}, delete = {hook} }}\n[[services.plans]]\nid = \"async\""
        ),
    )
}

fn told(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("told")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn what_a_hook_keeps_comes_back_at_every_later_call() {
    let folder = tempfile::tempdir().unwrap();
    let says =
        |event: &str, answer: Value| std::fs::write(folder.path().join(event), answer.to_string()).unwrap();
    let house = House::with(&hooked(folder.path())).await;
    says("create-instance", json!({"state": {"port": 7}, "dashboard_url": "https://own"}));
    says("create-binding", json!({"state": {"user": "u"}, "credentials": {"password": "hunter2"}}));
    says("update-instance", json!({"state": {"port": 8}}));
    let mut body = provision("sync");
    body["parameters"] = json!({"disk": 1});
    let made = house.expect(201, "PUT /service_instances/i", body).await;
    assert_eq!(made, json!({"dashboard_url": "https://own"}));
    let bound = house.expect(201, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    assert_eq!(bound["credentials"], json!({"password": "hunter2"}));
    house
        .expect(200, "PATCH /service_instances/i", json!({"service_id": "s", "parameters": {"disk": 2}}))
        .await;
    house.expect(200, &format!("DELETE /service_instances/i/service_bindings/b{DELETE}"), Value::Null).await;
    house.expect(200, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    let told = told(folder.path());
    let events: Vec<&str> = told.iter().map(|told| told["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        ["create-instance", "create-binding", "update-instance", "delete-binding", "delete-instance"]
    );
    let state = |at: usize, of: &str| told[at][of]["state"].clone();
    assert_eq!(state(0, "instance"), Value::Null);
    assert_eq!((state(1, "instance"), state(1, "binding")), (json!({"port": 7}), Value::Null));
    assert_eq!(
        (state(2, "instance"), &told[2]["instance"]["parameters"]),
        (json!({"port": 7}), &json!({"disk": 2}))
    );
    assert_eq!(told[2]["previous"]["parameters"], json!({"disk": 1}));
    assert_eq!((state(3, "instance"), state(3, "binding")), (json!({"port": 8}), json!({"user": "u"})));
    assert_eq!(state(4, "instance"), json!({"port": 8}));
    assert_eq!((&told[0]["service"], &told[0]["plan"]), (&json!("db"), &json!("sync")));
}

#[tokio::test]
async fn a_failed_creation_is_told_and_can_be_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let text = hooked(folder.path())
        .replace("instances = { create = { hook", "instances = { create = { async = true, hook");
    let house = House::with(&text).await;
    let answer = json!({"error": "NoDisk", "description": "no disk is left", "instance_usable": false});
    std::fs::write(folder.path().join("create-instance"), answer.to_string()).unwrap();
    let refused = house.expect(500, "PUT /service_instances/i", provision("sync")).await;
    let expected = json!({"description": "no disk is left", "error": "NoDisk", "instance_usable": false});
    assert_eq!(refused, expected);
    assert_eq!(house.rows(Side::Instances).await[0].progress, Progress::Failed);
    house.expect(404, "GET /service_instances/i", Value::Null).await;
    house.expect(404, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    // A new attempt, which the platform polls.
    let operation =
        house.accepted("PUT /service_instances/i?accepts_incomplete=true", provision("sync")).await;
    house.run_jobs().await;
    let poll = house.poll("i", &operation).await;
    assert_eq!((poll.state(), &poll.body["description"]), ((200, "failed"), &json!("no disk is left")));
    assert_eq!(poll.body["instance_usable"], false);
    house.expect(200, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    assert_eq!(
        told(folder.path()).last().unwrap()["event"],
        "delete-instance",
        "what may be left over is deleted"
    );
    house.expect(410, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
}

#[tokio::test]
async fn a_request_that_the_hook_refuses_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(&hooked(folder.path())).await;
    let answer = json!({"error": "", "description": "no such size", "status": 400});
    std::fs::write(folder.path().join("create-instance"), answer.to_string()).unwrap();
    assert_eq!(
        house.expect(400, "PUT /service_instances/i", provision("sync")).await,
        json!({"description": "no such size"})
    );
    house.expect(410, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
}

#[tokio::test]
async fn a_failed_update_or_deletion_leaves_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(&hooked(folder.path())).await;
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    let before = house.expect(200, "GET /service_instances/i", Value::Null).await;
    let answer = json!({"error": "", "description": "not now", "update_repeatable": true});
    for event in ["update-instance", "delete-instance"] {
        std::fs::write(folder.path().join(event), answer.to_string()).unwrap();
    }
    let body = json!({"service_id": "s", "parameters": {"disk": 5}});
    let told = house.expect(500, "PATCH /service_instances/i", body.clone()).await;
    assert_eq!(told["update_repeatable"], true);
    house.expect(500, &format!("DELETE /service_instances/i{DELETE}"), Value::Null).await;
    assert_eq!(house.expect(200, "GET /service_instances/i", Value::Null).await, before);
    std::fs::remove_file(folder.path().join("update-instance")).unwrap();
    house.expect(200, "PATCH /service_instances/i", body).await;
}

#[tokio::test]
async fn after_a_restart_a_hook_is_asked_again_with_the_same_operation() {
    let folder = tempfile::tempdir().unwrap();
    let text = hooked(folder.path())
        .replace("instances = { create = { hook", "instances = { create = { async = true, hook");
    let house = House::with(&text).await;
    let operation =
        house.accepted("PUT /service_instances/i?accepts_incomplete=true", provision("sync")).await;
    // The hook is asked, and what came of it is never written down.
    let row = house.rows(Side::Instances).await.remove(0);
    let settings = house.broker.settings();
    let entry = house.broker.entry(&row.subject).await.unwrap().unwrap().content;
    let hook = settings.procedure(&row.service, &row.plan, Side::Instances, row.task).hook.clone().unwrap();
    let story = settings.story(&row, entry.held.as_ref().unwrap(), None, None);
    hook.ask(&story, &row, &*house.broker.engine().unwrap().outbound).await.unwrap();
    let next = House::over(&text, house.memory.clone()).await;
    next.run_jobs().await;
    assert_eq!(next.poll("i", &operation).await.state(), (200, "succeeded"));
    let told = told(folder.path());
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|told| told["operation_id"] == operation.as_str()), "{told:?}");
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn what_went_wrong_on_the_way_to_a_hook_is_not_for_the_platform() {
    for script in
        ["echo hunter2 >&2; exit 3", "echo hunter2", "echo '{\"credentails\": {\"p\": \"hunter2\"}}'"]
    {
        let hook = format!("create = {{ hook = {{ command = ['sh', '-c', '''{script}'''] }} }}");
        let house = House::with(&SETTINGS.replace("[instances]", &format!("[instances]\n{hook}"))).await;
        let told = house.expect(500, "PUT /service_instances/i", provision("sync")).await;
        assert_eq!(told, json!({"description": "the hook failed; the broker's log says why"}), "{script}");
    }
    let text = "[instances]\ncreate = { hook = { url = 'http://h/x' } }";
    let house = House::with(&SETTINGS.replace("[instances]", text)).await;
    house.expect(500, "PUT /service_instances/i", provision("sync")).await;
}

#[tokio::test]
async fn credentials_may_hold_what_the_instances_hook_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let text = hooked(folder.path()).replace("@h/{{instance_id}}", "@h:{{state.port}}/{{instance_id}}");
    let house = House::with(&text).await;
    std::fs::write(folder.path().join("create-instance"), r#"{"state": {"port": 7}}"#).unwrap();
    house.expect(201, "PUT /service_instances/i", provision("sync")).await;
    let made = house.expect(201, "PUT /service_instances/i/service_bindings/b", bind("sync")).await;
    assert!(made["credentials"]["uri"].as_str().unwrap().ends_with("@h:7/i"), "{made}");
}

/// A server that remembers what it is posted and answers always the same.
struct Posted {
    status: u16,
    answer: Value,
    requests: Mutex<Vec<Request<Bytes>>>,
}

#[async_trait]
impl Outbound for Posted {
    async fn fetch(&self, request: Request<Bytes>, _limit: Duration) -> Result<Answer> {
        self.requests.lock().unwrap().push(request);
        let body = Bytes::from(self.answer.to_string());
        Ok(Response::builder().status(self.status).body(body).unwrap())
    }

    async fn fetch_named(&self, request: Request<Bytes>, limit: Duration) -> Result<Answer> {
        self.fetch(request, limit).await
    }
}

#[tokio::test]
async fn a_server_is_posted_what_a_command_would_read() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t-1\n").unwrap();
    let hook = format!("create = {{ hook = {{ url = 'http://h/x', token = 'file:{}' }} }}", token.display());
    let text = SETTINGS.replace("[instances]", &format!("[instances]\n{hook}"));
    for (status, answer, expected) in [
        (
            200,
            json!({"dashboard_url": "https://own", "state": 5}),
            (201, json!({"dashboard_url": "https://own"})),
        ),
        (500, json!({"error": "E", "description": "no"}), (500, json!({"error": "E", "description": "no"}))),
        (409, json!({"description": "no"}), (500, json!({"description": "no"}))),
        (404, json!({}), (500, json!({"description": "the hook failed; the broker's log says why"}))),
    ] {
        let posted = Arc::new(Posted { status, answer, requests: Mutex::default() });
        let house = House::asking(&text, Arc::default(), posted.clone()).await;
        assert_eq!(house.expect(expected.0, "PUT /service_instances/i", provision("sync")).await, expected.1);
        let requests = posted.requests.lock().unwrap();
        let told: Value = serde_json::from_slice(requests[0].body()).unwrap();
        assert_eq!((&told["event"], &told["instance"]["id"]), (&json!("create-instance"), &json!("i")));
        assert_eq!(requests[0].headers()["authorization"], "Bearer t-1");
    }
}
