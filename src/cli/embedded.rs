//! A standpipe, or a broker alone, within the process of a command.

use std::path::Path;

use crate::assemble::{self, Front};
use crate::serve::Server;
use crate::telemetry::{AccessLog, Metrics};

/// Starts one with a configuration, which is written into a file: paths in it begin there. It logs nothing.
///
/// # Errors
/// What kept it from starting.
pub(super) fn start(file: &Path, text: &str, front: Front) -> Result<Server, String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let loaded =
        assemble::load(Some(file), standpipe_extensions::all(), standpipe_extensions::RESERVED, front);
    let (config, parts) = loaded.map_err(|problems| super::lines(&problems))?;
    Server::start(config, parts, &Metrics::new(), AccessLog::OFF).map_err(|error| error.to_string())
}
