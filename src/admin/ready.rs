//! Whether the store answers, asked at most once a second however often somebody wants to know.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::OperatorMappings;

/// How long an answer of the store is believed.
const FRESH: Duration = Duration::from_secs(1);

/// How long the store may take to answer before it counts as failing.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Readiness(Mutex<Option<Probe>>);

struct Probe {
    at: Instant,
    problem: Option<String>,
}

impl Readiness {
    /// Why the store cannot be relied on, if so. Those who ask at the same time wait for one probe, at most a second.
    pub(super) async fn store_problem(&self, mappings: &OperatorMappings) -> Option<String> {
        let mut last = self.0.lock().await;
        if let Some(probe) = last.as_ref().filter(|probe| probe.at.elapsed() < FRESH) {
            return probe.problem.clone();
        }
        let problem = match timeout(PATIENCE, mappings.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::warn!(error = %error.log_text(), "the store failed its health probe");
                Some(format!("store: {}", error.public()))
            }
            Err(_) => Some(format!("store: no answer within {PATIENCE:?}")),
        };
        *last = Some(Probe { at: Instant::now(), problem: problem.clone() });
        problem
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{FakeEngine, FakeTable, Health};
    use super::*;

    fn operator(table: &Arc<FakeTable>) -> OperatorMappings {
        OperatorMappings::new(table.clone(), Arc::new(FakeEngine::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_once_a_second() {
        let table = Arc::new(FakeTable::default());
        let (mappings, readiness) = (operator(&table), Readiness::default());
        for _ in 0..10 {
            assert_eq!(readiness.store_problem(&mappings).await, None);
        }
        assert_eq!(table.probes(), 1);
        table.set_health(Health::Failing);
        tokio::time::advance(FRESH).await;
        assert!(readiness.store_problem(&mappings).await.unwrap().starts_with("store: "));
        assert_eq!(table.probes(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_a_store_that_fails() {
        let table = Arc::new(FakeTable::default());
        table.set_health(Health::Hanging);
        let problem = Readiness::default().store_problem(&operator(&table)).await;
        assert_eq!(problem.unwrap(), "store: no answer within 1s");
    }
}
