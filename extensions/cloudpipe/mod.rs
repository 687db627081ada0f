//! cloudpipe: pipes between apps and backing services, and the offers and needs they are made from.
//!
//! [`Cloudpipe`] brings the dialect and keeps the lists of configured resources; [`Aggregate`] answers `/offers`,
//! `/needs` and `/pipes` for all providers at once; [`RoutePipes`] finds what the root paths mean;
//! [`Rewrite`] makes links in answers point at standpipe; [`mediate`] makes standpipe the other party of pipes;
//! [`TellPeers`] tells other standpipes of new ones. [`broker`] is a broker of our own.

mod aggregate;
mod bases;
pub mod broker;
mod dialect;
mod listing;
pub mod mediate;
mod resources;
mod rewrite;
mod route_pipes;
mod settings;
pub(crate) mod shape;
mod tell_peers;
mod token;

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use standpipe_api::{Background, Dialect, Extension, Result};

pub use aggregate::{Aggregate, Besides, Listed, Takes};
pub use bases::Bases;
pub use dialect::CloudpipeDialect;
pub(crate) use dialect::{PIPE, RESOURCE};
pub use resources::Resources;
pub use rewrite::{Rewrite, rewrite_links};
pub use route_pipes::RoutePipes;
pub use tell_peers::TellPeers;

/// The dialect, and the lists of resources in the background.
pub struct Cloudpipe {
    resources: Arc<Resources>,
}

impl Cloudpipe {
    /// Keeps its lists where the other extensions of this folder read them.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources }
    }
}

#[async_trait(?Send)]
impl Extension for Cloudpipe {
    fn name(&self) -> &'static str {
        "cloudpipe"
    }

    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        vec![Arc::new(CloudpipeDialect::new(self.resources.clone()))]
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        resources::keep(self.resources.clone(), background).await;
        Ok(())
    }
}
