//! The command line: words in, lines and an exit code out.

mod admin_client;
mod arguments;
mod check;
mod demo;
mod hash_password;
mod local;
pub mod mappings;
pub mod pipes;
mod serving;
mod source;
mod table;
#[cfg(test)]
mod tests;
pub mod vault;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use standpipe_api::{Problems, ProviderId};

pub use admin_client::AdminClient;
pub use arguments::{Arguments, Command};
pub use local::LocalMappings;
pub use source::Chunks;

use crate::admin::KnownEndpoints;
use crate::assemble::{self, Front, Tools};
use crate::engine::Running;
use crate::store::{DataDirLock, Mappings, StoreError};
use crate::telemetry::Metrics;

/// Carries out a command; what it prints goes to `out` and `err`.
pub fn run(arguments: Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let outcome = match arguments.command {
        Command::Serve { config } => serving::run(config.path(), Front::Proxy, err),
        Command::Broker { config } => serving::run(config.path(), Front::Broker, err),
        Command::Demo { data_dir, port } => demo::run(data_dir, port, out),
        Command::Check { config } => check::run(config.path(), out),
        Command::HashPassword => hash_password::run(out),
        Command::Pipes { command, config } => pipes::run(config.path(), command, out),
        Command::Tokens { command, config } => vault::tokens(config.path(), command, out),
        Command::Keys { command, config } => vault::keys(config.path(), command, out),
        Command::Mappings { command, config } => mappings_command(config.path(), *command, out),
    };
    match outcome {
        Ok(code) => code,
        Err(text) => {
            // Nowhere is left to say that standard error cannot be written.
            let _unwritable = writeln!(err, "{text}");
            ExitCode::FAILURE
        }
    }
}

/// All mistakes, a line each.
fn lines(problems: &Problems) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Through the server while it holds the data directory, else on the file itself (decision 21).
fn mappings_command(
    path: Option<std::path::PathBuf>,
    command: mappings::Command,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let (config, parts) = assemble::load(
        path.as_deref(),
        standpipe_extensions::all(),
        standpipe_extensions::RESERVED,
        Front::Proxy,
    )
    .map_err(|problems| lines(&problems))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let text = |error: mappings::Failure| error.to_string();
    match DataDirLock::take(&config.data_dir) {
        Err(StoreError::Locked { .. }) => {
            let remote = AdminClient::new(&config.admin).map_err(|error| error.to_string())?;
            runtime.block_on(mappings::run(command, &remote, out)).map_err(text)
        }
        Err(error) => Err(error.to_string()),
        Ok(_lock) => {
            let store = crate::serve::open_store(&config).map_err(|error| error.to_string())?;
            let mappings = Arc::new(Mappings::new(Arc::new(store), config.resolve.cached_mappings));
            let running = assemble::running(config, &parts, &Tools::idle(), &Metrics::new(), None)
                .map_err(|found| lines(&found))?;
            let local = LocalMappings::new(mappings, Arc::new(Known(running)));
            runtime.block_on(mappings::run(command, &local, out)).map_err(text)
        }
    }
}

/// What a configuration that is not being served knows of endpoints.
struct Known(Running);

impl KnownEndpoints for Known {
    fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String> {
        self.0.known_endpoint(provider, endpoint)
    }
}
