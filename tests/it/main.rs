//! Black box: the built binary as separate processes, over TCP, killed with SIGKILL.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop at once and say where"
)]
#![expect(unreachable_pub, reason = "tests are read by their names")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod addons;
mod administrators;
mod audit;
mod automatic;
mod bounds;
mod canary;
mod cloudpipe;
mod commands;
mod conformance;
mod crash;
mod events;
mod extension;
mod greeting;
mod hops;
mod http;
mod http2;
mod identity;
mod mediated;
mod moved;
mod openid;
mod osb;
mod osb_added;
mod osb_broker;
mod osb_compressed;
mod osb_faults;
mod osb_hostile;
mod osb_left_out;
mod osb_lost;
mod osb_operations;
mod osb_pipes;
mod osb_reconcile;
mod outage;
mod peer_tokens;
mod peers;
mod providers;
mod tls;
mod tokens;
mod transfer;
mod upstream;
