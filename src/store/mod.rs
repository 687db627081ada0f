//! Mappings and records that survive.
