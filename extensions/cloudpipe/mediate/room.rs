//! How many news may wait for one provider.

use std::cell::RefCell;
use std::collections::HashMap;

use standpipe_api::{Error, ProviderId, Result, State};

/// News waiting for one provider; more are not taken until some are delivered.
const MOST_WAITING: usize = 10_000;
/// Records counted at a time.
const PAGE: usize = 500;

/// How many more may wait for each provider. What waits is counted only when there is no room left: meanwhile nothing but what
/// takes room adds to it, and what is delivered makes more.
#[derive(Default)]
pub(super) struct Room(RefCell<HashMap<ProviderId, usize>>);

impl Room {
    /// Takes room for one.
    ///
    /// # Errors
    /// There is none, or the store does not answer.
    pub(super) async fn take(&self, provider: &ProviderId, state: &dyn State) -> Result<()> {
        let known = self.0.borrow().get(provider).copied().unwrap_or_default();
        let room = match known {
            0 => MOST_WAITING.saturating_sub(waiting(provider, state).await?),
            known => known,
        };
        let mut rooms = self.0.borrow_mut();
        let left = rooms.entry(provider.clone()).or_default();
        if *left == 0 {
            *left = room;
        }
        let full = || Error::internal(format!("{MOST_WAITING} news wait for {provider}"));
        *left = left.checked_sub(1).ok_or_else(full)?;
        Ok(())
    }
}

async fn waiting(provider: &ProviderId, state: &dyn State) -> Result<usize> {
    let prefix = format!("news/{provider}/");
    let (mut count, mut after) = (0, None);
    loop {
        let page = state.list(&prefix, after.as_deref(), PAGE).await?;
        count += page.len();
        match page.last().filter(|_| page.len() == PAGE && count < MOST_WAITING) {
            Some(last) => after = Some(last.key.clone()),
            None => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use standpipe_api::Change;
    use standpipe_api::testing::MemoryState;

    use super::*;

    async fn put(state: &MemoryState, nth: usize) {
        let put = Change::Put { key: format!("news/alpha/{nth:05}"), value: Bytes::new(), expected: None };
        state.commit(vec![put]).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn no_more_wait_than_may_and_what_is_delivered_makes_room() {
        let (state, room, alpha) = (MemoryState::default(), Room::default(), ProviderId::from("alpha"));
        for nth in 0..MOST_WAITING - 2 {
            put(&state, nth).await;
        }
        for nth in [MOST_WAITING - 2, MOST_WAITING - 1] {
            room.take(&alpha, &state).await.unwrap();
            put(&state, nth).await;
        }
        assert!(room.take(&alpha, &state).await.is_err());
        room.take(&"beta".into(), &state).await.unwrap();
        let first = state.list("news/alpha/", None, 1).await.unwrap().swap_remove(0);
        let delivered = Change::Remove { key: first.key, expected: first.revision };
        state.commit(vec![delivered]).await.unwrap().unwrap();
        room.take(&alpha, &state).await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_is_not_counted_for_each() {
        let (state, room, alpha) = (MemoryState::default(), Room::default(), ProviderId::from("alpha"));
        room.take(&alpha, &state).await.unwrap();
        for nth in 0..MOST_WAITING {
            put(&state, nth).await;
        }
        // A count would find them all.
        room.take(&alpha, &state).await.unwrap();
    }
}
