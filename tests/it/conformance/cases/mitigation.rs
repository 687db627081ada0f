//! What a platform does when it does not know what became of a creation: it deletes.

use serde_json::json;

use super::super::platform::{Ask, Reply};
use super::steps::{bind_wanted, binding, ids, instance, provisioned, settled, succeeds, vanishes, wanted};
use super::{Offer, Suite, Talk, Verdict};

const LATER: &str = "accepts_incomplete=true";

/// Deletes what this answer has begun until it is gone; 410 where there was nothing. Who cannot do both at a time says so,
/// and is asked again when the creation has ended.
fn mitigated(talk: &mut Talk<'_>, path: &str, offer: &Offer, begun: &Reply) -> Verdict {
    let delete = Ask::new("DELETE", format!("{path}?{LATER}&{}", ids(offer)));
    let mut reply = talk.ask(&delete);
    if reply.status == 422 {
        reply.is_unprocessable("ConcurrencyError")?;
        settled(talk, begun, path, offer)?;
        reply = talk.ask(&delete);
    }
    reply.is(&[200, 202, 410])?;
    vanishes(talk, &reply, path, offer)?;
    talk.ask(&delete).is(&[410])
}

pub fn cases(suite: &mut Suite) {
    suite.each("spec: an instance that failed is deleted, and its id can be used again", |talk, offer| {
        let path = instance(&talk.id("instance"));
        let mut body = wanted(offer);
        body["parameters"] = json!({"fail": true});
        let reply = talk.ask(&Ask::new("PUT", format!("{path}?{LATER}")).body(&body));
        settled(talk, &reply, &path, offer)?;
        mitigated(talk, &path, offer, &reply)?;
        let again = talk.ask(&Ask::new("PUT", format!("{path}?{LATER}")).body(&wanted(offer)));
        again.is(&[201, 202])?;
        succeeds(talk, &again, &path, offer)
    });
    suite.each("spec: an instance is deleted while it is being made", |talk, offer| {
        let path = instance(&talk.id("instance"));
        let reply = talk.ask(&Ask::new("PUT", format!("{path}?{LATER}")).body(&wanted(offer)));
        reply.is(&[201, 202])?;
        mitigated(talk, &path, offer, &reply)
    });
    suite.each("spec: a binding is deleted while it is being made", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let path = binding(&id, &talk.id("binding"));
        let reply = talk.ask(&Ask::new("PUT", format!("{path}?{LATER}")).body(&bind_wanted(offer)));
        reply.is(&[201, 202])?;
        mitigated(talk, &path, offer, &reply)
    });
    suite.each("spec: a creation that was refused left nothing behind", |talk, offer| {
        let path = instance(&talk.id("instance"));
        let mut body = wanted(offer);
        body["plan_id"] = json!("Invalid");
        talk.ask(&Ask::new("PUT", format!("{path}?{LATER}")).body(&body)).is(&[400])?;
        talk.ask(&Ask::new("DELETE", format!("{path}?{LATER}&{}", ids(offer)))).is(&[410])
    });
    suite.each("spec: a binding of an instance that was never made is deleted", |talk, offer| {
        let path = binding(&talk.id("nobody"), &talk.id("binding"));
        talk.ask(&Ask::new("DELETE", format!("{path}?{LATER}&{}", ids(offer)))).is(&[410])
    });
}
