//! Whose turn it is to be asked about: each broker has places of its own, so that one that is slow holds up nobody else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use standpipe_api::{Provider, ProviderId, RecordKey, Timestamp};

use super::operation::Operation;

/// Operations of one broker that are asked about at once, at most.
const AT_ONCE: usize = 16;
/// The same of all brokers together, unless there are more brokers than that: each has one place at least.
const AT_ONCE_IN_ALL: usize = 512;
/// Operations that wait for their turn, of all brokers together.
const MOST_WAITING: usize = 20_000;

/// Those that wait longest come first, so that everybody's turn comes.
type Waiting = BTreeSet<(Timestamp, RecordKey)>;

/// What is due, as one look at all operations found it.
pub(super) struct Due {
    lanes: BTreeMap<ProviderId, Lane>,
    places: usize,
}

/// What is due and what is being asked about, by broker.
#[derive(Default)]
pub(super) struct Lanes(RefCell<BTreeMap<ProviderId, Lane>>);

struct Lane {
    provider: Provider,
    at_once: usize,
    waiting: Waiting,
    asked: BTreeSet<RecordKey>,
}

/// An operation whose broker may be asked now: nobody else here is at it before [`Lanes::next`] is told.
pub(super) struct Turn {
    /// The broker.
    pub(super) provider: Provider,
    /// The operation's row.
    pub(super) key: RecordKey,
}

impl Due {
    /// Nothing yet. The brokers share all places, and none takes another's.
    pub(super) fn of(brokers: Vec<Provider>) -> Self {
        let number = brokers.len().max(1);
        let at_once = (AT_ONCE_IN_ALL / number).clamp(1, AT_ONCE);
        let lane = |provider| Lane { provider, at_once, waiting: Waiting::new(), asked: BTreeSet::new() };
        let lanes = brokers.into_iter().map(|provider| (provider.id.clone(), lane(provider))).collect();
        Self { lanes, places: (MOST_WAITING / number).max(1) }
    }

    /// Lets an operation wait, unless there are too many that have waited longer: then its turn comes at a later look.
    pub(super) fn add(&mut self, operation: &Operation) {
        let Some(lane) = self.lanes.get_mut(&operation.provider) else { return };
        lane.waiting.insert((operation.asked_at, operation.key()));
        if lane.waiting.len() > self.places {
            lane.waiting.pop_last();
        }
    }
}

impl Lanes {
    /// Whether somebody here is asking about an operation.
    pub(super) fn is_asked(&self, operation: &Operation) -> bool {
        let lanes = self.0.borrow();
        lanes.get(&operation.provider).is_some_and(|lane| lane.asked.contains(&operation.key()))
    }

    /// What is due is what has been found now. What may begin at once, as far as there are places; each is told of when it is
    /// done.
    pub(super) fn begin(&self, due: Due) -> Vec<Turn> {
        let mut lanes = self.0.borrow_mut();
        let before = std::mem::replace(&mut *lanes, due.lanes);
        for (id, lane) in before {
            // Whoever is at one is so until it says otherwise, even if the broker is no longer there.
            let asked = lane.asked.clone();
            let now = lanes.entry(id).or_insert(Lane { waiting: Waiting::new(), ..lane });
            now.asked = asked;
        }
        lanes.retain(|_, lane| !lane.waiting.is_empty() || !lane.asked.is_empty());
        lanes.values_mut().flat_map(|lane| std::iter::from_fn(|| lane.take())).collect()
    }

    /// Nobody is at an operation any more; the next of its broker may begin.
    pub(super) fn next(&self, done: &Turn) -> Option<Turn> {
        let mut lanes = self.0.borrow_mut();
        let lane = lanes.get_mut(&done.provider.id)?;
        lane.asked.remove(&done.key);
        lane.take()
    }

    /// Begins nothing any more.
    pub(super) fn close(&self) {
        self.0.borrow_mut().values_mut().for_each(|lane| lane.waiting.clear());
    }
}

impl Lane {
    fn take(&mut self) -> Option<Turn> {
        while self.asked.len() < self.at_once {
            let (_, key) = self.waiting.pop_first()?;
            if self.asked.insert(key.clone()) {
                return Some(Turn { provider: self.provider.clone(), key });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use standpipe_api::Resource;
    use standpipe_api::testing::provider;

    use super::super::OperationKind;
    use super::super::tests::operation;
    use super::*;
    use crate::osb::dialect::{INSTANCE, NAME};

    fn due(brokers: usize, operations: impl Iterator<Item = (usize, usize)>) -> Due {
        let mut due = Due::of((0..brokers).map(|number| provider(&number.to_string(), NAME)).collect());
        for (broker, number) in operations {
            due.add(&Operation {
                provider: broker.to_string().into(),
                resource: Resource::new(INSTANCE, number.to_string()),
                // The last was asked about longest ago.
                asked_at: Timestamp::from_millis(1_000_000 - i64::try_from(number).unwrap()),
                ..operation(OperationKind::Create)
            });
        }
        due
    }

    #[test]
    fn no_broker_takes_anothers_places_and_all_together_have_so_many() {
        for (brokers, each) in [(1, AT_ONCE), (2, AT_ONCE), (100, 5), (1_000, 1)] {
            let lanes = Lanes::default();
            let turns = lanes.begin(due(brokers, (0..brokers).flat_map(|at| (0..20).map(move |n| (at, n)))));
            assert_eq!(turns.len(), brokers * each);
            assert!(lanes.begin(due(brokers, (0..20).map(|number| (0, number)))).is_empty(), "all are taken");
        }
        let many = due(10, (0..2 * MOST_WAITING).map(|number| (0, number)));
        assert_eq!(many.lanes.values().map(|lane| lane.waiting.len()).sum::<usize>(), MOST_WAITING / 10);
    }

    #[test]
    fn those_that_have_waited_longest_come_first_and_nobody_is_asked_about_twice_at_once() {
        let lanes = Lanes::default();
        let all = || due(1, (0..AT_ONCE + 2).map(|number| (0, number)));
        let mut turns = lanes.begin(all());
        let is_of = |turn: &Turn, number: usize| turn.key.contains(&format!("/{number}/"));
        assert!(is_of(&turns[0], AT_ONCE + 1) && is_of(&turns[1], AT_ONCE));
        assert!(lanes.begin(all()).is_empty());
        let first = turns.remove(0);
        let next = lanes.next(&first).unwrap();
        assert!(is_of(&next, AT_ONCE + 1), "it is still due, and nobody is at it");
        assert!(
            is_of(&lanes.next(&turns[1]).unwrap(), AT_ONCE - 1),
            "nobody asks twice about the one between"
        );
        lanes.close();
        assert!(lanes.next(&turns[2]).is_none());
    }
}
