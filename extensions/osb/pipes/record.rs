//! A pipe to an OSB service as it is kept, sealed: everything that must survive.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use standpipe_api::{
    Caller, CallerId, Change, Error, JobId, NewJob, ProviderId, Resource, ResourceId, Result, Revision,
    Timestamp,
};

use crate::cloudpipe::broker::pipe::{Pipe, PipeId, pipe_key, segment};
use crate::osb::client::{Place, binding, instance};

/// How long an operation may take whose plan does not say.
pub(super) const POLLING: Duration = Duration::from_secs(7 * 24 * 3600);

/// A pipe, the binding behind it, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bound {
    /// As cloudpipe knows it; `this.data` is never kept here.
    pub pipe: Pipe,
    /// Under which it stands: a provider, or an instance.
    pub resource: ResourceId,
    /// Who made it, and that caller's tenant.
    pub owner: CallerId,
    pub tenant: Option<String>,
    /// The plan.
    pub plan: Plan,
    /// What it is a binding of.
    pub instance: Instance,
    /// The id of its binding.
    pub binding: String,
    /// A binding that this one replaced, until it is unbound.
    pub previous: Option<String>,
    /// How often something was created for a pipe of this name.
    pub attempt: u32,
    /// What the caller asked for.
    pub asked: Asked,
    /// What is being done.
    pub step: Step,
    /// The broker's name of the operation that is waited for.
    pub polled: Option<Polled>,
    /// When the step began.
    pub since: Timestamp,
    /// What it comes to.
    pub goal: Goal,
    /// Since when the other end is to be told.
    pub news: Option<Timestamp>,
    /// The keys that the other end was told last.
    pub told: Vec<String>,
    /// What the matter is.
    pub trouble: Option<Trouble>,
}

/// What is known of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub provider: ProviderId,
    pub service_id: String,
    pub plan_id: String,
    /// Whether its bindings can be read again.
    pub retrievable: bool,
    /// Whether a binding may name the one that it replaces.
    pub rotatable: bool,
    /// Seconds that an operation may take.
    pub polling: u64,
    /// The version of its `maintenance_info`.
    pub version: Option<String>,
}

/// The instance behind a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Instance {
    /// Made for this pipe, and deleted with it.
    Made(String),
    /// It was there before.
    Found(String),
}

/// What the caller asked for beside the pipe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// For the instance.
    pub parameters: Option<Map<String, Value>>,
    /// For its bindings.
    pub binding_parameters: Option<Map<String, Value>>,
    /// Of both.
    pub context: Option<Map<String, Value>>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    Provision,
    Bind,
    /// It is bound; the other end may have to be told, and a replaced binding to be unbound.
    Ready,
    Unbind,
    Deprovision,
    /// It came to nothing.
    Failed,
}

/// What a pipe comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Goal {
    Live,
    Gone,
    /// What was made for it is taken back, and the failure stays to be seen.
    Failed,
}

/// An operation that is polled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Polled {
    pub operation: Option<String>,
}

/// What the matter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub text: String,
    pub blame: Blame,
}

/// Whose matter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Blame {
    /// The broker refused what the caller asked for.
    Caller,
    /// The broker failed, or does not answer.
    Broker,
}

/// Credentials that their broker does not tell again.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// The binding they are of.
    pub binding: String,
    /// What the pipe shows.
    pub data: Map<String, Value>,
    /// When they are removed.
    pub until: Option<Timestamp>,
}

/// A pipe with the revision it was read at.
pub(super) struct Stored {
    pub bound: Bound,
    pub revision: Revision,
}

/// Which pipe a job is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Errand {
    pub resource: ResourceId,
    pub id: PipeId,
}

impl Errand {
    /// The key of the pipe's record.
    pub(super) fn key(&self) -> String {
        pipe_key(&self.resource, &self.id)
    }

    /// The key of its credentials, if they are kept.
    pub(super) fn secret_key(&self) -> String {
        format!("secret/{}/{}", segment(self.resource.as_str()), segment(self.id.as_str()))
    }

    /// The key under which it is found without its resource.
    pub(super) fn name_key(&self) -> String {
        format!("{}{}", name_prefix(&self.id), segment(self.resource.as_str()))
    }

    /// The job that brings the pipe on.
    pub(super) fn job(&self, delay: Duration) -> Result<NewJob> {
        Ok(NewJob { id: JobId(self.key()), payload: encode(self)?, delay })
    }

    /// The job that removes credentials.
    pub(super) fn removal(&self, delay: Duration) -> Result<NewJob> {
        Ok(NewJob { id: JobId(self.secret_key()), payload: encode(self)?, delay })
    }
}

/// The other end of a pipe that is gone, to be told so.
#[derive(Serialize, Deserialize)]
pub(super) struct Farewell {
    /// Which pipe it was.
    pub gone: Errand,
    /// The other end's uri.
    pub uri: String,
    pub since: Timestamp,
}

impl Farewell {
    /// In place of the pipe's own job: when a pipe of that name is made anew, its news count.
    pub(super) fn job(&self) -> Result<NewJob> {
        Ok(NewJob { id: JobId(self.gone.key()), payload: encode(self)?, delay: Duration::ZERO })
    }
}

/// The prefix of what pipes of a name are found by.
pub(super) fn name_prefix(id: &PipeId) -> String {
    format!("name/{}/", segment(id.as_str()))
}

impl Plan {
    /// Whose it is, for questions to the broker.
    fn place(&self, resource: Resource) -> Place {
        Place {
            resource,
            provider: self.provider.clone(),
            service_id: self.service_id.clone(),
            plan_id: self.plan_id.clone(),
        }
    }
}

impl Instance {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Made(id) | Self::Found(id) => id,
        }
    }
}

impl Bound {
    /// Which pipe it is.
    pub(super) fn errand(&self) -> Errand {
        Errand { resource: self.resource.clone(), id: self.pipe.id.clone() }
    }

    /// The caller on whose behalf it is worked on.
    pub(super) fn caller(&self) -> Arc<Caller> {
        Arc::new(Caller {
            id: self.owner.clone(),
            tenant: self.tenant.clone(),
            groups: Vec::new(),
            authenticator: super::NAME,
        })
    }

    /// Whether a caller may know of it: one of its tenant, or, without one, the one that made it.
    pub(super) fn is_of(&self, caller: &Caller) -> bool {
        self.tenant == caller.tenant && (self.tenant.is_some() || self.owner == caller.id)
    }

    pub(super) fn instance_place(&self) -> Place {
        self.plan.place(instance(&self.caller(), self.instance.id()))
    }

    pub(super) fn binding_place(&self, id: &str) -> Place {
        self.plan.place(binding(&self.caller(), self.instance.id(), id))
    }

    /// Takes back the claims of what was not created after all.
    pub(super) fn unclaim(&self) -> impl Iterator<Item = Change> {
        let made = matches!(self.instance, Instance::Made(_)).then(|| self.instance_place());
        let places = [self.binding_place(&self.binding)].into_iter().chain(made);
        places.map(|place| Change::Unclaim(place.resource))
    }

    /// The binding whose credentials count: while a new one is made, the earlier one.
    pub(super) fn counting(&self) -> &str {
        match (&self.previous, self.step) {
            (Some(previous), Step::Bind) => previous,
            _ => &self.binding,
        }
    }

    /// What the pipe shows of what its broker told of a binding.
    pub(super) fn data(&self, told: Map<String, Value>) -> Map<String, Value> {
        let binding = self.pipe.binding.as_ref();
        super::offer::data(told, binding.and_then(|binding| binding.proto.as_ref()))
    }

    /// The same at its next step.
    pub(super) fn at(self, step: Step) -> Self {
        Self { step, polled: None, since: Timestamp::now(), ..self }
    }

    /// A new binding in place of this one.
    pub(super) fn rotated(self) -> Self {
        let attempt = self.attempt.saturating_add(1);
        let binding = derived("binding", &self.caller(), &self.plan, &self.errand(), attempt);
        let previous = Some(self.binding.clone());
        Self { attempt, binding, previous, trouble: None, ..self }.at(Step::Bind)
    }
}

/// An id that follows from what it is for, in the form of a UUID (RFC 9562, version 8): whoever asks again for the same means
/// the same.
pub(super) fn derived(what: &str, caller: &Caller, plan: &Plan, pipe: &Errand, attempt: u32) -> String {
    let attempt = attempt.to_string();
    // A caller without a tenant has its ids for itself.
    let whose = caller.tenant.as_deref().map_or(("caller", caller.id.as_str()), |tenant| ("tenant", tenant));
    let parts = [
        what,
        whose.0,
        whose.1,
        plan.provider.as_str(),
        &plan.plan_id,
        pipe.resource.as_str(),
        pipe.id.as_str(),
        &attempt,
    ];
    let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let hash = digest(&SHA256, text.as_bytes());
    let bytes = hash.as_ref().iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    let bits = bytes & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let written = serde_json::to_vec(value);
    written.map(Bytes::from).map_err(|error| Error::internal("a pipe cannot be written").because(error))
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::internal("a pipe's record cannot be read").because(error))
}

#[cfg(test)]
mod tests {
    use standpipe_api::testing::caller;

    use super::*;

    #[test]
    fn an_id_follows_from_what_it_is_for_and_from_nothing_else() {
        let plan = |id: &str| Plan {
            provider: "alpha".into(),
            service_id: "s".into(),
            plan_id: id.into(),
            retrievable: false,
            rotatable: false,
            polling: 1,
            version: None,
        };
        let errand = |id: &str| Errand { resource: "alpha".into(), id: PipeId::read(id).unwrap() };
        let one = derived("binding", &caller("a"), &plan("p"), &errand("web"), 0);
        assert_eq!(one, derived("binding", &caller("a"), &plan("p"), &errand("web"), 0));
        assert_eq!((one.len(), one.as_bytes()[14]), (36, b'8'));
        for other in [
            derived("instance", &caller("a"), &plan("p"), &errand("web"), 0),
            derived("binding", &caller("b"), &plan("p"), &errand("web"), 0),
            derived("binding", &caller("a"), &plan("q"), &errand("web"), 0),
            derived("binding", &caller("a"), &plan("p"), &errand("web2"), 0),
            derived("binding", &caller("a"), &plan("p"), &errand("web"), 1),
        ] {
            assert_ne!(one, other);
        }
    }
}
