//! What a broker offers.

use serde_json::Value;

use super::super::platform::{Ask, Login};
use super::{Suite, Verdict};

pub fn cases(suite: &mut Suite) {
    let ask = Ask::new("GET", "/v2/catalog");
    suite
        .once("OC get catalog: 412 without a version", |talk| talk.ask(&ask.clone().version(None)).says(412));
    suite.once("OC get catalog: 401 without a login", |talk| {
        talk.ask(&ask.clone().login(Login::Nobody)).says(401)
    });
    suite.once("OC get catalog: 200", |talk| talk.ask(&ask).is(&[200]));
    suite.once("OK verify catalog schema", |talk| {
        let reply = talk.ask(&ask);
        reply.is(&[200])?;
        valid(&reply.json())
    });
    suite.once("spec: a platform that has the catalog already need not get it again", |talk| {
        let reply = talk.ask(&ask);
        let Some(etag) = reply.field("etag") else { return Ok(()) };
        let again = talk.ask(&ask.clone().field("if-none-match", etag));
        again.says(304)?;
        again.body.is_empty().then_some(()).ok_or_else(|| "304 with a body".to_owned())
    });
}

/// As OK's schema has it: what is required, of which type, and what else may not be there.
fn valid(catalog: &Value) -> Verdict {
    only(catalog, "the catalog", &["services"])?;
    for service in list(catalog, "services")? {
        named(service)?;
        service["bindable"]
            .is_boolean()
            .then_some(())
            .ok_or("a service that does not say whether it is bindable")?;
        let plans = list(service, "plans")?;
        (!plans.is_empty()).then_some(()).ok_or("a service without plans")?;
        plans.iter().try_for_each(plan)?;
    }
    Ok(())
}

fn plan(plan: &Value) -> Verdict {
    named(plan)?;
    let known = [
        "id",
        "name",
        "description",
        "metadata",
        "free",
        "bindable",
        "binding_rotatable",
        "plan_updateable",
        "schemas",
        "maximum_polling_duration",
        "maintenance_info",
    ];
    only(plan, "a plan", &known)?;
    if let Some(schemas) = plan.get("schemas") {
        only(schemas, "schemas", &["service_instance", "service_binding"])?;
    }
    match &plan["maintenance_info"]["version"] {
        Value::Null if plan.get("maintenance_info").is_some() => {
            Err("maintenance_info without a version".to_owned())
        }
        _ => Ok(()),
    }
}

fn named(entry: &Value) -> Verdict {
    let name = entry["name"].as_str().unwrap_or_default();
    let simple = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    if name.is_empty() || !name.bytes().all(simple) {
        return Err(format!("a name {name:?}"));
    }
    match ["id", "description"].iter().find(|word| entry[**word].as_str().is_none_or(str::is_empty)) {
        Some(word) => Err(format!("{name} without {word}")),
        None => Ok(()),
    }
}

fn list<'a>(of: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    of[name].as_array().ok_or_else(|| format!("no list of {name}"))
}

fn only(of: &Value, what: &str, known: &[&str]) -> Verdict {
    let members = of.as_object().ok_or_else(|| format!("{what} is no object"))?;
    match members.keys().find(|name| !known.contains(&&***name)) {
        Some(name) => Err(format!("{what} has {name:?}")),
        None => Ok(()),
    }
}
