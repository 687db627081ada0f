//! All that was said of providers at run time, as one value that a configuration is put to work with.

use std::collections::BTreeSet;
use std::sync::Arc;

use standpipe_api::{Availability, Problems, Provider, ProviderId};

use super::Registration;
use crate::route::DialectId;
use crate::store::{Store, StoreError};

/// Registered providers in the order of their registration, and which of all providers drain.
#[derive(Clone, Default)]
pub struct AtRunTime {
    registered: Vec<Arc<Registration>>,
    draining: BTreeSet<ProviderId>,
}

/// A registered provider that cannot be put to work, and why.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Its name.
    pub name: ProviderId,
    /// What it speaks, if that is known here.
    pub dialect: Option<DialectId>,
    /// What extensions know of it; `None`: its dialect cannot read its own keys.
    pub public: Option<Provider>,
    /// Every mistake, with its key path within the provider's table.
    pub problems: Problems,
}

impl AtRunTime {
    /// What the store keeps.
    ///
    /// # Errors
    /// The store does not answer, or what it keeps is not what was written.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let mut said = Self::default();
        for kept in store.kept_providers().await? {
            if let Some(bytes) = &kept.registration {
                let unreadable = || StoreError::Row { what: "provider", found: kept.name.to_string() };
                let registration = Registration::of_bytes(kept.name.clone(), bytes);
                said.registered.push(Arc::new(registration.ok_or_else(unreadable)?));
            }
            if kept.availability == Availability::Draining {
                said.draining.insert(kept.name);
            }
        }
        Ok(said)
    }

    /// The registered providers.
    pub fn registered(&self) -> &[Arc<Registration>] {
        &self.registered
    }

    /// What a provider is registered with.
    pub fn registration(&self, name: &ProviderId) -> Option<&Arc<Registration>> {
        self.registered.iter().find(|registration| registration.name == *name)
    }

    /// Whether a provider takes anything new.
    pub fn availability(&self, name: &ProviderId) -> Availability {
        if self.draining.contains(name) { Availability::Draining } else { Availability::Active }
    }

    /// The same with a registration, in the place of one of that name, else behind the others.
    #[must_use]
    pub fn with(mut self, registration: Arc<Registration>) -> Self {
        match self.registered.iter_mut().find(|known| known.name == registration.name) {
            Some(known) => *known = registration,
            None => self.registered.push(registration),
        }
        self
    }

    /// The same without anything said of a provider.
    #[must_use]
    pub fn without(mut self, name: &ProviderId) -> Self {
        self.registered.retain(|known| known.name != *name);
        self.draining.remove(name);
        self
    }

    /// The same with another availability of a provider.
    #[must_use]
    pub fn with_availability(mut self, name: &ProviderId, availability: Availability) -> Self {
        match availability {
            Availability::Active => self.draining.remove(name),
            Availability::Draining => self.draining.insert(name.clone()),
        };
        self
    }
}
