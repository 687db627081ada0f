//! What providers say they have: configured resources, catalogs. Published by extensions, read by every core.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use standpipe_api::{Hint, ProviderId};

/// Hints and the providers they lead to.
#[derive(Default)]
pub struct Index {
    published: Mutex<HashMap<ProviderId, Vec<Hint>>>,
    merged: ArcSwap<HashMap<Hint, Vec<ProviderId>>>,
}

impl Index {
    /// Replaces what some providers have.
    pub fn publish(&self, indexes: Vec<(ProviderId, Vec<Hint>)>) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.extend(indexes);
        let mut merged: HashMap<Hint, Vec<ProviderId>> = HashMap::new();
        for (provider, hints) in &*published {
            for hint in hints {
                let knowing = merged.entry(hint.clone()).or_default();
                if !knowing.contains(provider) {
                    knowing.push(provider.clone());
                    knowing.sort_unstable();
                }
            }
        }
        self.merged.store(Arc::new(merged));
    }

    /// Forgets a provider.
    pub fn forget(&self, provider: &ProviderId) {
        self.publish(vec![(provider.clone(), Vec::new())]);
        self.published.lock().unwrap_or_else(PoisonError::into_inner).remove(provider);
    }

    /// The providers that have it, by name.
    pub fn knowing(&self, hint: &Hint) -> Vec<ProviderId> {
        self.merged.load().get(hint).cloned().unwrap_or_default()
    }

    /// How many hints a provider has published.
    pub fn size(&self, provider: &ProviderId) -> usize {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.get(provider).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use standpipe_api::Kind;

    #[test]
    fn a_provider_replaces_what_it_has_and_leaves_the_others_alone() {
        let index = Index::default();
        let hint = |value: &str| Hint::new(Kind::of("resource"), value);
        index.publish(vec![("beta".into(), vec![hint("db")])]);
        index.publish(vec![("alpha".into(), vec![hint("db"), hint("app")])]);
        assert_eq!(index.knowing(&hint("db")), ["alpha".into(), "beta".into()]);
        index.publish(vec![("alpha".into(), vec![hint("app")])]);
        assert_eq!(index.knowing(&hint("db")), ["beta".into()]);
        assert_eq!(index.size(&"alpha".into()), 1);
    }
}
