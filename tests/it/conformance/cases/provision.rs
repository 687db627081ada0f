//! An instance comes into being.

use serde_json::json;

use super::super::platform::{Ask, Login};
use super::steps::{Wrong, ids, instance, succeeds, wanted};
use super::{Offer, Suite, Talk};

fn put(talk: &Talk<'_>, word: &str, query: &str) -> (String, Ask) {
    let path = instance(&talk.id(word));
    let ask = Ask::new("PUT", format!("{path}{query}"));
    (path, ask)
}

const LATER: &str = "?accepts_incomplete=true";

pub fn cases(suite: &mut Suite) {
    invalid(suite);
    valid(suite);
    repeated(suite);
}

fn invalid(suite: &mut Suite) {
    suite.once("OC provision: 412 without a version", |talk| {
        let ask = put(talk, "instance", LATER).1.body(&json!({})).version(None);
        talk.ask(&ask).says(412)
    });
    suite.each("OC provision: 401 without a login", |talk, offer| {
        let ask = put(talk, "instance", LATER).1.body(&wanted(offer)).login(Login::Nobody);
        talk.ask(&ask).says(401)
    });
    suite.each("OC provision: 422 when it must be asynchronous and may not", |talk, offer| {
        let first = talk.ask(&put(talk, "later", LATER).1.body(&wanted(offer)));
        let second = talk.ask(&put(talk, "now", "?accepts_incomplete=false").1.body(&wanted(offer)));
        if first.status == 202 { second.is_unprocessable("AsyncRequired") } else { second.is(&[201]) }
    });
    suite.each("OK sync PUT: 201 or 422 AsyncRequired", |talk, offer| {
        let reply = talk.ask(&put(talk, "instance", "").1.body(&wanted(offer)));
        if reply.status == 422 { reply.is_unprocessable("AsyncRequired") } else { reply.is(&[201]) }
    });
    for member in ["service_id", "plan_id"] {
        for (wrong, how) in Wrong::ALL {
            suite.each(
                &format!("OC, OK provision: PUT should reject if {member} is {how}"),
                |talk, offer| {
                    let ask = put(talk, "instance", LATER).1.body(&wrong.spoils(wanted(offer), member));
                    talk.ask(&ask).is(&[400])
                },
            );
        }
    }
    for member in ["organization_guid", "space_guid"] {
        suite.each(&format!("OC provision: 400 if {member} is missing"), |talk, offer| {
            let mut body = Wrong::Missing.spoils(wanted(offer), member);
            body["context"] = json!({});
            talk.ask(&put(talk, "instance", LATER).1.body(&body)).is(&[400])
        });
    }
    suite.each("OC provision: 400 if parameters do not follow the schema", |talk, offer| {
        let mut body = wanted(offer);
        body["parameters"] = json!({"fail": "perhaps"});
        let reply = talk.ask(&put(talk, "instance", LATER).1.body(&body));
        // Who publishes no schema may take anything.
        if offer.plan["schemas"].is_null() { Ok(()) } else { reply.is(&[400]) }
    });
}

fn valid(suite: &mut Suite) {
    suite.each("OC, OK provision: a valid one, polled until it is there", |talk, offer| {
        let (path, ask) = put(talk, "instance", LATER);
        let reply = talk.ask(&ask.body(&wanted(offer)));
        reply.is(&[201, 202])?;
        succeeds(talk, &reply, &path, offer)
    });
    let maintained = |offer: &Offer| offer.plan["maintenance_info"].is_object();
    suite.each_where("OK PUT should reject if maintenance_info doesn't match", maintained, |talk, offer| {
        let (path, ask) = put(talk, "instance", LATER);
        let mut body = wanted(offer);
        body["maintenance_info"] = json!({"version": "0.0.0-conflict"});
        talk.ask(&ask.body(&body)).is_unprocessable("MaintenanceInfoConflict")?;
        talk.ask(&Ask::new("DELETE", format!("{path}?accepts_incomplete=true&{}", ids(offer)))).is(&[410])
    });
    suite.each("spec: who asked and which request it was", |talk, offer| {
        let identity = "cloudfoundry eyJ1c2VyX2lkIjogIjY4M2VhNzQ4In0=";
        let ask = put(talk, "instance", LATER).1.body(&wanted(offer));
        let ask = ask.field("x-broker-api-originating-identity", identity);
        let reply =
            talk.ask(&ask.field("x-broker-api-request-identity", "e26cee84-6b38-4456-b34e-d1a9f002c956"));
        reply.is(&[201, 202])?;
        match reply.field("x-broker-api-request-identity") {
            Some("e26cee84-6b38-4456-b34e-d1a9f002c956") => Ok(()),
            other => Err(format!("request identity {other:?}")),
        }
    });
}

fn repeated(suite: &mut Suite) {
    suite.each("OC, OK provision: the same again is 200", |talk, offer| {
        let (path, ask) = put(talk, "instance", LATER);
        let ask = ask.body(&wanted(offer));
        let reply = talk.ask(&ask);
        reply.is(&[201, 202])?;
        // Which of the two it is while it is under way is the broker's to say; the answer must be the same.
        talk.ask(&ask).is(&[200, 202])?;
        succeeds(talk, &reply, &path, offer)?;
        talk.ask(&ask).is(&[200])
    });
    suite.each("OK provision: another one with the same id is 409", |talk, offer| {
        let ask = put(talk, "instance", LATER).1;
        talk.ask(&ask.clone().body(&wanted(offer))).is(&[201, 202])?;
        let mut body = wanted(offer);
        body["parameters"] = json!({"fail": false, "more": 1.10});
        talk.ask(&ask.clone().body(&body)).is(&[409])?;
        let (service, plan) = &offer.other;
        let mut body = wanted(offer);
        (body["service_id"], body["plan_id"]) = (json!(service), json!(plan));
        talk.ask(&ask.body(&body)).is(&[409])
    });
}
