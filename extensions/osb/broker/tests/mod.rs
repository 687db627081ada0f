//! The broker without an engine: requests in, answers and records out.

mod catalog;
mod cleanup;
mod faults;
mod hooks;
mod house;
mod life;
mod operations;
mod refusals;
mod settings;
