//! What is counted per call: fixed arrays of atomics, no allocation, no lock, no text.
//!
//! The exporter's own histogram keeps every sample until the next scrape and allocates on the way; these
//! are on the path of every call, so they are kept here and written out by [`Calls::render`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use standpipe_api::{Error, ErrorKind, Operation, ProviderId};

use super::metrics::{head, label_value, name};

/// Upper bounds of the latency buckets in nanoseconds, with their labels in seconds.
const BUCKETS: [(u64, &str); 15] = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
];

/// How a call ended: the provider's answer by class, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The provider answered 1xx or 2xx.
    Success,
    /// The provider answered 3xx.
    Redirection,
    /// The provider answered 4xx.
    ClientError,
    /// The provider answered 5xx.
    ServerError,
    /// Standpipe refused the request: it was the caller's mistake.
    Refused,
    /// The provider could not be asked, or what it answered could not be used.
    Unreachable,
    /// The provider did not answer in time.
    Timeout,
    /// Standpipe itself failed or was full.
    Failed,
    /// The caller went away first.
    Abandoned,
}

impl CallOutcome {
    const ALL: [Self; 9] = [
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::Failed,
        Self::Abandoned,
    ];

    /// The outcome of a call that a provider answered.
    pub fn answered(status: StatusCode) -> Self {
        match status.as_u16() {
            ..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// The outcome of a call that standpipe answered with an error of its own.
    pub fn failed(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::CouldNotAsk | ErrorKind::NotSent | ErrorKind::Nonsense => Self::Unreachable,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Overloaded | ErrorKind::StoreUnavailable | ErrorKind::Internal => Self::Failed,
            ErrorKind::Unauthenticated
            | ErrorKind::Forbidden
            | ErrorKind::BadRequest
            | ErrorKind::Invalid
            | ErrorKind::Busy
            | ErrorKind::NoRoute
            | ErrorKind::MethodNotAllowed
            | ErrorKind::UnknownResource
            | ErrorKind::Ambiguous
            | ErrorKind::Conflict
            | ErrorKind::BodyTooLarge
            | ErrorKind::BodyBroken
            | ErrorKind::HeadTooLarge
            | ErrorKind::RateLimited
            | ErrorKind::NotImplemented
            | ErrorKind::Loop => Self::Refused,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The figures of one operation at one provider, shared by all cores.
#[derive(Debug, Default)]
pub struct CallMetrics {
    outcomes: [AtomicU64; CallOutcome::ALL.len()],
    /// Not cumulative; the last one has no upper bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanos: AtomicU64,
}

impl CallMetrics {
    /// Counts one ended call: three atomic additions.
    pub fn record(&self, outcome: CallOutcome, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(bound, _)| *bound < nanos);
        for count in [self.outcomes.get(outcome as usize), self.buckets.get(bucket)].into_iter().flatten() {
            count.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(nanos, Relaxed);
    }
}

/// The figures of a provider's operations, found by position instead of by name.
#[derive(Clone, Debug)]
pub struct ProviderMetrics {
    operations: Box<[Arc<CallMetrics>]>,
    other: Arc<CallMetrics>,
}

impl ProviderMetrics {
    /// The figures of the operation at this place in the list that [`super::Metrics::provider`] was given;
    /// past its end those of `other`.
    pub fn at(&self, position: usize) -> &CallMetrics {
        self.operations.get(position).unwrap_or(&self.other)
    }

    /// The figures of calls whose operation the dialect does not know.
    pub fn other(&self) -> &CallMetrics {
        &self.other
    }
}

/// All figures per call. Entries stay when a reload removes a provider: counters never go back.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<BTreeMap<ProviderId, BTreeMap<&'static str, Arc<CallMetrics>>>>);

impl Calls {
    pub(super) fn provider(&self, provider: &ProviderId, operations: &[&'static str]) -> ProviderMetrics {
        let mut providers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = providers.entry(provider.clone()).or_default();
        let mut figures = |name: &&'static str| known.entry(name).or_default().clone();
        ProviderMetrics {
            operations: operations.iter().map(&mut figures).collect(),
            other: figures(&Operation::OTHER.name),
        }
    }

    /// Appends both families in the text format of Prometheus. Operations never called are left out.
    pub(super) fn render(&self, out: &mut String) {
        let providers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let called: Vec<Series> = providers
            .iter()
            .flat_map(|(provider, operations)| operations.iter().map(move |entry| (provider, entry)))
            .map(|(provider, (operation, figures))| Series::read(provider, operation, figures))
            .filter(|series| series.calls() > 0)
            .collect();
        head(out, name::REQUESTS, "counter");
        called.iter().for_each(|series| series.outcomes(out));
        head(out, name::REQUEST_SECONDS, "histogram");
        called.iter().for_each(|series| series.histogram(out));
    }
}

/// One reading of the figures, so that a histogram's count is the sum of its buckets.
struct Series {
    labels: String,
    outcomes: [u64; CallOutcome::ALL.len()],
    buckets: [u64; BUCKETS.len() + 1],
    nanos: u64,
}

impl Series {
    fn read(provider: &ProviderId, operation: &str, figures: &CallMetrics) -> Self {
        let (provider, operation) = (label_value(provider.as_str()), label_value(operation));
        Self {
            labels: format!("provider=\"{provider}\",operation=\"{operation}\""),
            outcomes: figures.outcomes.each_ref().map(|count| count.load(Relaxed)),
            buckets: figures.buckets.each_ref().map(|count| count.load(Relaxed)),
            nanos: figures.nanos.load(Relaxed),
        }
    }

    fn calls(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn outcomes(&self, out: &mut String) {
        let counted = CallOutcome::ALL.iter().zip(self.outcomes).filter(|(_, count)| *count > 0);
        for (outcome, count) in counted {
            let (name, labels, outcome) = (name::REQUESTS, &self.labels, outcome.label());
            let _infallible = writeln!(out, "{name}{{{labels},outcome=\"{outcome}\"}} {count}");
        }
    }

    fn histogram(&self, out: &mut String) {
        let (name, labels) = (name::REQUEST_SECONDS, &self.labels);
        let bounds = BUCKETS.iter().map(|(_, label)| *label).chain(["+Inf"]);
        let mut total = 0;
        for (bound, count) in bounds.zip(self.buckets) {
            total += count;
            let _infallible = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let seconds = Duration::from_nanos(self.nanos).as_secs_f64();
        let _infallible = writeln!(out, "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(calls: &Calls) -> String {
        let mut out = String::new();
        calls.render(&mut out);
        out
    }

    #[test]
    fn a_recorded_call_appears_in_its_counter_and_in_every_bucket_above_it() {
        let calls = Calls::default();
        let alpha = calls.provider(&"alpha".into(), &["list", "read"]);
        alpha.at(1).record(CallOutcome::Success, Duration::from_millis(1));
        alpha.at(1).record(CallOutcome::Timeout, Duration::from_secs(60));
        let text = rendered(&calls);
        for line in [
            r#"standpipe_requests_total{provider="alpha",operation="read",outcome="2xx"} 1"#,
            r#"standpipe_requests_total{provider="alpha",operation="read",outcome="timeout"} 1"#,
            r#"standpipe_request_seconds_bucket{provider="alpha",operation="read",le="0.0005"} 0"#,
            r#"standpipe_request_seconds_bucket{provider="alpha",operation="read",le="0.001"} 1"#,
            r#"standpipe_request_seconds_bucket{provider="alpha",operation="read",le="30"} 1"#,
            r#"standpipe_request_seconds_bucket{provider="alpha",operation="read",le="+Inf"} 2"#,
            r#"standpipe_request_seconds_sum{provider="alpha",operation="read"} 60.001"#,
            r#"standpipe_request_seconds_count{provider="alpha",operation="read"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("list"), "an operation nobody called has no series:\n{text}");
    }

    #[test]
    fn a_provider_that_comes_back_after_a_reload_keeps_its_counts() {
        let calls = Calls::default();
        calls.provider(&"alpha".into(), &["read"]).at(0).record(CallOutcome::Success, Duration::ZERO);
        calls.provider(&"alpha".into(), &["new", "read"]).at(1).record(CallOutcome::Success, Duration::ZERO);
        assert!(rendered(&calls).contains(r#"operation="read",outcome="2xx"} 2"#));
    }

    #[test]
    fn a_position_past_the_operations_counts_as_other() {
        let calls = Calls::default();
        calls.provider(&"alpha".into(), &["read"]).at(7).record(CallOutcome::Refused, Duration::ZERO);
        assert!(rendered(&calls).contains(r#"operation="other",outcome="refused"} 1"#));
    }

    #[test]
    fn every_outcome_is_counted_under_its_own_label() {
        let calls = Calls::default();
        let alpha = calls.provider(&"alpha".into(), &[]);
        for (index, outcome) in CallOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            alpha.other().record(outcome, Duration::ZERO);
        }
        assert_eq!(rendered(&calls).matches("outcome=").count(), CallOutcome::ALL.len());
    }
}
