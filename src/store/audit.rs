//! What the audit is made of: one event per call that may have changed something, or that access rules refused.

use serde::{Deserialize, Serialize};
use standpipe_api::{CallerId, Kind, ProviderId, Timestamp};

/// One call, as it is remembered. It has no room for headers, queries and bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When it ended.
    pub at: Timestamp,
    /// Its id, as its answer and the logs name it.
    pub call: String,
    /// Who called; absent for a bearer that only a provider may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<CallerId>,
    /// The tenant it called for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The request's method.
    pub method: String,
    /// The request's path without its query.
    pub path: String,
    /// The dialect's operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The kind of resource it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// The provider it went to, or was kept from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderId>,
    /// The status of its answer.
    pub status: u16,
    /// Whose fault a failure was: `caller`, `proxy`, `provider:NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Why access rules refused it: `unseen`, `method`, `own`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What an extension made of the answer: `forced` of a deletion of what its broker does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// An event with its place: ids grow, and none is given twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its place.
    pub id: i64,
    /// The event.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// Which events; an absent field takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of one caller.
    pub caller: Option<CallerId>,
    /// Those of one provider.
    pub provider: Option<ProviderId>,
}
