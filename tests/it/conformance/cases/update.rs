//! An instance changes.

use serde_json::json;

use super::super::platform::{Ask, Login};
use super::steps::{Wrong, instance, provisioned, settled, succeeds, update_wanted};
use super::{Offer, Suite};

fn patch(id: &str, query: &str) -> Ask {
    Ask::new("PATCH", instance(id) + query)
}

const LATER: &str = "?accepts_incomplete=true";

pub fn cases(suite: &mut Suite) {
    invalid(suite);
    valid(suite);
    failing(suite);
}

fn invalid(suite: &mut Suite) {
    suite.each("OC update: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&patch(&id, LATER).body(&update_wanted(offer)).version(None)).says(412)
    });
    suite.each("OC update: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&patch(&id, LATER).body(&update_wanted(offer)).login(Login::Nobody)).says(401)
    });
    suite.each("OC update: 422 when it must be asynchronous and may not", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let now = talk.ask(&patch(&id, "?accepts_incomplete=false").body(&update_wanted(offer)));
        let later = talk.ask(&patch(&id, LATER).body(&update_wanted(offer)));
        if later.status == 202 { now.is_unprocessable("AsyncRequired") } else { now.is(&[200]) }
    });
    for (wrong, how) in Wrong::ALL {
        suite.each(&format!("OC update: 400 if service_id is {how}"), |talk, offer| {
            let id = provisioned(talk, offer)?;
            talk.ask(&patch(&id, LATER).body(&wrong.spoils(update_wanted(offer), "service_id"))).is(&[400])
        });
    }
    suite.each("spec: 400 if the plan does not exist", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&patch(&id, LATER).body(&Wrong::Invalid.spoils(update_wanted(offer), "plan_id"))).is(&[400])
    });
}

fn valid(suite: &mut Suite) {
    suite.each("OC update: 200 or 202, polled until it is done", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&patch(&id, LATER).body(&update_wanted(offer)));
        reply.is(&[200, 202])?;
        succeeds(talk, &reply, &instance(&id), offer)
    });
    suite.each("spec: an update that names no plan keeps it", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let mut body = Wrong::Missing.spoils(update_wanted(offer), "plan_id");
        body["parameters"] = json!({"serial": 12_345_678_901_234_567_890_u64, "ratio": 1.50});
        let reply = talk.ask(&patch(&id, LATER).body(&body));
        reply.is(&[200, 202])?;
        succeeds(talk, &reply, &instance(&id), offer)?;
        let found = talk.ask(&Ask::new("GET", instance(&id)));
        match offer.says("instances_retrievable") && found.text("plan_id") != offer.plan_id() {
            true => Err(format!("plan {:?}", found.text("plan_id"))),
            false => Ok(()),
        }
    });
    suite.each_where(
        "spec: an update to each other plan",
        |offer| offer.says("plan_updateable"),
        |talk, offer| {
            for plan in
                offer.service["plans"].as_array().into_iter().flatten().filter(|plan| **plan != offer.plan)
            {
                let id = provisioned(talk, offer)?;
                let mut body = update_wanted(offer);
                body["plan_id"] = plan["id"].clone();
                let reply = talk.ask(&patch(&id, LATER).body(&body));
                reply.is(&[200, 202])?;
                succeeds(talk, &reply, &instance(&id), offer)?;
                let changed = Offer { plan: plan.clone(), ..offer.clone() };
                talk.ask(&Ask::new(
                    "DELETE",
                    format!("{}{LATER}&{}", instance(&id), super::steps::ids(&changed)),
                ))
                .is(&[200, 202])?;
            }
            Ok(())
        },
    );
}

fn failing(suite: &mut Suite) {
    suite.each("spec: an update during another is 422 ConcurrencyError", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&patch(&id, LATER).body(&update_wanted(offer)));
        let second = talk.ask(&patch(&id, LATER).body(&update_wanted(offer)));
        if reply.status == 202 { second.is_unprocessable("ConcurrencyError") } else { second.is(&[200]) }
    });
    suite.each("spec: an update that fails leaves the instance as it was", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let mut body = update_wanted(offer);
        body["parameters"] = json!({"fail": true});
        let reply = talk.ask(&patch(&id, LATER).body(&body));
        settled(talk, &reply, &instance(&id), offer)?;
        let found = talk.ask(&Ask::new("GET", instance(&id)));
        if offer.says("instances_retrievable") { found.is(&[200]) } else { Ok(()) }
    });
    suite.each("spec: what does not exist cannot be updated", |talk, offer| {
        talk.ask(&patch(&talk.id("nobody"), LATER).body(&update_wanted(offer))).is_refused()
    });
}
