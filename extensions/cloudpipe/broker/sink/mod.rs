//! Where an app's configuration goes.
//!
//! In: all pipes of a resource. Out: the app configured from them. It never changes a pipe.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use standpipe_api::{Problem, Problems, Result};

/// A checked sink table.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkSettings {}

impl SinkSettings {
    /// Reads one sink table.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub fn read(_table: &toml::Table) -> Result<Self, Problems> {
        Err(vec![Problem::at("kind", "no kind of sink is known")])
    }
}

/// A place configuration goes.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Configures the app of one resource from all its pipes, in id order; idempotent.
    ///
    /// # Errors
    /// The app could not be configured.
    async fn apply(&self, resource: &str, pipes: &[Value]) -> Result<()>;
}

/// Builds a sink.
pub fn build(settings: &SinkSettings) -> Arc<dyn Sink> {
    match *settings {}
}
