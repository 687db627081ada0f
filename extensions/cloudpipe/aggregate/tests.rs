use std::time::Duration;

use serde_json::json;
use standpipe_api::testing::{FakeFederation, call, json_answer, provider};
use standpipe_api::{Settings, Timestamp};

use super::*;
use crate::cloudpipe::settings::ProviderSettings;

fn settled(name: &str, resources: &str) -> Provider {
    let table = format!("resources = {resources}").parse().unwrap();
    let settings = Settings::new(ProviderSettings::read(&table).unwrap());
    Provider { settings, ..provider(name, NAME) }
}

/// alpha has db and cache, beta has web; beta answers as the reference broker does.
fn federation(beta: Option<StatusCode>) -> FakeFederation {
    let script = move |target: &Target, query: &Query| {
        let offer = |name: &str| json!({"name": name, "protos": [{"id": "https"}], "maxPipes": 1.50, "_links": {"blueprint": {"href": "http://alpha.test/x"}}});
        match (target.provider.as_str(), query.uri().path()) {
            ("alpha", "/db/offers") => Ok(json_answer(StatusCode::OK, &json!([offer("sql"), offer("raw")]))),
            ("alpha", _) => Ok(json_answer(StatusCode::NOT_FOUND, &json!({}))),
            (_, _) => match beta {
                Some(status) if status.is_success() => {
                    Ok(json_answer(status, &json!({"page": {"id": "page"}})))
                }
                Some(status) => Ok(json_answer(status, &json!("no"))),
                None => Err(Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, "down")),
            },
        }
    };
    FakeFederation::new(NAME, &[], script)
        .with_providers(vec![settled("alpha", r#"["db", "cache"]"#), settled("beta", r#"["web"]"#)])
}

async fn list(
    aggregate: &Aggregate,
    federation: &FakeFederation,
    uri: &str,
) -> Result<(http::HeaderMap, Vec<Value>)> {
    let mut call = call(Method::GET, uri, &[]);
    // The clock of these tests may be stopped, and then moved.
    call.deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(60);
    let mut request = Request::default();
    let flow = tokio::select! {
        biased;
        flow = aggregate.take_over(&mut call, &mut request, federation) => flow?,
        never = federation.run_detached() => match never {},
    };
    let Flow::Respond(response) = flow else { panic!("not answered") };
    let items = serde_json::from_slice(response.body().as_bytes().unwrap()).unwrap();
    Ok((response.headers().clone(), items))
}

fn aggregate() -> Aggregate {
    Aggregate::new(Arc::default())
}

fn places(items: &[Value]) -> Vec<String> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    items
        .iter()
        .map(|item| {
            format!(
                "{}/{}/{}{}",
                text(item, "provider"),
                text(item, "resource"),
                text(item, "name"),
                text(item, "id")
            )
        })
        .collect()
}

#[tokio::test]
async fn all_lists_become_one_and_say_where_each_item_is_from() {
    let (headers, items) = list(&aggregate(), &federation(Some(StatusCode::OK)), "/offers").await.unwrap();
    assert_eq!(places(&items), ["alpha/db/raw", "alpha/db/sql", "beta/web/page"]);
    assert_eq!(items[1]["_links"]["self"]["href"], "http://standpipe.test/db/offers/sql");
    assert_eq!(items[1]["_links"]["bindings"]["href"], "http://standpipe.test/db/offers/sql/bindings");
    assert_eq!(items[1]["_links"]["blueprint"]["href"], "http://standpipe.test/x");
    assert_eq!(items[1]["maxPipes"].to_string(), "1.5");
    assert!(!headers.contains_key(PARTIAL));
    assert_eq!(
        (&headers[VARY], &headers[CACHE_CONTROL]),
        (&"authorization".parse().unwrap(), &"private".parse().unwrap())
    );
}

#[tokio::test]
async fn who_does_not_answer_is_named_and_strict_makes_it_an_error() {
    let (headers, items) = list(&aggregate(), &federation(None), "/offers").await.unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(headers[PARTIAL], "beta;reason=unreachable");
    let (headers, _) = list(&aggregate(), &federation(Some(StatusCode::FORBIDDEN)), "/offers").await.unwrap();
    assert_eq!(headers[PARTIAL], "beta;reason=denied");
    let error = list(&aggregate(), &federation(None), "/offers?strict=true").await.unwrap_err();
    assert_eq!((error.kind(), error.candidates()), (ErrorKind::CouldNotAsk, &["beta".into()][..]));
    let nobody = list(&aggregate(), &federation(None), "/offers?provider=beta").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::CouldNotAsk, "an empty list would say that there is nothing");
}

#[tokio::test(start_paused = true)]
async fn the_last_good_list_stands_in_and_is_marked() {
    let aggregate = aggregate();
    list(&aggregate, &federation(Some(StatusCode::OK)), "/offers").await.unwrap();
    let (headers, items) = list(&aggregate, &federation(None), "/offers").await.unwrap();
    assert_eq!((items.len(), headers.contains_key(PARTIAL)), (3, false), "fresh");
    tokio::time::advance(Duration::from_secs(60)).await;
    let down = federation(None);
    let (headers, items) = list(&aggregate, &down, "/offers").await.unwrap();
    assert_eq!((items.len(), headers.contains_key(PARTIAL)), (3, false), "aging");
    let refresh = tokio::time::timeout(Duration::from_secs(1), down.run_detached()).await;
    assert_eq!((refresh.is_err(), down.asked().len()), (true, 3), "and refreshed beside the call");
    tokio::time::advance(Duration::from_secs(600)).await;
    let (headers, items) = list(&aggregate, &federation(None), "/offers").await.unwrap();
    assert_eq!((items.len(), &headers[PARTIAL]), (3, &"beta;reason=unreachable;stale=661".parse().unwrap()));
}

#[tokio::test]
async fn learned_resources_join_and_shared_ids_are_reached_under_their_provider() {
    let federation = federation(Some(StatusCode::OK));
    let db = standpipe_api::Resource::new(RESOURCE, "db");
    federation.learn(standpipe_api::Mapping::learned(db, "beta".into(), Timestamp::now())).await.unwrap();
    let (_, items) = list(&aggregate(), &federation, "/offers?resource=db").await.unwrap();
    assert_eq!(places(&items), ["alpha/db/raw", "alpha/db/sql", "beta/db/page"]);
    assert_eq!(items[0]["_links"]["self"]["href"], "http://standpipe.test/providers/alpha/db/offers/raw");
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let (aggregate, federation) = (aggregate(), federation(Some(StatusCode::OK)));
    let (mut uri, mut seen) = ("/offers?limit=1".to_owned(), Vec::new());
    loop {
        let (headers, items) = list(&aggregate, &federation, &uri).await.unwrap();
        seen.extend(places(&items));
        let Some(link) = headers.get(LINK) else { break };
        let next = link.to_str().unwrap().strip_prefix("<http://standpipe.test").unwrap();
        uri = next.strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(seen, ["alpha/db/raw", "alpha/db/sql", "beta/web/page"]);
}

#[tokio::test]
async fn filters_narrow_and_nonsense_is_named() {
    let (aggregate, federation) = (aggregate(), federation(Some(StatusCode::OK)));
    let (_, items) = list(&aggregate, &federation, "/offers?proto=https&name=sql").await.unwrap();
    assert_eq!(places(&items), ["alpha/db/sql"]);
    for (uri, word) in
        [("/offers?limit=0", "limit"), ("/offers?colour=red", "colour"), ("/offers?marker=x", "marker")]
    {
        let error = list(&aggregate, &federation, uri).await.unwrap_err();
        assert!(error.kind() == ErrorKind::BadRequest && error.public().contains(word), "{error:?}");
    }
}

#[tokio::test]
async fn callers_that_want_the_same_list_cause_one_question() {
    let (aggregate, federation) = (aggregate(), federation(Some(StatusCode::OK)));
    let lists = (0..50).map(|_| list(&aggregate, &federation, "/offers"));
    for list in join_all(lists).await {
        assert_eq!(list.unwrap().1.len(), 3);
    }
    assert_eq!(federation.asked().len(), 3, "one per list");
}
