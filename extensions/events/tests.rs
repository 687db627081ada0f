//! The face's promises, without sockets.

use std::future::poll_fn;
use std::pin::Pin;

use http::{Method, StatusCode};
use http_body::Body as _;
use serde_json::{Value, json};
use standpipe_api::testing::{FakeFederation, call};
use standpipe_api::{Change, NewEvent, State as _};

use super::*;

fn federation() -> FakeFederation {
    FakeFederation::new("cloudpipe", &["alpha"], |_, _| unreachable!())
}

async fn append(fed: &FakeFederation, name: &str) {
    let event = NewEvent::new("instance.created", &json!({ "name": name }));
    fed.memory().commit(vec![Change::Event(event)]).await.unwrap().unwrap();
}

async fn ask(
    events: &Events,
    fed: &FakeFederation,
    uri: &str,
    fields: &[(&'static str, &str)],
) -> Result<Response<Body>> {
    let mut request = Request::get(uri).body(Body::empty()).unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match events.take_over(&mut call(Method::GET, uri, &[]), &mut request, fed).await? {
        Flow::Respond(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

fn body(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body().as_bytes().unwrap()).unwrap()
}

fn names(page: &Value) -> Vec<&str> {
    page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["payload"]["name"].as_str().unwrap())
        .collect()
}

async fn part(response: &mut Response<Body>) -> Option<String> {
    let frame = poll_fn(|cx| Pin::new(response.body_mut()).poll_frame(cx)).await?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn a_page_begins_behind_a_revision_and_says_where_the_next_one_does() {
    let (events, fed) = (Events::default(), federation());
    for name in ["a", "b", "c"] {
        append(&fed, name).await;
    }
    let page = body(&ask(&events, &fed, "/events?after=0&limit=2", &[]).await.unwrap());
    assert_eq!(
        (names(&page), page["next"].as_u64(), page["oldest"].as_u64()),
        (vec!["a", "b"], Some(2), Some(1))
    );
    let now = body(&ask(&events, &fed, "/events", &[]).await.unwrap());
    assert_eq!((names(&now), now["next"].as_u64()), (vec![], Some(3)), "without `after`: from now on");
    let gone = ask(&events, &fed, "/events?after=4", &[]).await.unwrap();
    assert_eq!((gone.status(), body(&gone)["oldest"].as_u64()), (StatusCode::GONE, Some(1)));
    let error = ask(&events, &fed, "/events?after=x", &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_next_event_or_in_time_for_the_calls_deadline() {
    let (events, fed) = (Events::default(), federation());
    let (answer, ()) = futures_util::join!(ask(&events, &fed, "/events?wait=20s", &[]), append(&fed, "a"));
    assert_eq!(names(&body(&answer.unwrap())), ["a"]);
    // The test's call has 30 s.
    let begun = Instant::now();
    let answer = ask(&events, &fed, "/events?wait=60s", &[]).await.unwrap();
    assert_eq!(names(&body(&answer)), Vec::<&str>::new());
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_what_was_missed_and_what_comes_and_that_it_is_there() {
    let (events, fed) = (Events::default(), federation());
    for name in ["a", "b"] {
        append(&fed, name).await;
    }
    let fields = [("accept", "text/html, text/event-stream;q=0.9"), ("last-event-id", "1")];
    let mut stream = ask(&events, &fed, "/events?after=0", &fields).await.unwrap();
    assert_eq!(stream.headers()[CONTENT_TYPE], EVENT_STREAM);
    assert_eq!(part(&mut stream).await.unwrap(), "retry: 1000\n: standpipe\nid: 1\n\n");
    let missed = part(&mut stream).await.unwrap();
    assert!(missed.starts_with("id: 2\nevent: instance.created\ndata: {\"revision\":2,"), "{missed}");
    assert!(missed.ends_with("\"payload\":{\"name\":\"b\"}}\n\n"), "{missed}");
    let (next, ()) = futures_util::join!(part(&mut stream), append(&fed, "c"));
    assert!(next.unwrap().starts_with("id: 3\n"));
    assert_eq!(part(&mut stream).await.unwrap(), ": standpipe\nid: 3\n\n", "time has passed");
    let (end, _) = futures_util::join!(part(&mut stream), async { events.ending.send_replace(true) });
    assert_eq!(end, None, "standpipe drains");
    let gone =
        ask(&events, &fed, "/events", &[("accept", EVENT_STREAM), ("last-event-id", "9")]).await.unwrap();
    assert_eq!(gone.status(), StatusCode::GONE);
}

#[tokio::test(start_paused = true)]
async fn a_stream_does_not_last_for_ever() {
    let (events, fed) = (Events::default(), federation());
    let mut stream = ask(&events, &fed, "/events", &[("accept", EVENT_STREAM)]).await.unwrap();
    let begun = Instant::now();
    while part(&mut stream).await.is_some() {}
    assert_eq!(begun.elapsed().as_secs(), 15 * 60);
}

#[tokio::test]
async fn no_more_follow_than_may() {
    let (mut events, fed) = (Events::default(), federation());
    events.configure(&"followers = 1".parse().unwrap()).unwrap();
    let stream = ask(&events, &fed, "/events", &[("accept", EVENT_STREAM)]).await.unwrap();
    let refused = ask(&events, &fed, "/events?wait=1s", &[]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(
        ask(&events, &fed, "/events?after=0", &[]).await.is_ok(),
        "a page that does not wait needs no place"
    );
    drop(stream);
    assert!(ask(&events, &fed, "/events", &[("accept", EVENT_STREAM)]).await.is_ok());
}

#[test]
fn every_mistake_is_told() {
    let wrong: toml::Table = "followers = 0\nheartbeat = \"soon\"\nlongest_stream = \"1ms\"".parse().unwrap();
    let mut problems = Events::default().configure(&wrong).unwrap_err();
    problems.sort_by(|one, other| one.path.cmp(&other.path));
    assert_eq!(
        problems.iter().map(|problem| &*problem.path).collect::<Vec<_>>(),
        ["followers", "heartbeat", "longest_stream"]
    );
}
