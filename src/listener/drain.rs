//! The end: finish what is in flight, take nothing new.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells everybody that the end has begun. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    begin: Arc<watch::Sender<bool>>,
    begun: watch::Receiver<bool>,
}

impl Drain {
    /// Not begun.
    pub fn new() -> Self {
        let (begin, begun) = watch::channel(false);
        Self { begin: Arc::new(begin), begun }
    }

    /// Begins the end.
    pub fn begin(&self) {
        self.begin.send_replace(true);
    }

    /// Whether the end has begun.
    pub fn has_begun(&self) -> bool {
        // Only the beginning is ever sent, and nobody has marked it as seen here; a failure would mean that it is over.
        self.begun.has_changed().unwrap_or(true)
    }

    /// Resolves when the end begins.
    pub async fn begun(&self) {
        let mut begun = self.begun.clone();
        // The sender lives in every clone, so that waiting never fails.
        let _ended = begun.wait_for(|begun| *begun).await;
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}
