//! Many at once, and commits that lose.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use serde_json::{Value, json};
use standpipe_api::testing::MemoryState;

use super::super::core::TRIES;
use super::house::{Contended, House, SETTINGS, Shelf, settings, with_sink};

async fn contended(losses: usize, key: &'static str) -> House {
    let memory: Arc<MemoryState> = Arc::default();
    let state = Contended { memory: memory.clone(), losses: AtomicUsize::new(losses), key };
    House::over(settings(SETTINGS), memory, Arc::new(state)).await
}

#[tokio::test]
async fn of_many_bindings_to_a_need_for_one_pipe_exactly_one_wins() {
    let house = contended(0, "").await;
    let bind = |n: u32| {
        let house = &house;
        async move {
            let body = json!({"id": format!("p{n}")});
            house.call("POST /frontend/needs/database/bindings", body).await.0.as_u16()
        }
    };
    let mut answers = join_all((0..8).map(bind)).await;
    answers.sort_unstable();
    assert_eq!(answers, [202, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(house.keys().await.len(), 2, "one pipe and its slot");
}

#[tokio::test]
async fn of_many_pipes_with_one_id_exactly_one_wins() {
    let house = contended(0, "").await;
    let create = |_| async { house.call("POST /db/pipes", json!({"id": "p"})).await.0.as_u16() };
    let mut answers = join_all((0..8).map(create)).await;
    answers.sort_unstable();
    assert_eq!(answers, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn updates_of_different_keys_at_the_same_time_are_all_kept() {
    let house = contended(0, "").await;
    house.expect(201, "POST /frontend/pipes", json!({"id": "p"})).await;
    let update = |n: u32| {
        let house = &house;
        let body = json!({"other": {"data": {format!("K{n}"): n}}});
        async move { house.expect(202, "PATCH /frontend/pipes/p", body).await }
    };
    join_all((0..8).map(update)).await;
    let pipe = house.expect(200, "GET /frontend/pipes/p", Value::Null).await;
    assert_eq!(pipe["other"]["data"].as_object().unwrap().len(), 8);
}

#[tokio::test]
async fn a_commit_that_lost_is_tried_again_a_bounded_number_of_times() {
    let line = "POST /frontend/needs/database/bindings";
    let house = contended(3, "slots/frontend/needs/database/n/0").await;
    house.expect(202, line, json!({"id": "p"})).await;
    let house = contended(TRIES, "slots/frontend/needs/database/n/0").await;
    house.expect(503, line, json!({"id": "p"})).await;
    assert_eq!(house.keys().await, Vec::<String>::new());
    house.expect(202, line, json!({"id": "p"})).await;
}

#[tokio::test]
async fn an_answer_waits_for_the_sink_which_sees_every_pipe() {
    let sink = Arc::new(Shelf::default());
    let house = House::open(with_sink(&sink), Arc::default()).await;
    for id in ["b", "a"] {
        let (_, ()) = tokio::join!(house.expect(201, "POST /frontend/pipes", json!({"id": id})), async {
            while house.run_jobs().await.is_empty() {
                tokio::task::yield_now().await;
            }
        });
        assert!(sink.0.lock().unwrap().iter().any(|pipe| pipe["id"] == id));
    }
    let ids: Vec<Value> = sink.0.lock().unwrap().iter().map(|pipe| pipe["id"].clone()).collect();
    assert_eq!(ids, ["a", "b"]);
    let (_, ()) = tokio::join!(house.expect(204, "DELETE /frontend/pipes/a", Value::Null), async {
        while house.run_jobs().await.is_empty() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(sink.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_start_and_a_reload_configure_every_app_once() {
    let sink = Arc::new(Shelf::default());
    let house = House::open(with_sink(&sink), Arc::default()).await;
    house.broker.sweep().await;
    assert_eq!(house.run_jobs().await.len(), 1);
    house.broker.sweep().await;
    assert_eq!(house.run_jobs().await.len(), 0);
    house.broker.replace_settings(with_sink(&sink));
    house.broker.sweep().await;
    assert_eq!(house.run_jobs().await.len(), 1);
}
