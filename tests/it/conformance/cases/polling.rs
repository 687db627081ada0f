//! An operation is asked after.

use serde_json::json;

use super::super::platform::{Ask, Login, Reply};
use super::steps::{asked, bind_wanted, binding, ended, ids, instance, poll, provisioned, succeeds, wanted};
use super::{Offer, Suite, Talk, Verdict};

const LATER: &str = "?accepts_incomplete=true";

/// Asks for an instance; where that takes time, the case goes on with its path.
fn under_way(
    talk: &mut Talk<'_>,
    offer: &Offer,
    then: impl FnOnce(&mut Talk<'_>, String, Reply) -> Verdict,
) -> Verdict {
    let path = instance(&talk.id("instance"));
    let reply = talk.ask(&Ask::new("PUT", path.clone() + LATER).body(&wanted(offer)));
    if reply.status == 202 { then(talk, path, reply) } else { reply.is(&[201]) }
}

pub fn cases(suite: &mut Suite) {
    of_provisions(suite);
    of_others(suite);
}

fn of_provisions(suite: &mut Suite) {
    suite.each("OC poll: 412 without a version", |talk, offer| {
        under_way(talk, offer, |talk, path, reply| {
            talk.ask(&poll(&path, offer, &reply).version(None)).says(412)?;
            succeeds(talk, &reply, &path, offer)
        })
    });
    suite.each("OC poll: 401 without a login", |talk, offer| {
        under_way(talk, offer, |talk, path, reply| {
            talk.ask(&poll(&path, offer, &reply).login(Login::Nobody)).says(401)
        })
    });
    suite.each("OC poll: with the word provision, whatever the broker called it", |talk, offer| {
        under_way(talk, offer, |talk, path, _| {
            ends(talk, &format!("{path}/last_operation?{}&operation=provision", ids(offer)))
        })
    });
    suite.each("OC poll: without an operation", |talk, offer| {
        under_way(talk, offer, |talk, path, _| ends(talk, &format!("{path}/last_operation?{}", ids(offer))))
    });
    suite.each("spec: a poll without service and plan", |talk, offer| {
        under_way(talk, offer, |talk, path, _| ends(talk, &format!("{path}/last_operation")))
    });
    suite.each(
        "B8: what a poll asks arrives as it was sent: empty, missing, twice, encoded, foreign",
        |talk, offer| {
            under_way(talk, offer, |talk, path, _| {
                for query in [
                    "?service_id=&plan_id=&operation=",
                    "?operation",
                    "?",
                    "?operation=a%2Fb%20c+d%25",
                    "?operation=%c3%a4&x=1&operation=2",
                ] {
                    talk.ask(&Ask::new("GET", format!("{path}/last_operation{query}"))).is(&[200])?;
                }
                Ok(())
            })
        },
    );
}

fn of_others(suite: &mut Suite) {
    suite.each("OC poll: a binding, without an operation", |talk, offer| {
        let id = provisioned(talk, offer)?;
        let path = binding(&id, &talk.id("binding"));
        let reply = talk.ask(&Ask::new("PUT", path.clone() + LATER).body(&bind_wanted(offer)));
        if reply.status == 202 {
            ends(talk, &format!("{path}/last_operation?{}", ids(offer)))
        } else {
            reply.is(&[201])
        }
    });
    suite.each("G-12: two operations at the same time have their own states", |talk, offer| {
        let [one, two] = ["one", "two"].map(|word| instance(&talk.id(word)));
        let first = talk.ask(&Ask::new("PUT", one.clone() + LATER).body(&wanted(offer)));
        let second = talk.ask(&Ask::new("PUT", two.clone() + LATER).body(&wanted(offer)));
        succeeds(talk, &first, &one, offer)?;
        if second.status == 202 {
            let said = talk.ask(&poll(&two, offer, &second));
            ended(&said, "in progress").or_else(|_| ended(&said, "succeeded"))?;
        }
        succeeds(talk, &second, &two, offer)
    });
    suite.each("G-3: a provision that fails says so", |talk, offer| {
        let path = instance(&talk.id("instance"));
        let mut body = wanted(offer);
        body["parameters"] = json!({"fail": true});
        let reply = talk.ask(&Ask::new("PUT", path.clone() + LATER).body(&body));
        match super::steps::settled(talk, &reply, &path, offer)? {
            Some(said) => ended(&said, "failed"),
            None => (reply.status >= 400).then_some(()).ok_or_else(|| format!("{}", reply.status)),
        }
    });
    suite.each("spec: what was never asked for is no operation", |talk, offer| {
        let nobody = instance(&talk.id("nobody"));
        talk.ask(&Ask::new("GET", format!("{nobody}/last_operation?{}", ids(offer)))).is(&[400, 404, 410])
    });
}

/// Polls with this path until it has succeeded.
fn ends(talk: &mut Talk<'_>, path: &str) -> Verdict {
    ended(&asked(talk, &Ask::new("GET", path))?, "succeeded")
}
