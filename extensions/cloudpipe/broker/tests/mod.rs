//! The broker as a whole, over records in memory: what callers see, and what survives a crash.

mod engine;
mod house;
mod life;
mod paths;
mod races;
mod rotation;
mod sources;
