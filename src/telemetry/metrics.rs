//! The registry behind `/metrics`.
//!
//! Counters are handles made once and kept. Gauges belong to whoever has the figure (pool, breaker, listener,
//! store) and are asked for at each scrape, so that nobody keeps a second copy up to date.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use standpipe_api::ProviderId;

use super::calls::{Calls, ProviderMetrics};

/// The metrics' names. The module's table says what each means.
pub mod name {
    /// Calls ended, by provider, operation and outcome.
    pub const REQUESTS: &str = "standpipe_requests_total";
    /// Seconds from a call's head to its answer's head.
    pub const REQUEST_SECONDS: &str = "standpipe_request_seconds";
    /// Calls not ended.
    pub const REQUESTS_IN_FLIGHT: &str = "standpipe_requests_in_flight";
    /// Open client connections.
    pub const CONNECTIONS: &str = "standpipe_connections";
    /// Request heads refused before they became calls, by `reason`.
    pub const REFUSED_HEADS: &str = "standpipe_refused_heads_total";
    /// 0 closed, 1 half-open, 2 open, by `provider`.
    pub const BREAKER_STATE: &str = "standpipe_breaker_state";
    /// Requests at a `provider`.
    pub const PROVIDER_IN_FLIGHT: &str = "standpipe_provider_in_flight";
    /// Upstream connections by `provider` and `state`.
    pub const POOL_CONNECTIONS: &str = "standpipe_pool_connections";
    /// 1 for each `note` that extensions leave on a `provider`.
    pub const PROVIDER_NOTES: &str = "standpipe_provider_notes";
    /// Rows of the resource mapping table.
    pub const MAPPINGS: &str = "standpipe_mappings";
    /// Lookups of mappings answered from memory.
    pub const MAPPING_CACHE_HITS: &str = "standpipe_mapping_cache_hits_total";
    /// Lookups of mappings that asked the store.
    pub const MAPPING_CACHE_MISSES: &str = "standpipe_mapping_cache_misses_total";
    /// Tokens asked for at token endpoints, by `provider` and `outcome`.
    pub const TOKEN_EXCHANGES: &str = "standpipe_token_exchanges_total";
    /// Tokens taken from memory, by `provider`.
    pub const TOKEN_CACHE_HITS: &str = "standpipe_token_cache_hits_total";
    /// Panics caught at a hook's edge, by `extension`.
    pub const HOOK_PANICS: &str = "standpipe_hook_panics_total";
    /// Background work that ended with an error, by `extension`.
    pub const BACKGROUND_FAILURES: &str = "standpipe_background_failures_total";
    /// Access events dropped because nobody read them in time.
    pub const ACCESS_LOG_DROPPED: &str = "standpipe_access_log_dropped_total";
    /// Calls that access rules refused, by `reason`.
    pub const ACCESS_REFUSED: &str = "standpipe_access_refused_total";
    /// Calls over a limit of their caller or tenant, by `reason`.
    pub const RATE_LIMITED: &str = "standpipe_rate_limited_total";
    /// Audit events dropped because the store did not take them in time.
    pub const AUDIT_DROPPED: &str = "standpipe_audit_dropped_total";
    /// Log lines dropped for the same reason.
    pub const LOG_DROPPED: &str = "standpipe_log_dropped_total";
}

const HELP: [(&str, &str); 21] = [
    (name::REQUESTS, "Calls ended, by provider, operation and outcome."),
    (name::REQUEST_SECONDS, "Seconds from a call's head to its answer's head."),
    (name::REQUESTS_IN_FLIGHT, "Calls not ended."),
    (name::CONNECTIONS, "Open client connections."),
    (name::REFUSED_HEADS, "Request heads refused before they became calls."),
    (name::BREAKER_STATE, "Circuit breaker: 0 closed, 1 half-open, 2 open."),
    (name::PROVIDER_IN_FLIGHT, "Requests at a provider."),
    (name::POOL_CONNECTIONS, "Upstream connections."),
    (name::PROVIDER_NOTES, "What an operator should know of a provider."),
    (name::MAPPINGS, "Rows of the resource mapping table."),
    (name::MAPPING_CACHE_HITS, "Lookups of mappings answered from memory."),
    (name::MAPPING_CACHE_MISSES, "Lookups of mappings that asked the store."),
    (name::TOKEN_EXCHANGES, "Tokens asked for at token endpoints."),
    (name::TOKEN_CACHE_HITS, "Tokens taken from memory."),
    (name::HOOK_PANICS, "Panics caught at a hook's edge."),
    (name::BACKGROUND_FAILURES, "Background work that ended with an error."),
    (name::ACCESS_LOG_DROPPED, "Access events dropped because nobody read them in time."),
    (name::ACCESS_REFUSED, "Calls that access rules refused."),
    (name::RATE_LIMITED, "Calls over a limit of their caller or tenant."),
    (name::AUDIT_DROPPED, "Audit events dropped because the store did not take them in time."),
    (name::LOG_DROPPED, "Log lines dropped because nobody read them in time."),
];

const METADATA: Metadata<'static> = Metadata::new("standpipe", Level::INFO, None);

/// Takes one gauge: its [`name`], its labels, its value.
pub type GaugeSink<'a> = dyn FnMut(&'static str, &[(&'static str, &str)], f64) + 'a;

/// Something with figures that go up and down.
pub trait Gauges: Send + Sync {
    /// Hands over the figures of this moment. Called at each scrape; must not wait.
    fn collect(&self, sink: &mut GaugeSink<'_>);
}

/// All metrics of the process; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

struct Registry {
    recorder: PrometheusRecorder,
    exporter: PrometheusHandle,
    calls: Calls,
    gauges: Mutex<Vec<Arc<dyn Gauges>>>,
}

impl Metrics {
    /// A registry with nothing counted.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, help) in HELP {
            recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
        }
        let exporter = recorder.handle();
        Self(Arc::new(Registry { recorder, exporter, calls: Calls::default(), gauges: Mutex::default() }))
    }

    /// A counter with one of the [`name`]s. Make it once, keep it: this allocates, incrementing does not.
    pub fn counter(&self, name: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.0.recorder.register_counter(&key(name, labels), &METADATA)
    }

    /// The figures of a provider, for the names of its dialect's operations in the dialect's order. The same
    /// provider gets the same figures again after a reload.
    pub fn provider(&self, provider: &ProviderId, operations: &[&'static str]) -> ProviderMetrics {
        self.0.calls.provider(provider, operations)
    }

    /// Asks `gauges` at each scrape from now on.
    pub fn watch(&self, gauges: Arc<dyn Gauges>) {
        self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner).push(gauges);
    }

    /// Everything in the text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = self.0.exporter.render();
        self.0.calls.render(&mut text);
        self.render_gauges(&mut text);
        text
    }

    /// The exporter would show a removed provider's last value for ever; these lines live for one scrape.
    fn render_gauges(&self, out: &mut String) {
        let sources = self.0.gauges.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut families: BTreeMap<&'static str, String> = BTreeMap::new();
        for source in sources {
            source.collect(&mut |name, labels, value| {
                let labels: Vec<String> =
                    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", label_value(value))).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _infallible = writeln!(families.entry(name).or_default(), "{name}{labels} {value}");
            });
        }
        for (name, lines) in families {
            head(out, name, "gauge");
            out.push_str(&lines);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> =
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
    Key::from_parts(name, labels)
}

/// The two lines before a family.
pub(super) fn head(out: &mut String, name: &str, kind: &str) {
    let help = HELP.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help);
    let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value as the text format wants it.
pub(super) fn label_value(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::super::CallOutcome;
    use super::*;

    #[derive(Default)]
    struct Breaker(AtomicBool);

    impl Gauges for Breaker {
        fn collect(&self, sink: &mut GaugeSink<'_>) {
            let open = if self.0.load(Ordering::Relaxed) { 2.0 } else { 0.0 };
            sink(name::BREAKER_STATE, &[("provider", "alpha")], open);
        }
    }

    #[test]
    fn gauges_are_read_at_each_scrape() {
        let metrics = Metrics::new();
        let breaker = Arc::new(Breaker::default());
        metrics.watch(breaker.clone());
        assert!(metrics.render().contains("standpipe_breaker_state{provider=\"alpha\"} 0\n"));
        breaker.0.store(true, Ordering::Relaxed);
        assert!(metrics.render().contains("standpipe_breaker_state{provider=\"alpha\"} 2\n"));
    }

    #[test]
    fn the_same_counter_made_twice_counts_once() {
        let metrics = Metrics::new();
        for _ in 0..2 {
            metrics.counter(name::HOOK_PANICS, &[("extension", "aggregate")]).increment(1);
        }
        let text = metrics.render();
        assert!(text.contains("standpipe_hook_panics_total{extension=\"aggregate\"} 2\n"), "{text}");
        assert!(text.contains("# HELP standpipe_hook_panics_total Panics"), "{text}");
    }

    #[test]
    fn labels_are_only_those_of_the_table() {
        let metrics = Metrics::new();
        let alpha = metrics.provider(&"alpha".into(), &["read"]);
        alpha.at(0).record(CallOutcome::Success, Duration::from_millis(3));
        metrics.watch(Arc::new(Breaker::default()));
        metrics.counter(name::REFUSED_HEADS, &[("reason", "bare line feed")]).increment(1);
        let bounded = ["provider", "operation", "outcome", "reason", "extension", "state", "note", "le"];
        for line in metrics.render().lines().filter(|line| !line.starts_with('#')) {
            let Some((_, rest)) = line.split_once('{') else { continue };
            let (labels, _) = rest.rsplit_once('}').unwrap();
            for label in labels.split("\",") {
                let (name, _) = label.split_once('=').unwrap();
                assert!(bounded.contains(&name), "{line}");
            }
        }
    }

    #[test]
    fn every_metric_stands_in_the_modules_table() {
        let table = include_str!("mod.rs");
        for (name, help) in HELP {
            assert!(table.contains(&format!("| `{name}` |")), "{name}: {help}");
        }
    }
}
