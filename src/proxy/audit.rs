//! What of a call goes into the audit: one event for each that may have changed something, or that rules refused.

use http::StatusCode;
use standpipe_api::{Body, Error, Fault, Remark, Result, Timestamp};

use super::Proxy;
use crate::call::Trail;
use crate::error::status;
use crate::respond;
use crate::store::AuditEvent;
use crate::telemetry::AccessEvent;

/// Characters of a method that are kept.
const LONGEST_METHOD: usize = 32;

/// Audits a call that runs in a task of its own when that ends, however it ends.
pub(super) struct Ending {
    proxy: Proxy,
    /// The call.
    pub(super) trail: Trail,
    outcome: (StatusCode, Option<Fault>),
    remark: Option<Remark>,
}

impl Ending {
    /// Until told otherwise the task has failed.
    pub(super) fn of(proxy: &Proxy, trail: &Trail) -> Self {
        let outcome = (StatusCode::INTERNAL_SERVER_ERROR, Some(Fault::Proxy));
        Self { proxy: proxy.clone(), trail: trail.clone(), outcome, remark: None }
    }

    /// How the call ended.
    pub(super) fn told(&mut self, outcome: &Result<http::Response<Body>, Error>) {
        self.remark = outcome.as_ref().ok().and_then(|response| response.extensions().get().copied());
        self.outcome = match outcome {
            Ok(response) => (response.status(), None),
            Err(error) => (status(error), Some(error.fault().clone())),
        };
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (status, fault) = &self.outcome;
        let remark = self.remark.map(|Remark(word)| word.to_owned());
        let event = event(&self.trail, *status, fault.as_ref());
        self.proxy.engine.audit.record(AuditEvent { remark, ..event });
    }
}

impl Proxy {
    /// Audits a call that has ended here.
    pub(super) fn audit(&self, trail: &Trail, status: StatusCode) {
        if let Some((refusal, _)) = &trail.refused
            && let Some(count) = self.engine.refusals.get(*refusal as usize)
        {
            count.increment(1);
        }
        let changes = || {
            let method = &trail.sent.0;
            trail.operation.map_or(!method.is_safe(), |operation| operation.effect.changes_state(method))
        };
        // Nobody we know did nothing that we know of; a task audits what runs in it; what was too much was not tried.
        let done =
            trail.caller.is_none() || trail.audited_elsewhere || status == StatusCode::TOO_MANY_REQUESTS;
        if !done && (trail.refused.is_some() || changes()) {
            self.engine.audit.record(event(trail, status, trail.fault.as_ref()));
        }
    }
}

fn event(trail: &Trail, status: StatusCode, fault: Option<&Fault>) -> AuditEvent {
    let (method, target) = &trail.sent;
    let caller = trail.caller.as_deref();
    let (refused, withheld) = trail.refused.as_ref().map(|(why, from)| (*why, from.clone())).unzip();
    let provider = trail.provider.as_ref().map(|provider| provider.id().clone());
    AuditEvent {
        at: Timestamp::now(),
        call: trail.id.to_string(),
        caller: caller.map(|caller| caller.id.clone()),
        tenant: caller.and_then(|caller| caller.tenant.clone()),
        // A method may be any word; no longer one is known (RFC 9110 and the registry of methods).
        method: method.as_str().chars().take(LONGEST_METHOD).collect(),
        path: AccessEvent::path_of(target).into(),
        operation: trail.operation.map(|operation| operation.name.to_owned()),
        kind: trail.kind.clone(),
        provider: provider.or(withheld.flatten()),
        status: status.as_u16(),
        fault: fault.map(respond::fault),
        refused: refused.map(|why| why.as_str().to_owned()),
        remark: None,
    }
}
