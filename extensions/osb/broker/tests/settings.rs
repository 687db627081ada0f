//! Mistakes in the settings, and what the engine sees.

use std::path::Path;

use http::Request;
use standpipe_api::testing::{FakeBackground, provider};
use standpipe_api::{Body, Extension as _, Job, JobOutcome};

use super::super::OsbBroker;
use super::super::settings::BrokerSettings;
use super::house::SETTINGS;

/// What is replaced, by what, and where the mistake is.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("[instances]", "x = 1\n[instances]", "x"),
    ("[instances]", "deleted_poll = \"no\"\n[instances]", "deleted_poll"),
    ("[instances]", "[instances]\nforce_delete_unknown = 1", "instances.force_delete_unknown"),
    ("[instances]", "[instances]\noperations = { cleanup_all = 'x' }", "instances.operations.cleanup_all"),
    ("[instances]", "[instances]\ncreate = { async = 'maybe' }", "instances.create.async"),
    ("[instances]", "[instances]\ncreate = { hook = {} }", "instances.create.hook"),
    ("[instances]", "[instances]\ncreate = { hook = { command = [] } }", "instances.create.hook.command"),
    ("[instances]", "[instances]\ncreate = { hook = { url = 'h' } }", "instances.create.hook.url"),
    (
        "[instances]",
        "[instances]\ncreate = { hook = { command = ['x'], timeout = '5m' } }",
        "instances.create.hook.timeout",
    ),
    (
        "[instances]",
        "[instances]\ncreate = { simulate = { fail_at = 1 } }",
        "instances.create.simulate.fail_at",
    ),
    ("[instances]", "[instances]\nupdates = {}", "instances.updates"),
    ("{{plan}}", "{{password}}", "instances.dashboard_url"),
    ("{{binding_id}}", "{{user}}", "bindings.credentials.uri"),
    ("id = \"t\"", "id = \"sync\"", "services[1].id"),
    ("name = \"queue\"", "name = \"db\"", "services[1].name"),
    ("name = \"queue\"", "name = \"a queue\"", "services[1].name"),
    ("name = \"queue\"", "name = \"queue\"\nrequires = ['x']", "services[1].requires[0]"),
    (
        "name = \"tp\"",
        "name = \"tp\"\nmetadata = { costs = [{ unit = 'h' }] }",
        "services[1].plans[0].metadata.costs[0]",
    ),
    (
        "name = \"tp\"",
        "name = \"tp\"\nschemas.service_instance.create.parameters = { type = 'x' }",
        "services[1].plans[0].schemas.service_instance.create.parameters",
    ),
    ("name = \"tp\"", "name = \"tp\"\nschemas = { service = {} }", "services[1].plans[0].schemas.service"),
    (
        "name = \"tp\"",
        "name = \"tp\"\nschemas.service_binding.create = { parameters = {}, x = 1 }",
        "services[1].plans[0].schemas.service_binding.create.x",
    ),
    (
        "name = \"tp\"",
        "name = \"tp\"\nbindings = { create = { async = true } }",
        "services[1].plans[0].bindings.create.async",
    ),
    ("name = \"queue\"", "name = \"queue\"\nimage = 'nowhere.png'", "services[1].image"),
    (
        "name = \"queue\"",
        "name = \"queue\"\ndashboard_client = { id = 'c', secret = 'hunter2' }",
        "services[1].dashboard_client.secret",
    ),
];

#[test]
fn every_mistake_is_told_with_its_path() {
    for (old, new, path) in MISTAKES {
        let text = SETTINGS.replacen(old, new, 1);
        let found = BrokerSettings::read(&toml::from_str(&text).unwrap(), Path::new("")).unwrap_err();
        let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert!(paths.contains(path), "{new}: {found:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }
    let found = BrokerSettings::read(&toml::Table::new(), Path::new("")).unwrap_err();
    assert_eq!(found[0].path, "services");
}

#[test]
fn a_mistake_of_a_service_hides_none_of_its_plans_and_none_of_its_names() {
    let text = r#"
        [[services]]
        id = "s"
        name = "db"
        description = "d"
        plans = [{ id = "p", name = "small" }]
        [[services]]
        id = "s"
        name = "db"
        bindable = "yes"
        plans = [{ id = "p", name = "small", description = "d" }, { id = 5, name = "small", fre = true }]
    "#;
    let found = BrokerSettings::read(&toml::from_str(text).unwrap(), Path::new("")).unwrap_err();
    let mut told: Vec<String> = found.iter().map(ToString::to_string).collect();
    told.sort();
    let begin = [
        "services[0].plans[0].description: is missing",
        "services[1].bindable: invalid type",
        "services[1].description: is missing",
        "services[1].id: `s` is there twice",
        "services[1].name: `db` is there twice",
        "services[1].plans[0].id: `p` is there twice",
        "services[1].plans[1].description: is missing",
        "services[1].plans[1].fre: unknown",
        "services[1].plans[1].id: invalid type",
        "services[1].plans[1].name: `small` is there twice",
    ];
    assert_eq!(told.len(), begin.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(begin) {
        assert!(told.starts_with(begin), "{told} is not {begin}");
    }
}

#[tokio::test]
async fn an_upstream_serves_once_started_and_a_wrong_reload_keeps_the_old_settings() {
    let extension = OsbBroker::default();
    let table: toml::Table = toml::from_str(SETTINGS).unwrap();
    let db = provider("db", "osb");
    let upstream = extension.upstream(&db, &table).unwrap();
    let ask = || {
        let request = Request::get("/v2/service_instances/i").header("x-broker-api-version", "2.17");
        upstream.serve(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask().await.status(), 503);
    let background = FakeBackground::new(Vec::new());
    let payload = bytes::Bytes::from_static(br#"{"provider":"db","side":"instances","operation":"o"}"#);
    let job = Job { id: standpipe_api::JobId("operation/db/instances/o".into()), payload, attempts: 0 };
    let early = extension.run_job(job.clone(), background.clone()).await;
    assert!(matches!(early, JobOutcome::Again { .. }), "{early:?}");
    upstream.start(background.clone()).await.unwrap();
    assert_eq!(ask().await.status(), 404);
    assert!(matches!(extension.run_job(job, background.clone()).await, JobOutcome::Done));
    assert_eq!(background.spawned_work().len(), 1, "the clean-up");
    let wrong: toml::Table = toml::from_str("services = 5").unwrap();
    assert_eq!(upstream.reload(&db, &wrong).unwrap_err()[0].path, "services");
    assert_eq!(ask().await.status(), 404);
}
