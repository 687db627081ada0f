//! What the broker keeps: an entry for each service instance and service binding, and a row for each operation.
//!
//! An entry points at the last operation on it. Both are written in one transaction with the job that does the work,
//! before the work begins.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use standpipe_api::Timestamp;

use crate::osb::cleanup::Ended;

macro_rules! text_id {
    ($(#[$doc:meta] $name:ident),* $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(super) struct $name(pub(super) String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_id! {
    /// Of a service instance; the platform chooses it.
    InstanceId,
    /// Of a service binding, within its instance; the platform chooses it.
    BindingId,
    /// Of an operation; the broker chooses it, and hooks are told it.
    OperationId,
    /// Of a service offering.
    ServiceId,
    /// Of a plan.
    PlanId,
}

/// Keys are listed by prefix, so that an id holds no `/`.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Instances or bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Instances,
    Bindings,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Instances, Self::Bindings];

    /// Its word in keys.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Instances => "instances",
            Self::Bindings => "bindings",
        }
    }

    /// One of them, as a sentence says it.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Instances => "Service instance",
            Self::Bindings => "Service binding",
        }
    }

    /// What the keys of its operations begin with.
    pub(super) fn operations(self) -> String {
        format!("operation/{}/", self.word())
    }
}

/// What an operation is about: an instance, or a binding of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    pub(super) instance: InstanceId,
    pub(super) binding: Option<BindingId>,
}

impl Subject {
    pub(super) const fn side(&self) -> Side {
        if self.binding.is_some() { Side::Bindings } else { Side::Instances }
    }

    /// The instance itself.
    pub(super) fn parent(&self) -> Self {
        Self { instance: self.instance.clone(), binding: None }
    }

    /// The key of its entry.
    pub(super) fn key(&self) -> String {
        match &self.binding {
            None => format!("instance/{}", utf8_percent_encode(&self.instance.0, PLAIN)),
            Some(binding) => self.bindings() + &utf8_percent_encode(&binding.0, PLAIN).to_string(),
        }
    }

    /// What the keys of its instance's bindings begin with.
    pub(super) fn bindings(&self) -> String {
        format!("binding/{}/", utf8_percent_encode(&self.instance.0, PLAIN))
    }
}

/// What a platform asked for when it provisioned, updated or bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Wish {
    pub(super) service: ServiceId,
    pub(super) plan: PlanId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) organization_guid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) space_guid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) maintenance_info: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bind_resource: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) predecessor: Option<BindingId>,
}

impl Wish {
    /// Whether both ask for the same. The context is left out: it carries names and signatures, which change
    /// without the request being another one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let without = |wish: &Self| {
            let parameters = wish.parameters.clone().filter(|given| !given.is_empty());
            Self { context: None, parameters, ..wish.clone() }
        };
        without(self) == without(other)
    }
}

/// An instance or binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The last operation on it.
    pub(super) operation: OperationId,
    /// Whether that operation is in progress.
    pub(super) busy: bool,
    /// What there is; `None`: it is gone, and only its last operation is remembered.
    pub(super) held: Option<Held>,
}

impl Entry {
    /// What there is, once its creation has succeeded.
    pub(super) fn made(&self) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.made)
    }
}

/// What there is of an instance or binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    /// Whether its creation has succeeded. One that failed may have left something, so that it can be deleted.
    pub(super) made: bool,
    pub(super) wish: Wish,
    /// The hooks' own state.
    #[serde(default)]
    pub(super) state: Value,
    /// The fields that the platform is told: `dashboard_url`, `credentials`, ...
    #[serde(default)]
    pub(super) told: Map<String, Value>,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Task {
    Create,
    Update,
    Delete,
}

impl Task {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Progress {
    Running,
    Succeeded,
    Failed,
}

impl Progress {
    /// As the API says it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Running => "in progress",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }

    /// How it ended, if it did.
    pub(super) const fn ended(self) -> Option<Ended> {
        match self {
            Self::Running => None,
            Self::Succeeded => Some(Ended::Succeeded),
            Self::Failed => Some(Ended::Failed),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Operation {
    pub(super) id: OperationId,
    pub(super) subject: Subject,
    pub(super) task: Task,
    pub(super) service: ServiceId,
    pub(super) plan: PlanId,
    pub(super) created_at: Timestamp,
    pub(super) progress: Progress,
    pub(super) description: String,
    /// Simulated steps that are done.
    #[serde(default)]
    pub(super) steps: usize,
    /// Who the platform acts for, as it said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// What is to be, until it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wish: Option<Wish>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
}

impl Operation {
    /// The key of its row.
    pub(super) fn key(side: Side, id: &OperationId) -> String {
        side.operations() + &id.0
    }
}

/// Why an operation failed, as the platform is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// The status of the answer, where somebody waits for it.
    pub(super) status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance_usable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) update_repeatable: Option<bool>,
}

impl Failure {
    /// Not the platform's fault.
    pub(super) fn new(description: impl Into<String>) -> Self {
        let description = description.into();
        Self { status: 500, error: None, description, instance_usable: None, update_repeatable: None }
    }
}
