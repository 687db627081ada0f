//! What one handle has heard of reloads and of wishes to ask a provider: each is told to it once.

use std::cell::{Cell, RefCell};

use standpipe_api::ProviderId;
use tokio::sync::watch;

use crate::registry::Wishes;

/// What a handle listens to, and what it was told. A clone is a handle of its own from then on.
#[derive(Clone)]
pub(super) struct Heard {
    reloads: watch::Receiver<u64>,
    wishes: watch::Receiver<Wishes>,
    told: Cell<u64>,
    granted: RefCell<Wishes>,
}

impl Heard {
    /// Nothing that was before is told.
    pub(super) fn new(reloads: watch::Receiver<u64>, wishes: watch::Receiver<Wishes>) -> Self {
        let (told, granted) = (Cell::new(*reloads.borrow()), RefCell::new(wishes.borrow().clone()));
        Self { reloads, wishes, told, granted }
    }

    /// Waits for a reload that this handle was not told of. All who wait on it are told.
    pub(super) async fn reloaded(&self) {
        let told = self.told.get();
        let mut reloads = self.reloads.clone();
        match reloads.wait_for(|count| *count != told).await {
            Ok(count) => self.told.set(*count),
            // The sender lives as long as the process; without it there is nothing to reload.
            Err(_) => std::future::pending().await,
        };
    }

    /// Waits for a wish that this handle was not told of. All who wait on it are told.
    pub(super) async fn refreshed(&self) -> ProviderId {
        let granted = self.granted.borrow().clone();
        let new = |wishes: &Wishes| {
            let mut wishes = wishes.iter();
            wishes
                .find(|(name, count)| granted.get(*name) != Some(count))
                .map(|(name, count)| (name.clone(), *count))
        };
        let mut wishes = self.wishes.clone();
        let heard =
            wishes.wait_for(|wishes| new(wishes).is_some()).await.ok().and_then(|wishes| new(&wishes));
        match heard {
            Some((name, count)) => {
                self.granted.borrow_mut().insert(name.clone(), count);
                name
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    /// Whether a wait ends at once.
    async fn now<T>(wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            Poll::Ready(match wait.as_mut().poll(context) {
                Poll::Ready(told) => Some(told),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_handle_is_told_once_of_each_reload_and_misses_none_while_it_works() {
        let (reloads, wishes) = (watch::Sender::new(0), watch::Sender::new(Wishes::new()));
        let heard = Heard::new(reloads.subscribe(), wishes.subscribe());
        assert_eq!(now(heard.reloaded()).await, None);
        reloads.send_modify(|count| *count += 1);
        let other = heard.clone();
        assert_eq!(now(heard.reloaded()).await, Some(()));
        assert_eq!(now(heard.reloaded()).await, None, "once");
        assert_eq!(now(other.reloaded()).await, Some(()), "each handle");
    }

    #[tokio::test]
    async fn wishes_for_one_provider_are_one_and_those_for_another_are_not_lost() {
        let (reloads, wishes) = (watch::Sender::new(0), watch::Sender::new(Wishes::new()));
        let heard = Heard::new(reloads.subscribe(), wishes.subscribe());
        let wish = |name: &str| wishes.send_modify(|wishes| *wishes.entry(name.into()).or_default() += 1);
        ["beta", "alpha", "beta"].into_iter().for_each(wish);
        assert_eq!(now(heard.refreshed()).await, Some("alpha".into()));
        assert_eq!(now(heard.refreshed()).await, Some("beta".into()));
        assert_eq!(now(heard.refreshed()).await, None);
        wish("beta");
        assert_eq!(now(heard.refreshed()).await, Some("beta".into()));
    }
}
