//! standpipe: one endpoint in front of many providers' brokers.
//!
//! # The map
//! One request's way is [`proxy`]: read that first. The steps it calls stand below in the order in which a request
//! meets them; no step calls another. What they have in common follows: the engine and its providers, the
//! handles that extensions get, the store, and what an operator sees.
//!
//! The engine knows no API: that knowledge is in the crate `standpipe-extensions`, behind the contract of
//! `standpipe-api`.

pub mod proxy;

pub mod call;

pub mod error;

// The steps.

pub mod listener;

pub mod identify;

pub mod route;

pub mod resolve;

pub mod token;

pub mod forward;

pub mod learn;

pub mod respond;

// What the steps have in common.

pub mod engine;

pub mod providers;

pub mod notes;

pub mod registry;

pub mod access;

pub mod rate_limit;

pub mod audit;

pub mod query;

pub mod renewal;

pub mod vault;

pub mod store;

pub mod single_flight;

pub mod jwt;

pub mod issuer;

pub mod peer;

pub mod fingerprint;

mod pem;

pub mod fail_point;

// What extensions get.

pub mod federation;

pub mod background;

pub mod announce;

pub mod outbound;

// From a command line to a running process, and its operator.

pub mod config;

pub mod assemble;

pub mod serve;

pub mod standalone;

pub mod telemetry;

pub mod admin;

pub mod cli;
