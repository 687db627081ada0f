//! The admin listener's promises, asked as an operator asks: with requests.

use std::sync::atomic::Ordering;

use http::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http_body_util::BodyExt;
use serde_json::Value;
use standpipe_api::{Kind, Mapping, Origin, Resource, Timestamp};

use super::testing::*;
use super::*;

fn request(method: &str, target: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(target).body(body.into()).unwrap()
}

async fn ask(service: &AdminService, method: &str, target: &str, body: &str) -> (u16, String) {
    text(service.answer(request(method, target, body.to_owned()), &here()).await).await
}

async fn text(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn json(service: &AdminService, method: &str, target: &str, body: &str) -> (u16, Value) {
    let (status, text) = ask(service, method, target, body).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[tokio::test]
async fn ready_says_why_it_is_not() {
    let (table, engine) = (Arc::new(FakeTable::default()), Arc::new(FakeEngine::default()));
    let service = AdminService::new(Guard::Socket, engine.clone(), table.clone(), Metrics::new());
    assert_eq!(json(&service, "GET", "/ready", "").await.0, 200);
    engine.draining.store(true, Ordering::Relaxed);
    engine.failures.lock().unwrap().push("broker-core: no key".into());
    let (status, body) = json(&service, "GET", "/ready", "").await;
    assert_eq!((status, &body["ready"]), (503, &Value::Bool(false)));
    let reasons = body["reasons"].to_string();
    assert!(reasons.contains("draining") && reasons.contains("broker-core: no key"), "{reasons}");
    assert_eq!(json(&service, "GET", "/live", "").await.0, 200);
}

#[tokio::test]
async fn ready_is_false_while_the_store_fails() {
    let table = Arc::new(FakeTable::default());
    table.set_health(Health::Failing);
    let (status, body) = json(&service(&table), "GET", "/ready", "").await;
    assert_eq!(status, 503);
    let reason = body["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("store: ") && !reason.contains("disk"), "{reason}");
}

#[tokio::test]
async fn providers_are_shown_without_secrets() {
    let (status, text) = ask(&service(&Arc::default()), "GET", "/providers", "").await;
    assert_eq!(status, 200);
    assert!(!text.contains("hunter2"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["providers"][0]["url"], "https://alpha.test/apps/{resource}");
    assert_eq!(body["providers"][0]["breaker"], "half-open");
}

#[tokio::test]
async fn the_audit_is_paged_by_id_and_through_its_filters() {
    let engine = Arc::new(FakeEngine::default());
    let row = |id: i64| {
        let caller = if id % 2 == 0 { "basic:ann" } else { "basic:bob" };
        let event = serde_json::json!({
            "id": id, "at": "2026-01-01T00:00:00Z", "call": id.to_string(), "caller": caller,
            "method": "DELETE", "path": "/db", "status": 204,
        });
        serde_json::from_value(event).unwrap()
    };
    engine.audit.lock().unwrap().extend((1..=7).map(row));
    let service = AdminService::new(Guard::Socket, engine, Arc::new(FakeTable::default()), Metrics::new());
    let mut target = "/audit?limit=2&caller=basic:bob".to_owned();
    let mut seen = Vec::new();
    loop {
        let (status, body) = json(&service, "GET", &target, "").await;
        assert_eq!(status, 200, "{body}");
        seen.extend(body["events"].as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()));
        let Some(next) = body["next"].as_i64() else { break };
        target = format!("/audit?limit=2&caller=basic:bob&after={next}");
    }
    assert_eq!(seen, [1, 3, 5, 7]);
    assert_eq!(json(&service, "GET", "/audit?after=x", "").await.0, 400);
    assert_eq!(json(&service, "GET", "/audit?colour=red", "").await.0, 400);
    assert_eq!(json(&service, "DELETE", "/audit", "").await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn the_feed_is_paged_by_revision_and_waits_for_what_comes() {
    let engine = Arc::new(FakeEngine::default());
    engine.last_event.send_replace(3);
    let service =
        AdminService::new(Guard::Socket, engine.clone(), Arc::new(FakeTable::default()), Metrics::new());
    let (_, page) = json(&service, "GET", "/events?after=1&limit=1", "").await;
    assert_eq!((&page["events"][0]["revision"], &page["next"]), (&2.into(), &2.into()), "{page}");
    let (_, now) = json(&service, "GET", "/events", "").await;
    assert_eq!(
        (&now["events"], &now["next"], &now["oldest"]),
        (&serde_json::json!([]), &3.into(), &1.into())
    );
    let waiting = json(&service, "GET", "/events?wait=1m", "");
    let ((_, page), _) = futures_util::join!(waiting, async { engine.last_event.send_replace(4) });
    assert_eq!(page["events"][0]["revision"], 4, "{page}");
    let (status, page) = json(&service, "GET", "/events?wait=1m", "").await;
    assert_eq!((status, &page["events"]), (200, &serde_json::json!([])), "nothing came");
    let (status, gone) = json(&service, "GET", "/events?after=5", "").await;
    assert_eq!((status, &gone["last"]), (410, &4.into()));
    assert_eq!(json(&service, "DELETE", "/events", "").await.0, 405);
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let response = service(&Arc::default()).answer(request("GET", "/metrics", ""), &here()).await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(text(response).await.1.contains("# TYPE standpipe_requests_total counter"));
}

#[tokio::test]
async fn every_odd_id_can_be_written_read_and_forgotten_by_path() {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let table = Arc::new(FakeTable::default());
    let service = service(&table);
    for row in odd_rows() {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut target = format!(
            "/mappings/pipe/{}?scope={}",
            encode(row.resource.id.as_str()),
            encode(row.resource.scope.as_str())
        );
        if let Some(parent) = &row.resource.parent {
            target.push_str(&format!("&parent={}", encode(parent.as_str())));
        }
        assert_eq!(ask(&service, "PUT", &target, r#"{"provider":"beta"}"#).await.0, 204, "{target}");
        assert_eq!(table.rows()[0].resource, row.resource);
        let (status, body) = json(&service, "GET", &target, "").await;
        let read: Mapping = serde_json::from_value(body).unwrap();
        assert_eq!((status, read.resource, read.origin), (200, row.resource, Origin::Imported));
        assert_eq!(ask(&service, "DELETE", &target, "").await.0, 204);
        assert_eq!(ask(&service, "DELETE", &target, "").await.0, 404);
        assert_eq!(ask(&service, "GET", &target, "").await.0, 404);
    }
}

#[tokio::test]
async fn a_mapping_leads_only_where_credentials_may_go() {
    let service = service(&Arc::default());
    for (body, status) in [
        (r#"{"provider":"gamma"}"#, 400),
        (r#"{"provider":"alpha","endpoint":"http://evil.test/"}"#, 400),
        (r#"{"provider":"alpha","endpiont":"http://alpha.test/x"}"#, 400),
        (r#"{"provider":"alpha","endpoint":"http://alpha.test/x"}"#, 204),
    ] {
        assert_eq!(ask(&service, "PUT", "/mappings/pipe/p", body).await.0, status, "{body}");
    }
}

#[tokio::test]
async fn a_mapping_of_another_origin_is_not_replaced() {
    let table = FakeTable::with(pipes(1));
    let (status, body) =
        json(&service(&table), "PUT", "/mappings/pipe/p0000000?parent=db", r#"{"provider":"beta"}"#).await;
    assert_eq!(status, 409);
    assert!(body["detail"].as_str().unwrap().contains("learned"), "{body}");
    assert_eq!(table.rows()[0].provider.as_str(), "alpha");
}

#[tokio::test]
async fn pages_lead_from_one_to_the_next_and_end() {
    let table = FakeTable::with(pipes(5));
    let service = service(&table);
    let (mut target, mut ids) = ("/mappings?limit=2".to_owned(), Vec::new());
    loop {
        let (_, body) = json(&service, "GET", &target, "").await;
        ids.extend(
            body["mappings"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = body["next"].as_str() else { break };
        target = format!("/mappings?limit=2&after={next}");
    }
    assert_eq!(ids, ["p0000000", "p0000001", "p0000002", "p0000003", "p0000004"]);
    assert_eq!(json(&service, "GET", "/mappings?limit=5", "").await.1.get("next"), None);
}

#[tokio::test]
async fn filters_choose_by_provider_kind_and_parent() {
    let other = Mapping::learned(Resource::new(Kind::of("resource"), "db"), "beta".into(), Timestamp::now());
    let table = FakeTable::with(pipes(2).chain([other]));
    let service = service(&table);
    for (query, count) in [("provider=beta", 1), ("kind=pipe", 2), ("parent=db", 2), ("parent=x", 0)] {
        let (_, body) = json(&service, "GET", &format!("/mappings?{query}"), "").await;
        assert_eq!(body["mappings"].as_array().unwrap().len(), count, "{query}");
    }
}

async fn export(service: &AdminService) -> Response<Body> {
    let mut wanted = request("GET", "/mappings", "");
    wanted.headers_mut().insert(ACCEPT, "application/x-ndjson".parse().unwrap());
    service.answer(wanted, &here()).await
}

#[tokio::test]
async fn an_export_imports_as_the_same_rows_in_bounded_memory() {
    let table = FakeTable::with(odd_rows().into_iter().chain(pipes(3000)));
    let (_, lines) = text(export(&service(&table)).await).await;
    assert_eq!(lines.lines().count(), table.rows().len());
    let copy = Arc::new(FakeTable::default());
    let (status, report) = json(&service(&copy), "POST", "/mappings", &lines).await;
    assert_eq!((status, &report["written"], &report["refused"]), (200, &3009.into(), &0.into()));
    let keys = |table: &FakeTable| table.rows().into_iter().map(|row| row.resource).collect::<Vec<_>>();
    assert_eq!(keys(&copy), keys(&table));
    let ((page, _), (_, batch)) = (table.most_at_once(), copy.most_at_once());
    assert!(page <= operator::BATCH && batch <= operator::BATCH, "{page} {batch}");
}

#[tokio::test]
async fn an_export_that_fails_on_the_way_is_broken_and_not_short() {
    let table = FakeTable::with(pipes(2000));
    table.set_health(Health::FailingAfter(600));
    let response = export(&service(&table)).await;
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn an_import_names_the_lines_it_refused_and_writes_the_rest() {
    let table = FakeTable::with(pipes(1));
    let row = |id: &str, provider: &str| {
        let mapping = Mapping::learned(
            Resource::new(Kind::of("pipe"), id).within("db"),
            provider.into(),
            Timestamp::now(),
        );
        serde_json::to_string(&mapping).unwrap()
    };
    let lines =
        format!("{}\n\nnonsense\n{}\n{}", row("p0000000", "alpha"), row("q", "gamma"), row("good", "beta"));
    let (status, report) = json(&service(&table), "POST", "/mappings", &lines).await;
    assert_eq!(
        (status, &report["read"], &report["written"], &report["refused"]),
        (200, &4.into(), &1.into(), &3.into())
    );
    let numbers: Vec<_> =
        report["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 3, 4]);
}

#[tokio::test]
async fn an_import_into_a_failing_store_is_an_error_that_says_how_far_it_got() {
    let table = Arc::new(FakeTable::default());
    table.set_health(Health::Failing);
    let line = serde_json::to_string(&pipes(1).next().unwrap()).unwrap();
    let (status, body) = json(&service(&table), "POST", "/mappings", &line).await;
    assert_eq!(status, 503);
    assert!(body["advice"].as_str().unwrap().contains("0 mappings are written"), "{body}");
}

#[tokio::test]
async fn wrong_paths_methods_and_parameters_are_answered_with_problems() {
    let service = service(&Arc::default());
    for (method, target, status) in [
        ("GET", "/", 404),
        ("GET", "/mappings/pipe", 404),
        ("GET", "/mappings/pipe/a/b", 404),
        ("GET", "/mappings/pipe/%ff", 400),
        ("GET", "/mappings?provder=alpha", 400),
        ("GET", "/mappings?limit=0", 400),
        ("GET", "/mappings?after=x", 400),
        ("PUT", "/mappings/pipe/", 400),
    ] {
        let body = r#"{"provider":"alpha"}"#;
        let response = service.answer(request(method, target, body), &here()).await;
        assert_eq!(response.status(), status, "{method} {target}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }
    let response = service.answer(request("DELETE", "/mappings", ""), &here()).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()[ALLOW]),
        (405, &"GET, HEAD, POST".parse().unwrap())
    );
}

#[tokio::test]
async fn on_tcp_only_the_probes_are_open() {
    let guard = Guard::Token { token: "0123456789abcdef".into(), port: 9901 };
    let table = FakeTable::with(pipes(1));
    let service = AdminService::new(guard, Arc::new(FakeEngine::default()), table, Metrics::new());
    let with = |target: &str, authorization: Option<&str>| {
        let mut request = request("GET", target, "");
        request.headers_mut().insert(HOST, "127.0.0.1:9901".parse().unwrap());
        if let Some(value) = authorization {
            request.headers_mut().insert(AUTHORIZATION, value.parse().unwrap());
        }
        request
    };
    for open in ["/live", "/ready"] {
        assert_eq!(service.answer(with(open, None), &here()).await.status(), 200);
    }
    for closed in ["/metrics", "/providers", "/mappings", "/mappings/pipe/x", "/nothing"] {
        let response = service.answer(with(closed, None), &here()).await;
        assert_eq!(response.status(), 401, "{closed}");
        assert!(response.headers().contains_key(WWW_AUTHENTICATE));
        let opened = service.answer(with(closed, Some("Bearer 0123456789abcdef")), &here()).await;
        assert_ne!(opened.status(), 401);
    }
    let mut rebound = with("/live", None);
    rebound.headers_mut().insert(HOST, "evil.example:9901".parse().unwrap());
    assert_eq!(service.answer(rebound, &here()).await.status(), 403);
}
