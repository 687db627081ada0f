//! Deadlines for thousands of waits on one core, coarse and cheap.
//!
//! A timer per request costs a twentieth of a plain forward. Here a wait notes its waker in a slot, and one
//! task per core looks at all slots every `TICK`; a deadline is met at most one tick late.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How late a deadline may be noticed.
const TICK: Duration = Duration::from_millis(50);

/// The deadlines of one core.
#[derive(Clone, Default)]
pub struct Deadlines(Rc<Inner>);

#[derive(Default)]
struct Inner {
    slots: RefCell<Slots>,
    first: Notify,
}

#[derive(Default)]
struct Slots {
    waits: Vec<Option<(Instant, Waker)>>,
    free: Vec<usize>,
}

/// The deadline passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer in time")]
pub struct Elapsed;

/// A place in the list of waits; leaves it when dropped.
pub struct Slot {
    at: usize,
    deadlines: Rc<Inner>,
}

impl Deadlines {
    /// Wakes waits whose deadline has passed. Runs as long as its core.
    pub async fn run(self) {
        loop {
            if self.0.slots.borrow().is_empty() {
                self.0.first.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.0.slots.borrow().wake_before(now());
        }
    }

    /// Waits for a future until a deadline that may move: it is asked for again whenever it seems to have passed.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline passes first.
    pub async fn within<F: Future>(
        &self,
        deadline: impl Fn() -> Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut slot: Option<Slot> = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let deadline = deadline();
            match &slot {
                None => slot = Some(self.wait(deadline, cx.waker())),
                Some(_) if now() >= deadline => return Poll::Ready(Err(Elapsed)),
                Some(slot) => slot.renew(deadline, cx.waker()),
            }
            Poll::Pending
        })
        .await
    }

    /// Notes a waker to be woken soon after a deadline.
    pub fn wait(&self, deadline: Instant, waker: &Waker) -> Slot {
        let mut slots = self.0.slots.borrow_mut();
        if slots.is_empty() {
            self.0.first.notify_one();
        }
        let wait = Some((deadline, waker.clone()));
        let at = match slots.free.pop() {
            Some(at) => {
                if let Some(slot) = slots.waits.get_mut(at) {
                    *slot = wait;
                }
                at
            }
            None => {
                slots.waits.push(wait);
                slots.waits.len() - 1
            }
        };
        Slot { at, deadlines: self.0.clone() }
    }
}

impl Slots {
    fn is_empty(&self) -> bool {
        self.waits.len() == self.free.len()
    }

    fn wake_before(&self, now: Instant) {
        self.waits
            .iter()
            .flatten()
            .filter(|(deadline, _)| *deadline <= now)
            .for_each(|(_, waker)| waker.wake_by_ref());
    }
}

impl Slot {
    /// Moves the deadline.
    pub fn renew(&self, deadline: Instant, waker: &Waker) {
        if let Some(Some((at, known))) = self.deadlines.slots.borrow_mut().waits.get_mut(self.at) {
            *at = deadline;
            known.clone_from(waker);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.deadlines.slots.borrow_mut();
        if let Some(wait) = slots.waits.get_mut(self.at) {
            *wait = None;
            slots.free.push(self.at);
        }
    }
}

/// The clock that deadlines are measured with; tokio's, so that tests can pause it.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::task::LocalSet;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline_and_not_before() {
        let local = LocalSet::new();
        let deadlines = Deadlines::default();
        local.spawn_local(deadlines.clone().run());
        local
            .run_until(async {
                let start = now();
                let end = start + Duration::from_secs(3);
                let waited = deadlines.within(|| end, std::future::pending::<()>()).await;
                assert_eq!(waited, Err(Elapsed));
                assert!((end..end + TICK * 2).contains(&now()));
                assert_eq!(
                    deadlines.within(|| end, async { 7 }).await,
                    Ok(7),
                    "what is ready is never too late"
                );
                assert!(deadlines.0.slots.borrow().is_empty());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn progress_moves_the_deadline() {
        let local = LocalSet::new();
        let deadlines = Deadlines::default();
        local.spawn_local(deadlines.clone().run());
        local
            .run_until(async {
                let last = Rc::new(Cell::new(now()));
                let start = now();
                let worker = last.clone();
                let upload = async move {
                    for _ in 0..10 {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        worker.set(now());
                    }
                    std::future::pending::<()>().await;
                };
                let waited = deadlines.within(|| last.get() + Duration::from_secs(2), upload).await;
                assert_eq!(waited, Err(Elapsed));
                assert!(now() - start >= Duration::from_secs(12));
            })
            .await;
    }
}
