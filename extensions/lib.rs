//! Everything standpipe registers for a path: one `mod` and one line in [`all`] per extension.

use standpipe_api::Extension;

pub mod cloudpipe;

/// Every extension, in the order in which they are asked.
pub fn all() -> Vec<Box<dyn Extension>> {
    Vec::new()
}
