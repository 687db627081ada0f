//! The cloudpipe dialect: pipes, offers, needs.

pub mod broker;
