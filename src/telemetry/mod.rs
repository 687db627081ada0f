//! What standpipe tells an operator: log lines, one access event per call, metrics.
//!
//! In: `tracing` events, [`AccessEvent`]s, counted calls. Out: lines on standard error, text for `/metrics`.
//! Nothing here makes a core wait: lines travel over a bounded queue to a thread that writes them, and what
//! does not fit is counted and dropped. No header, body, query or token ever enters.
//!
//! The metrics, with all their labels (each bounded by configuration or by code, never by a caller). A provider's
//! name stays as long as the process, also when the provider is removed; a process takes at most 4096 names of providers
//! that are registered at run time.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `standpipe_requests_total` | provider, operation, outcome | calls ended |
//! | `standpipe_request_seconds` | provider, operation | histogram: a call's head to its answer's head |
//! | `standpipe_requests_in_flight` | | calls not ended |
//! | `standpipe_connections` | | open client connections |
//! | `standpipe_refused_heads_total` | reason | request heads refused before they became calls |
//! | `standpipe_breaker_state` | provider | 0 closed, 1 half-open, 2 open |
//! | `standpipe_provider_in_flight` | provider | requests at a provider |
//! | `standpipe_pool_connections` | provider, state | upstream connections, `idle` or `active` |
//! | `standpipe_provider_notes` | provider, note | 1 for each thing to know of it: `catalog-stale`, `catalog-conflict`, `ids-changed`, `left-behind` |
//! | `standpipe_mappings` | | rows of the resource mapping table |
//! | `standpipe_mapping_cache_hits_total` | | lookups answered from memory |
//! | `standpipe_mapping_cache_misses_total` | | lookups that asked the store |
//! | `standpipe_token_exchanges_total` | provider, outcome | tokens asked for: `success`, `refused`, `failed` |
//! | `standpipe_token_cache_hits_total` | provider | tokens taken from memory |
//! | `standpipe_hook_panics_total` | extension | panics caught at a hook's edge |
//! | `standpipe_background_failures_total` | extension | background work that ended with an error |
//! | `standpipe_access_log_dropped_total` | | access events dropped because nobody read them in time |
//! | `standpipe_access_refused_total` | reason | calls that access rules refused: `unseen`, `method`, `own` |
//! | `standpipe_rate_limited_total` | reason | calls over a limit: `caller-rate`, `caller-in-flight`, `tenant-...` |
//! | `standpipe_audit_dropped_total` | | audit events dropped because the store did not take them in time |
//! | `standpipe_log_dropped_total` | | log lines dropped for the same reason |
//!
//! Calls that never got a provider are counted under the provider `-`.

mod access;
mod calls;
mod lines;
mod log;
mod metrics;

pub use access::{AccessEvent, AccessLog};
pub use calls::{CallMetrics, CallOutcome, ProviderMetrics};
pub use log::{Telemetry, TelemetryError, init};
pub use metrics::{GaugeSink, Gauges, Metrics, name};
