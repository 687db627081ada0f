//! What many cases begin with.

use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::platform::{Ask, Reply};
use super::{Offer, Talk, Verdict};
use crate::support::PATIENCE;

/// Polls without a pause: brokers that count them are done by then, and others take their time.
const AT_ONCE: usize = 10;

/// How a body says the ids that a case leaves out, empties or makes up.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    Missing,
    Empty,
    Invalid,
}

impl Wrong {
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Missing, "missing"), (Self::Empty, "empty"), (Self::Invalid, "invalid")];

    /// The body with this member said so.
    pub fn spoils(self, mut body: Value, member: &str) -> Value {
        match self {
            Self::Missing => drop(body.as_object_mut().map(|members| members.remove(member))),
            Self::Empty => body[member] = json!(""),
            Self::Invalid => body[member] = json!("Invalid"),
        }
        body
    }

    /// A query with `service_id` and `plan_id`, this one of them said so.
    pub fn query(self, offer: &Offer, member: &str) -> String {
        let ids = [("service_id", offer.service_id()), ("plan_id", offer.plan_id())];
        let said = ids.iter().filter_map(|(name, id)| match (self, *name == member) {
            (_, false) => Some(format!("{name}={id}")),
            (Self::Missing, true) => None,
            (Self::Empty, true) => Some(format!("{name}=")),
            (Self::Invalid, true) => Some(format!("{name}=Invalid")),
        });
        said.collect::<Vec<_>>().join("&")
    }
}

/// The ids of a plan, as a query says them.
pub fn ids(offer: &Offer) -> String {
    format!("service_id={}&plan_id={}", offer.service_id(), offer.plan_id())
}

pub fn instance(id: &str) -> String {
    format!("/v2/service_instances/{id}")
}

pub fn binding(id: &str, binding: &str) -> String {
    format!("/v2/service_instances/{id}/service_bindings/{binding}")
}

/// The body of a valid provision.
pub fn wanted(offer: &Offer) -> Value {
    json!({
        "service_id": offer.service_id(),
        "plan_id": offer.plan_id(),
        "organization_guid": "org-guid-here",
        "space_guid": "space-guid-here",
        "context": {"platform": "cloudfoundry", "organization_guid": "org-guid-here", "space_guid": "space-guid-here"},
    })
}

/// The body of a valid binding.
pub fn bind_wanted(offer: &Offer) -> Value {
    json!({
        "service_id": offer.service_id(),
        "plan_id": offer.plan_id(),
        "bind_resource": {"app_guid": "app-guid-here"},
        "context": {"platform": "cloudfoundry"},
    })
}

/// The body of a valid update.
pub fn update_wanted(offer: &Offer) -> Value {
    json!({
        "service_id": offer.service_id(),
        "plan_id": offer.plan_id(),
        "previous_values": {"plan_id": offer.plan_id(), "service_id": offer.service_id()},
    })
}

/// Provisions an instance and waits for it.
pub fn provisioned(talk: &mut Talk<'_>, offer: &Offer) -> Result<String, String> {
    let id = talk.id("instance");
    let reply = talk.ask(&Ask::new("PUT", instance(&id) + "?accepts_incomplete=true").body(&wanted(offer)));
    reply.is(&[201, 202])?;
    succeeds(talk, &reply, &instance(&id), offer)?;
    Ok(id)
}

/// Binds it and waits for the binding.
pub fn bound(talk: &mut Talk<'_>, offer: &Offer, id: &str) -> Result<String, String> {
    let name = talk.id("binding");
    let path = binding(id, &name);
    let ask = Ask::new("PUT", format!("{path}?accepts_incomplete=true")).body(&bind_wanted(offer));
    let reply = talk.ask(&ask);
    reply.is(&[201, 202])?;
    succeeds(talk, &reply, &path, offer)?;
    Ok(name)
}

/// A poll with the operation that an answer named, as OK does.
pub fn poll(path: &str, offer: &Offer, answer: &Reply) -> Ask {
    let operation = answer.text("operation");
    let operation = utf8_percent_encode(&operation, NON_ALPHANUMERIC);
    Ask::new("GET", format!("{path}/last_operation?{}&operation={operation}", ids(offer)))
}

/// Polls until it is no longer in progress; what is not asynchronous is settled.
pub fn settled(
    talk: &mut Talk<'_>,
    answer: &Reply,
    path: &str,
    offer: &Offer,
) -> Result<Option<Reply>, String> {
    if answer.status != 202 {
        return Ok(None);
    }
    asked(talk, &poll(path, offer, answer)).map(Some)
}

/// Sends this poll until it is no longer in progress.
pub fn asked(talk: &mut Talk<'_>, poll: &Ask) -> Result<Reply, String> {
    let end = Instant::now() + PATIENCE;
    for sent in 0.. {
        let said = talk.ask(poll);
        if said.status != 200 || said.text("state") != "in progress" {
            return Ok(said);
        }
        if Instant::now() > end {
            break;
        }
        if sent > AT_ONCE {
            thread::sleep(Duration::from_millis(10));
        }
    }
    Err("it is in progress for ever".to_owned())
}

/// Polls until it has succeeded.
pub fn succeeds(talk: &mut Talk<'_>, answer: &Reply, path: &str, offer: &Offer) -> Verdict {
    match settled(talk, answer, path, offer)? {
        Some(said) => ended(&said, "succeeded"),
        None => Ok(()),
    }
}

/// Polls until it is gone: 410, or succeeded where a broker remembers.
pub fn vanishes(talk: &mut Talk<'_>, answer: &Reply, path: &str, offer: &Offer) -> Verdict {
    match settled(talk, answer, path, offer)? {
        Some(said) if said.status == 410 => Ok(()),
        Some(said) => ended(&said, "succeeded"),
        None => Ok(()),
    }
}

/// The last poll ended in this state.
pub fn ended(said: &Reply, state: &str) -> Verdict {
    said.is(&[200])?;
    let found = said.text("state");
    (found == state).then_some(()).ok_or_else(|| format!("state {found:?} instead of {state:?}"))
}
