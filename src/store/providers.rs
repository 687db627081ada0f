//! What was said of providers at run time, as the store sees it.

use standpipe_api::{Availability, ProviderId, Resource};

use super::SecretBytes;

/// What is kept of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptProvider {
    /// Its name.
    pub name: ProviderId,
    /// What it was registered with, opened; `None` for one that stands in the configuration.
    pub registration: Option<SecretBytes>,
    /// Whether it takes anything new.
    pub availability: Availability,
}

/// When a provider is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// When no mapping leads to it.
    WhenEmpty,
    /// Whatever leads to it.
    Forced,
}

/// What mappings lead to a provider, tombstones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many there are.
    pub count: u64,
    /// The first few, in key order.
    pub some: Vec<Resource>,
}
