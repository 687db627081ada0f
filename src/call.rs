//! One call in flight, as the engine sees it: what is known so far, for its answer, its log line and its metrics.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderValue, Method, Uri};
use standpipe_api::{CallId, Caller, Connection, Dialect, Fault, Kind, Operation, ProviderId, Result};

use crate::access::Refusal;
use crate::engine::Running;
use crate::fingerprint::Fingerprints;
use crate::forward::deadline::now;
use crate::forward::headers::Trust;
use crate::identify::Shown;
use crate::providers::Provider;
use crate::rate_limit::Admitted;
use crate::resolve::By;
use crate::route::{DialectId, FaceId};

/// The trail a call leaves on its way through the steps.
#[derive(Clone)]
pub struct Trail {
    /// Names the call in answers and logs.
    pub id: CallId,
    /// When its head had been read.
    pub started: Instant,
    /// When its caller's patience, or ours, ends.
    pub deadline: Instant,
    /// The socket it came in on.
    pub connection: Arc<Connection>,
    /// Whether what that socket says of its own callers counts.
    pub trust: Trust,
    /// The host it asked for, on HTTP/2.
    pub host: Option<http::uri::Authority>,
    /// Standpipes it has passed.
    pub hops: u32,
    /// What it showed of itself to no avail.
    pub shown: Shown,
    /// Who is calling, once known.
    pub caller: Option<Arc<Caller>>,
    /// The face it came to.
    pub face: Option<FaceId>,
    /// The dialect of the face or provider.
    pub dialect: Option<Arc<dyn Dialect>>,
    /// The same, by its id.
    pub dialect_id: Option<DialectId>,
    /// The dialect's operation.
    pub operation: Option<Operation>,
    /// Its place in the dialect's list.
    pub position: usize,
    /// The provider it went to.
    pub provider: Option<Arc<Provider>>,
    /// How that provider was found.
    pub by: Option<By>,
    /// Whose fault a failure was.
    pub fault: Option<Fault>,
    /// The methods its path takes, when it came with another.
    pub allowed: Vec<Method>,
    /// Method and target as the caller sent them.
    pub sent: (Method, Uri),
    /// What kind of resource it is about.
    pub kind: Option<Kind>,
    /// Why access rules refused it, and the provider they kept it from.
    pub refused: Option<(Refusal, Option<ProviderId>)>,
    /// Whether a task audits it that outlives its caller.
    pub audited_elsewhere: bool,
    /// Fields of the request that an answer of our own repeats.
    pub echoed: Vec<(http::HeaderName, http::HeaderValue)>,
    /// What it holds of its caller's and tenant's limits.
    pub admitted: Option<Arc<Admitted>>,
}

impl Trail {
    /// The beginning of a call.
    pub fn new(
        connection: Arc<Connection>,
        trust: Trust,
        patience: std::time::Duration,
        sent: (Method, Uri),
    ) -> Self {
        let started = now();
        Self {
            id: CallId::from_bits(fastrand::u128(..)),
            started,
            deadline: started + patience,
            connection,
            trust,
            host: None,
            hops: 0,
            shown: Shown::Nothing,
            caller: None,
            face: None,
            dialect: None,
            dialect_id: None,
            operation: None,
            position: usize::MAX,
            provider: None,
            by: None,
            fault: None,
            allowed: Vec::new(),
            sent,
            kind: None,
            refused: None,
            audited_elsewhere: false,
            echoed: Vec::new(),
            admitted: None,
        }
    }

    /// Counts the call against what its caller and tenant may ask for.
    ///
    /// # Errors
    /// They ask for more than that.
    pub fn admit(&mut self, running: &Running) -> Result<()> {
        if let (Some(limits), Some(caller)) = (&running.rate_limits, &self.caller) {
            self.admitted = Some(Arc::new(limits.admit(caller)?));
        }
        Ok(())
    }

    /// Notes that access rules refused the call.
    pub fn refuse(&mut self, refusal: Refusal, provider: Option<ProviderId>) {
        self.refused = Some((refusal, provider));
    }
}

/// What of a caller's head travels on with questions asked on its behalf.
#[derive(Clone, Debug, Default)]
pub struct OnBehalf {
    /// The caller's credential, for providers that take it as it is.
    pub authorization: Option<HeaderValue>,
    /// The trace it belongs to (W3C Trace Context).
    pub traceparent: Option<HeaderValue>,
    /// Vendors' notes on that trace.
    pub tracestate: Option<HeaderValue>,
}

impl OnBehalf {
    /// Takes the fields out of a head.
    pub fn of(headers: &http::HeaderMap) -> Self {
        Self {
            authorization: headers.get(http::header::AUTHORIZATION).cloned(),
            traceparent: headers.get("traceparent").cloned(),
            tracestate: headers.get("tracestate").cloned(),
        }
    }
}

impl OnBehalf {
    /// Tells callers' own credentials apart, by a hash under a key that this process made up: what was read with one
    /// is nobody else's (decision 17). Empty without one.
    pub fn identity(&self) -> Arc<str> {
        static FINGERPRINTS: OnceLock<Fingerprints> = OnceLock::new();
        let Some(own) = &self.authorization else { return Arc::from("") };
        let hash = FINGERPRINTS.get_or_init(Fingerprints::new).of(&[own.as_bytes()]);
        Arc::from(format!("{hash:032x}"))
    }
}
