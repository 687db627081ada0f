//! The version that every request names, asked about what nobody has.

use serde_json::{Value, json};

use super::super::platform::Ask;
use super::Suite;

/// The seven routes of OK, with ids that lead nowhere.
pub fn routes() -> [(&'static str, Ask); 7] {
    let body = json!({"service_id": "Invalid", "plan_id": "Invalid"});
    let put = |path: &str| Ask::new("PUT", path).body(&body);
    let ids = "service_id=Invalid&plan_id=Invalid";
    let instance = "/v2/service_instances/notAnId";
    let binding = "/v2/service_instances/notAnId/service_bindings/notAnId";
    [
        ("GET catalog", Ask::new("GET", "/v2/catalog")),
        ("PUT instance", put(&format!("{instance}?accepts_incomplete=true"))),
        ("PATCH instance", Ask::new("PATCH", format!("{instance}?accepts_incomplete=true")).body(&body)),
        ("GET last operation", Ask::new("GET", format!("{instance}/last_operation?{ids}"))),
        ("DELETE instance", Ask::new("DELETE", format!("{instance}?accepts_incomplete=true&{ids}"))),
        ("PUT binding", put(binding)),
        ("DELETE binding", Ask::new("DELETE", format!("{binding}?{ids}"))),
    ]
}

pub fn cases(suite: &mut Suite) {
    for (route, ask) in routes() {
        suite.once(format!("OK {route} should reject requests without a version with 412"), |talk| {
            talk.ask(&ask.clone().version(None)).says(412)
        });
    }
    for (route, ask) in routes() {
        suite.once(format!("spec: {route} is refused in a version that does not exist"), |talk| {
            let reply = talk.ask(&ask.version(Some("1.0")));
            reply.says(412)?;
            matches!(reply.json(), Value::Object(_)).then_some(()).ok_or_else(|| "no object".to_owned())
        });
    }
}
