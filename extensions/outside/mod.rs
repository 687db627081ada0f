//! What is outside of standpipe and an operator's own: programs, servers, secrets kept elsewhere.

mod program;
pub(crate) mod secret;
mod server;

pub(crate) use program::{Program, anchored};
pub(crate) use server::Server;
