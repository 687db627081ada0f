//! The broker without an engine.
