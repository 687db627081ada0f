//! Open Service Broker (spec 2.17): many brokers behind `/v2`, as if they were one.
//!
//! [`OsbDialect`] says where a request goes and what an answer means. [`Osb`] polls the catalogs, answers `/v2/catalog` for
//! all brokers at once (`catalog`, `face`), writes operations down and settles them (`operations`, `recording`), and sees to
//! what federation forces (`leading`, `prefix`, `visibility`). Nothing else is judged here: whatever a broker answers directly
//! it answers through standpipe. [`broker`] is a broker of our own.

pub mod broker;
mod catalog;
mod cleanup;
pub(crate) mod client;
mod dialect;
pub mod event;
mod face;
mod front;
mod hidden;
mod ids;
mod leading;
pub(crate) mod offered;
mod operations;
pub mod pipes;
mod prefix;
mod question;
mod recording;
mod settings;
mod sign;
mod tell;
mod visibility;

use std::sync::{Arc, OnceLock};

pub use dialect::OsbDialect;
pub use front::Osb;
use standpipe_api::{Federation, ProviderId};

use self::catalog::Catalogs;
use self::dialect::NAME;
use self::operations::Operations;
use self::visibility::Visibility;

/// What standpipe knows of the OSB brokers behind it; shared by the extensions of this folder.
#[derive(Default)]
pub struct Brokers {
    catalogs: Arc<Catalogs>,
    operations: Arc<Operations>,
    visibility: OnceLock<Visibility>,
}

impl Brokers {
    /// Sets the rules of who sees what; once, when the configuration is read.
    fn show(&self, rules: Visibility) {
        // Nothing configures an extension twice.
        let _first = self.visibility.set(rules);
    }

    /// Whether a caller sees a provider, at work or not.
    fn sees(fed: &dyn Federation, id: &ProviderId) -> bool {
        fed.sees_everything() || fed.provider(id).is_some() || fed.left_out(NAME).contains(id)
    }

    fn visibility(&self) -> Option<&Visibility> {
        self.visibility.get()
    }
}
