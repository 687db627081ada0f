//! An instance is bound.

use serde_json::json;

use super::super::platform::{Ask, Login};
use super::steps::{Wrong, bind_wanted, binding, bound, provisioned, succeeds};
use super::{Offer, Suite, Talk};

const LATER: &str = "?accepts_incomplete=true";

fn put(talk: &Talk<'_>, id: &str, query: &str) -> Ask {
    Ask::new("PUT", binding(id, &talk.id("binding")) + query)
}

pub fn cases(suite: &mut Suite) {
    invalid(suite);
    repeated(suite);
    suite.each("OC, OK bind: a valid one, polled until it is there", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&put(talk, &id, LATER).body(&bind_wanted(offer)));
        reply.is(&[201, 202])?;
        let credentials = reply.json()["credentials"].is_object();
        if credentials != (reply.status == 201) {
            return Err(format!("{} with credentials: {credentials}", reply.status));
        }
        succeeds(talk, &reply, &binding(&id, &talk.id("binding")), offer)
    });
    suite.each("OK sync PUT binding: 201 or 422 AsyncRequired", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&put(talk, &id, "").body(&bind_wanted(offer)));
        if reply.status == 422 { reply.is_unprocessable("AsyncRequired") } else { reply.is(&[201]) }
    });
    suite.each("spec: parameters arrive with their numbers as they were written", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let mut body = bind_wanted(offer);
        body["parameters"] = serde_json::from_str(
            r#"{"z":1,"serial":123456789012345678901234567890,"ratio":1.10,"a":"\u00e4/&"}"#,
        )
        .unwrap_or_default();
        let reply = talk.ask(&put(talk, &id, LATER).body(&body));
        reply.is(&[201, 202])?;
        succeeds(talk, &reply, &binding(&id, &talk.id("binding")), offer)?;
        talk.ask(&Ask::new("GET", binding(&id, &talk.id("binding"))));
        Ok(())
    });
    suite.each("spec 2.17: a binding is rotated", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let before = bound(talk, offer, &id)?;
        let ask = Ask::new("PUT", binding(&id, &talk.id("next")) + LATER);
        let reply = talk.ask(&ask.body(&json!({"predecessor_binding_id": before})));
        // Who does not offer it may refuse it.
        let offered = [&offer.service, &offer.plan].iter().any(|it| it["binding_rotatable"] == true);
        reply.is(if offered { &[201, 202] } else { &[201, 202, 400, 422] })
    });
    suite.each("spec: an instance that does not exist cannot be bound", |talk, offer| {
        let nobody = talk.id("nobody");
        talk.ask(&put(talk, &nobody, LATER).body(&bind_wanted(offer))).is_refused()
    });
}

fn invalid(suite: &mut Suite) {
    suite.each("OC bind: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&put(talk, &id, LATER).body(&bind_wanted(offer)).version(None)).says(412)
    });
    suite.each("OC bind: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&put(talk, &id, LATER).body(&bind_wanted(offer)).login(Login::Nobody)).says(401)
    });
    suite.each("OC bind: 422 when it must be asynchronous and may not", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let now = talk.ask(&put(talk, &id, "?accepts_incomplete=false").body(&bind_wanted(offer)));
        let later = talk.ask(&put(talk, &id, LATER).body(&bind_wanted(offer)));
        if later.status == 202 { now.is_unprocessable("AsyncRequired") } else { now.is(&[201]) }
    });
    for member in ["service_id", "plan_id"] {
        for (wrong, how) in Wrong::ALL {
            suite.each(&format!("OC, OK bind: PUT should reject if {member} is {how}"), |talk, offer| {
                let id = provisioned(talk, offer)?;
                talk.ask(&put(talk, &id, LATER).body(&wrong.spoils(bind_wanted(offer), member))).is(&[400])
            });
        }
    }
}

fn repeated(suite: &mut Suite) {
    suite.each("OC, OK bind: the same again is 200", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let ask = Ask::new("PUT", binding(&id, &name) + LATER).body(&bind_wanted(offer));
        talk.ask(&ask).is(&[200])
    });
    suite.each("OK bind: another one with the same id is 409", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let mut body = bind_wanted(offer);
        body["bind_resource"] = json!({"app_guid": "another-app"});
        talk.ask(&Ask::new("PUT", binding(&id, &name) + LATER).body(&body)).is(&[409])
    });
    let has_other = |offer: &Offer| !offer.other.0.is_empty();
    suite.each_where(
        "OK PUT binding with different service or plan id on an existing binding. Expecting 409",
        has_other,
        |talk, offer| {
            let id = provisioned(talk, offer)?;
            let name = bound(talk, offer, &id)?;
            let (service, plan) = &offer.other;
            let mut body = bind_wanted(offer);
            (body["service_id"], body["plan_id"]) = (json!(service), json!(plan));
            talk.ask(&Ask::new("PUT", binding(&id, &name) + LATER).body(&body)).is(&[409])
        },
    );
}
