//! One operation at a broker, from before its request leaves until it is settled.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use standpipe_api::{CallerId, ProviderId, RecordKey, Resource, Timestamp};

use crate::osb::dialect::BINDING;
use crate::path::encode;

/// Names an operation among those of its resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::osb) struct OperationId(pub String);

/// What an operation does to its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::osb) enum OperationKind {
    Create,
    Update,
    Delete,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::osb) enum OperationState {
    /// Its request is about to leave, or is on its way.
    Requested,
    /// Its request left, and nobody knows what became of it.
    Lost,
    /// standpipe is deleting what it may have left, and nothing else is begun meanwhile.
    Cleaning,
    /// The broker is deleting what it may have left, because standpipe has asked it to.
    Removing,
    /// The broker is at it.
    Accepted,
    /// Done.
    Succeeded,
    /// The broker says that it failed.
    Failed,
    /// Nobody found out in time. The resource is still routed.
    Unknown,
}

/// Whose the resource of an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::osb) enum Made {
    /// Nothing was known of it before: what is left of it is this operation's.
    Here,
    /// It was there before. Nobody may delete it because this operation was lost.
    Earlier,
}

/// What else was on its way to the resource of a deletion while it was: which of the two its broker saw first, nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::osb) enum Beside {
    /// No creation.
    #[default]
    Nothing,
    /// A creation of it.
    Creation,
}

/// Who cleans up after an operation that failed or was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::osb) enum Reconciled {
    /// The platform.
    ByPlatform,
    /// standpipe, if the platform does not.
    Here,
}

/// An operation, as it is kept. What a platform sent is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::osb) struct Operation {
    /// Its name.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The instance or binding it is about.
    pub resource: Resource,
    /// Where.
    pub provider: ProviderId,
    /// The ids of service and plan, as the broker knows them, for questions about it; empty: not known.
    pub service_id: String,
    /// See `service_id`.
    pub plan_id: String,
    /// What the broker calls it, or the deletion of what it left.
    pub external: Option<String>,
    /// How far it is.
    pub state: OperationState,
    /// What the broker last said of it.
    pub description: Option<String>,
    /// When its request was about to leave.
    pub started_at: Timestamp,
    /// When somebody last asked the broker how it goes.
    pub asked_at: Timestamp,
    /// Before this, the broker does not want to be asked again.
    pub ask_after: Timestamp,
    /// When it counts as unknown if nothing is heard.
    pub deadline: Timestamp,
    /// Whether what it is about was there before it.
    pub made: Made,
    /// Whether a creation overlapped with it, if it is a deletion.
    #[serde(default)]
    pub beside: Beside,
    /// Whether standpipe itself cleans up after it.
    pub reconciled: Reconciled,
    /// Attempts to ask how it goes that brought nothing; of what may be left of it: to delete it.
    pub attempts: u32,
    /// When its end was known. What a creation that failed has left may be cleaned up after that.
    pub settled_at: Option<Timestamp>,
    /// The caller that began it.
    pub owner: Option<CallerId>,
    /// The tenant of that caller.
    pub tenant: Option<String>,
    /// What the feed says when it has succeeded: an instance's or a binding's event.
    pub told: Value,
}

/// Where the operations that are not settled stand.
pub(super) const ACTIVE: &str = "active/";

/// Where those stand whose end nobody knows: as those that are not settled, so that later news of one finds it.
pub(super) const UNKNOWN: &str = "unknown/";
/// Those of instances.
pub(super) const UNKNOWN_INSTANCES: &str = "unknown/service_instance/";
/// And of bindings.
pub(super) const UNKNOWN_BINDINGS: &str = "unknown/service_binding/";

/// Where those stand that have left something behind, beside their own places: as those that are not settled.
pub(super) const LEFT_BEHIND: &str = "left/";
/// Those of instances.
pub(super) const LEFT_BEHIND_INSTANCES: &str = "left/service_instance/";
/// And of bindings.
pub(super) const LEFT_BEHIND_BINDINGS: &str = "left/service_binding/";

/// Where other settled ones stand, in the order of their ends: of instances.
pub(super) const SETTLED_INSTANCES: &str = "settled/instance/";
/// And of bindings.
pub(super) const SETTLED_BINDINGS: &str = "settled/binding/";

impl Operation {
    /// Where it stands while it is not settled.
    pub(super) fn key(&self) -> RecordKey {
        self.key_in(ACTIVE)
    }

    /// Where it stands among those of its resource in a place.
    pub(super) fn key_in(&self, place: &str) -> RecordKey {
        let (started, id) = (self.started_at.as_millis(), &self.id.0);
        format!("{}{started:013}-{id}", group(place, &self.resource))
    }

    /// Where it stands once it is.
    pub(super) fn settled_key(&self) -> RecordKey {
        if self.state == OperationState::Unknown {
            return self.key_in(UNKNOWN);
        }
        let group = if self.resource.kind == BINDING { SETTLED_BINDINGS } else { SETTLED_INSTANCES };
        let ended = self.settled_at.unwrap_or(self.started_at).as_millis();
        format!("{group}{ended:013}-{}", self.id.0)
    }

    /// Whether its request may be with the broker, unanswered.
    pub(in crate::osb) fn is_on_its_way(&self) -> bool {
        self.state == OperationState::Requested
    }

    /// Whether standpipe deletes what it leaves, should it fail or be lost and the platform not do so.
    pub(in crate::osb) fn is_cleaned_up_here(&self) -> bool {
        self.kind == OperationKind::Create && self.reconciled == Reconciled::Here && self.made == Made::Here
    }

    /// Whether it creates anew what another deletes: it began after that.
    pub(super) fn outlives(&self, other: &Self) -> bool {
        let kinds = (self.kind, other.kind) == (OperationKind::Create, OperationKind::Delete);
        let is_of_it = self.resource == other.resource && self.provider == other.provider;
        kinds && is_of_it && self.started_at > other.started_at
    }

    /// As it is kept.
    pub(super) fn written(&self) -> bytes::Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The same, at its end.
    #[must_use]
    pub(super) fn ended(mut self, state: OperationState, description: Option<String>) -> Self {
        self.state = state;
        self.settled_at = self.settled_at.or_else(|| Some(Timestamp::now()));
        if description.is_some() {
            self.description = description;
        }
        self
    }

    /// The same, some time after which the broker may be asked again.
    #[must_use]
    pub(super) fn asked(mut self, wait: Duration) -> Self {
        self.asked_at = Timestamp::now();
        self.ask_after = self.asked_at.plus(wait);
        self
    }
}

/// Where a resource's operations stand among those that are not settled, or unknown.
pub(super) fn group(place: &str, resource: &Resource) -> RecordKey {
    let parent = resource.parent.as_ref().map_or("", |parent| parent.as_str());
    let [scope, parent, id] = [resource.scope.as_str(), parent, resource.id.as_str()].map(encode);
    format!("{place}{}/{scope}/{parent}/{id}/", resource.kind)
}
