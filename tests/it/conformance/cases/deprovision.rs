//! An instance goes.

use super::super::platform::{Ask, Login};
use super::steps::{Wrong, asked, ended, ids, instance, poll, provisioned, vanishes, wanted};
use super::{Offer, Suite};

const LATER: &str = "accepts_incomplete=true";

fn delete(id: &str, offer: &Offer) -> Ask {
    Ask::new("DELETE", format!("{}?{LATER}&{}", instance(id), ids(offer)))
}

pub fn cases(suite: &mut Suite) {
    invalid(suite);
    suite.each("OC deprovision: polled with the word deprovision until it has succeeded", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&delete(&id, offer));
        reply.is(&[200, 202])?;
        let said =
            Ask::new("GET", format!("{}/last_operation?{}&operation=deprovision", instance(&id), ids(offer)));
        let last = asked(talk, &said)?;
        if reply.status == 202 { ended(&last, "succeeded") } else { Ok(()) }
    });
    suite.each(
        "OK DELETE provision: polled until it is gone, and 410 when it is deleted again",
        |talk, offer| {
            let id = provisioned(talk, offer)?;
            let reply = talk.ask(&delete(&id, offer));
            reply.is(&[200, 202])?;
            vanishes(talk, &reply, &instance(&id), offer)?;
            talk.ask(&delete(&id, offer)).is(&[410])?;
            talk.ask(&Ask::new("GET", instance(&id))).is_refused()?;
            talk.ask(&poll(&instance(&id), offer, &reply)).is(&[200, 404, 410])
        },
    );
    suite.each(
        "OK DELETE should return 410 when trying to delete a non existing service instance",
        |talk, offer| {
            let nobody = talk.id("nobody");
            talk.ask(&delete(&nobody, offer)).is(&[410])
        },
    );
    suite.each("OK sync DELETE provision request: 200, 410 or 422 AsyncRequired", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let sync = |id: &str| Ask::new("DELETE", format!("{}?{}", instance(id), ids(offer)));
        let reply = talk.ask(&sync(&id));
        talk.ask(&sync(&talk.id("nobody"))).is(&[200, 410, 422])?;
        if reply.status == 422 { reply.is_unprocessable("AsyncRequired") } else { reply.is(&[200]) }
    });
    suite.each("spec: an id can be used again", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let reply = talk.ask(&delete(&id, offer));
        vanishes(talk, &reply, &instance(&id), offer)?;
        let put = Ask::new("PUT", format!("{}?{LATER}", instance(&id))).body(&wanted(offer));
        talk.ask(&put).is(&[201, 202])
    });
}

fn invalid(suite: &mut Suite) {
    suite.each("OC deprovision: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&delete(&id, offer).version(None)).says(412)
    });
    suite.each("OC deprovision: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        talk.ask(&delete(&id, offer).login(Login::Nobody)).says(401)
    });
    suite.each("OC deprovision: 422 when it must be asynchronous and may not", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let path = format!("{}?accepts_incomplete=false&{}", instance(&id), ids(offer));
        let now = talk.ask(&Ask::new("DELETE", path));
        let later = talk.ask(&delete(&id, offer));
        if later.status == 202 { now.is_unprocessable("AsyncRequired") } else { now.is(&[200]) }
    });
    for member in ["service_id", "plan_id"] {
        for (wrong, how) in Wrong::ALL {
            let case = format!("OC, OK deprovision: DELETE should reject if {member} is {how}");
            suite.each(&case, |talk, offer| {
                let id = provisioned(talk, offer)?;
                let query = wrong.query(offer, member);
                talk.ask(&Ask::new("DELETE", format!("{}?{LATER}&{query}", instance(&id)))).is(&[400])
            });
        }
    }
}
