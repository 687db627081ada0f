//! Everything standpipe registers for a path: one `mod` and one line in [`all`] per extension.

use std::sync::Arc;

use standpipe_api::Extension;

pub mod addons;
mod answer;
pub mod cloudpipe;
pub mod env_file;
pub mod events;
mod incoming;
pub mod osb;
mod outside;
mod path;
mod schema;

/// First path segments of all faces, present and planned. No resource is reached under them.
pub const RESERVED: &[&str] = &[
    "providers",
    "v2",
    "offers",
    "needs",
    "pipes",
    "matches",
    "attachments",
    "addons",
    "image",
    "volume",
    "compute",
    "network",
    "identity",
    "ends",
    "peer",
    "oauth2",
    "events",
    ".well-known",
];

/// Every extension, in the order in which they are asked.
pub fn all() -> Vec<Box<dyn Extension>> {
    let resources = Arc::new(cloudpipe::Resources::default());
    let brokers = Arc::new(osb::Brokers::default());
    let services = Arc::new(osb::pipes::Services::new(brokers.clone(), resources.clone()));
    vec![
        Box::new(osb::pipes::OsbPipes::new(services.clone())),
        Box::new(cloudpipe::Cloudpipe::new(resources.clone())),
        Box::new(cloudpipe::Aggregate::new(resources.clone()).beside(services)),
        Box::new(cloudpipe::RoutePipes::new(resources.clone())),
        Box::new(cloudpipe::Rewrite::new(resources)),
        Box::new(cloudpipe::mediate::Mediate::default()),
        Box::new(cloudpipe::TellPeers),
        Box::new(cloudpipe::broker::CloudpipeBroker::default()),
        Box::new(osb::Osb::new(brokers.clone())),
        Box::new(addons::Addons::new(brokers)),
        Box::new(osb::broker::OsbBroker::default()),
        Box::new(events::Events::default()),
    ]
}
