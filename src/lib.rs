//! standpipe: one endpoint in front of many providers' brokers.

pub mod config;

pub mod listener;

pub mod route;

pub mod store;
