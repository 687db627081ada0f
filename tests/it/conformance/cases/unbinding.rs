//! A binding goes.

use super::super::platform::{Ask, Login};
use super::steps::{Wrong, binding, bound, ended, ids, provisioned, settled, vanishes};
use super::{Offer, Suite};

const LATER: &str = "accepts_incomplete=true";

fn delete(id: &str, name: &str, offer: &Offer) -> Ask {
    Ask::new("DELETE", format!("{}?{LATER}&{}", binding(id, name), ids(offer)))
}

pub fn cases(suite: &mut Suite) {
    invalid(suite);
    valid(suite);
}

fn invalid(suite: &mut Suite) {
    suite.each("OC unbind: 412 without a version", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        talk.ask(&delete(&id, &name, offer).version(None)).says(412)
    });
    suite.each("OC unbind: 401 without a login", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        talk.ask(&delete(&id, &name, offer).login(Login::Nobody)).says(401)
    });
    suite.each("OC unbind: 422 when it must be asynchronous and may not", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let now = talk.ask(&Ask::new("DELETE", format!("{}?{}", binding(&id, &name), ids(offer))));
        let later = talk.ask(&delete(&id, &name, offer));
        if later.status == 202 { now.is_unprocessable("AsyncRequired") } else { now.is(&[200]) }
    });
    for member in ["service_id", "plan_id"] {
        for (wrong, how) in Wrong::ALL {
            suite.each(&format!("OC unbind: 400 if {member} is {how}"), |talk, offer| {
                let id = provisioned(talk, offer)?;
                let name = bound(talk, offer, &id)?;
                let query = wrong.query(offer, member);
                talk.ask(&Ask::new("DELETE", format!("{}?{LATER}&{query}", binding(&id, &name)))).is(&[400])
            });
            suite.each(
                &format!("OK DELETE should reject if {member} is {how}, without a binding"),
                |talk, offer| {
                    let id = provisioned(talk, offer)?;
                    let query = wrong.query(offer, member);
                    let path = binding(&id, &talk.id("nobody"));
                    talk.ask(&Ask::new("DELETE", format!("{path}?{LATER}&{query}"))).is(&[400, 410])
                },
            );
        }
    }
}

fn valid(suite: &mut Suite) {
    suite.each("OC unbind: 200 or 202, polled until it has succeeded", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let reply = talk.ask(&delete(&id, &name, offer));
        reply.is(&[200, 202])?;
        let said = settled(talk, &reply, &binding(&id, &name), offer)?;
        said.map_or(Ok(()), |said| ended(&said, "succeeded"))
    });
    suite.each("OK DELETE binding: 200 or 202, polled until it is gone", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let reply = talk.ask(&delete(&id, &name, offer));
        reply.is(&[200, 202])?;
        vanishes(talk, &reply, &binding(&id, &name), offer)?;
        talk.ask(&delete(&id, &name, offer)).is(&[410])?;
        talk.ask(&Ask::new("GET", binding(&id, &name))).is_refused()
    });
    suite.each("OK sync DELETE binding: 200 or 422 AsyncRequired", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let name = bound(talk, offer, &id)?;
        let reply = talk.ask(&Ask::new("DELETE", format!("{}?{}", binding(&id, &name), ids(offer))));
        if reply.status == 422 { reply.is_unprocessable("AsyncRequired") } else { reply.is(&[200]) }
    });
}
