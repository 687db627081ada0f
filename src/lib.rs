//! standpipe: one endpoint in front of many providers' brokers.

pub mod config;
pub mod error;

pub mod listener;

pub mod identify;

pub mod route;

pub mod token;

pub mod providers;

pub mod forward;

pub mod respond;

pub mod store;
