//! The catalog as a platform reads it.

use serde_json::{Value, json};

use super::super::settings::BrokerSettings;
use super::house::House;

const RICH: &str = r#"
[[services]]
id = "s"
name = "db"
description = "d"
tags = ["sql"]
requires = ["syslog_drain"]
bindable = true
allow_context_updates = true
image = "icon.svg"
dashboard_client = { id = "c", secret = "file:secret", redirect_uri = "https://r" }
metadata = { displayName = "DB", documentationUrl = "https://docs", shareable = true }
[[services.plans]]
id = "p"
name = "small"
description = "e"
free = false
bindable = false
maximum_polling_duration = 60
maintenance_info = { version = "1.0.0", description = "m" }
metadata = { costs = [{ amount = { usd = 0.06 }, unit = "hour" }], bullets = ["b"] }
schemas.service_instance.create.parameters = "schema.json"
schemas.service_binding.create.parameters = { type = "object" }
"#;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("icon.svg", "<svg/>"),
        ("secret", "hunter2\n"),
        ("schema.json", r#"{"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"}"#),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[tokio::test]
async fn everything_declared_is_in_it_as_the_specification_names_it() {
    let folder = folder();
    let house = House::new().await;
    house
        .broker
        .replace_settings(BrokerSettings::read(&toml::from_str(RICH).unwrap(), folder.path()).unwrap());
    let told = house.expect(200, "GET /catalog", Value::Null).await;
    let expected = json!({"services": [{
        "id": "s", "name": "db", "description": "d", "tags": ["sql"], "requires": ["syslog_drain"], "bindable": true,
        "instances_retrievable": false, "bindings_retrievable": false, "allow_context_updates": true,
        "metadata": {"displayName": "DB", "documentationUrl": "https://docs", "shareable": true,
            "imageUrl": "data:image/svg+xml;base64,PHN2Zy8+"},
        "dashboard_client": {"id": "c", "secret": "hunter2", "redirect_uri": "https://r"},
        "plan_updateable": false, "binding_rotatable": false,
        "plans": [{
            "id": "p", "name": "small", "description": "e", "free": false, "bindable": false,
            "maximum_polling_duration": 60, "maintenance_info": {"version": "1.0.0", "description": "m"},
            "metadata": {"bullets": ["b"], "costs": [{"amount": {"usd": 0.06}, "unit": "hour"}]},
            "schemas": {
                "service_instance": {"create": {"parameters": {"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"}}},
                "service_binding": {"create": {"parameters": {"type": "object"}}}
            }
        }]
    }]});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn who_has_it_is_not_sent_it_again() {
    let house = House::new().await;
    let first = house.ask("GET /catalog", Value::Null).await;
    let etag = first.headers["etag"].to_str().unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    for (tag, status) in
        [(etag.clone(), 304), (format!("\"x\", {etag}"), 304), ("*".into(), 304), ("\"x\"".into(), 200)]
    {
        let headers = [("x-broker-api-version", "2.17"), ("if-none-match", tag.as_str())];
        let told = house.send("GET /catalog", Value::Null, &headers).await;
        assert_eq!((told.status.as_u16(), told.body.is_null()), (status, status == 304), "{tag}");
        assert_eq!(told.headers["etag"], etag.as_str());
    }
    let changed = super::house::SETTINGS.replace("description = \"d\"", "description = \"e\"");
    house.broker.replace_settings(super::house::settings(&changed));
    assert_ne!(house.ask("GET /catalog", Value::Null).await.headers["etag"], etag.as_str());
}
