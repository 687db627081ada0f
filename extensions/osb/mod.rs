//! Open Service Broker (spec 2.17): many brokers behind `/v2`, as if they were one.
//!
//! [`OsbDialect`] says where a request goes and what an answer means. [`Osb`] polls the catalogs, answers `/v2/catalog` for
//! all brokers at once, and sees to what federation forces: the swap conflict, ids with a prefix, groups of identical
//! offerings. Nothing else is judged here: whatever a broker answers directly it answers through standpipe.

mod catalog;
mod dialect;
pub mod event;
mod front;
mod ids;
mod settings;

pub use catalog::Catalogs;
pub use dialect::OsbDialect;
pub use front::Osb;
