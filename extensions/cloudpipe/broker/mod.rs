//! The built-in broker.
