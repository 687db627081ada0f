//! The command line: words in, lines and an exit code out.

pub mod addons;
mod admin_client;
mod arguments;
pub mod audit;
mod check;
mod demo;
mod embedded;
mod explain;
mod hash_password;
mod local;
pub mod mappings;
mod opened;
pub mod outbox;
pub mod peers;
pub mod pipes;
pub mod providers;
mod serving;
mod source;
mod table;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod vault;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use standpipe_api::{Kind, Problems, ProviderId};

pub use admin_client::AdminClient;
pub use arguments::{Arguments, Command};
pub use explain::Explained;
pub use local::LocalMappings;
pub use source::Chunks;

use crate::admin::KnownEndpoints;
use crate::assemble::{self, Front, Tools};
use crate::config::Config;
use crate::engine::Running;
use crate::store::{DataDirLock, Mappings, StoreError};
use crate::telemetry::Metrics;

/// Carries out a command; what it prints goes to `out` and `err`.
pub fn run(arguments: Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let outcome = match arguments.command {
        Command::Serve { config } => serving::run(config.path(), err),
        Command::Broker { config } => serving::alone(config.path(), "broker", err),
        Command::OsbBroker { config } => serving::alone(config.path(), "osb_broker", err),
        Command::Demo { data_dir, port } => demo::run(data_dir, port, out),
        Command::Check { explained, config } => check::run(config.path(), *explained, out),
        Command::Audit { command, config } => audit::run(config.path(), command, out),
        Command::Addons { command, flags } => addons::run(&flags, command, out),
        Command::Usage { asked, config } => usage::run(config.path(), &asked, out, err),
        Command::HashPassword => hash_password::run(out),
        Command::Pipes { command, config } => pipes::run(config.path(), command, out),
        Command::Providers { command, config } => providers::run(config.path(), command, out),
        Command::Peers { command, config } => peers::run(config.path(), command, out),
        Command::Tokens { command, config } => vault::tokens(config.path(), command, out),
        Command::Keys { command, config } => vault::keys(config.path(), command, out),
        Command::Mappings { command, config } => mappings_command(config.path(), *command, out),
        Command::Outbox { command, config } => outbox_command(config.path(), command, out),
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

/// Where the tables are: with the server that holds the data directory, else in the file itself (decision 21).
enum Tables {
    Served(AdminClient),
    Free { mappings: Arc<Mappings>, known: Arc<Known>, _lock: DataDirLock },
}

/// What a command does with tables that are not there yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// It makes them.
    Made,
    /// It has nothing to say.
    Refused,
}

impl Tables {
    fn of(path: Option<std::path::PathBuf>, absent: Absent) -> Result<Self, String> {
        let loaded = assemble::load(
            path.as_deref(),
            standpipe_extensions::all(),
            standpipe_extensions::RESERVED,
            Front::Proxy,
        );
        let (config, parts) = loaded.map_err(|problems| lines(&problems))?;
        if absent == Absent::Refused {
            has_data(&config)?;
        }
        match DataDirLock::take(&config.data_dir) {
            Err(StoreError::Locked { .. }) => {
                AdminClient::new(&config.admin).map(Self::Served).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
            Ok(lock) => {
                let store = crate::serve::open_store(&config).map_err(|error| error.to_string())?;
                let said = crate::serve::read_said(&store).map_err(|error| error.to_string())?;
                let mappings = Arc::new(Mappings::new(Arc::new(store), config.resolve.cached_mappings));
                let running = assemble::running(config, said, &parts, &Tools::idle(), &Metrics::new(), None);
                let running = running.map_err(|found| lines(&found))?;
                Ok(Self::Free { mappings, known: Arc::new(Known(running, parts.known.kinds)), _lock: lock })
            }
        }
    }
}

/// An empty answer about the wrong folder would look like a true one.
fn has_data(config: &Config) -> Result<(), String> {
    let folder = config.data_dir.display();
    let missing = || format!("no standpipe has kept data in {folder}; name its configuration with --config");
    if config.data_dir.exists() { Ok(()) } else { Err(missing()) }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

fn mappings_command(
    path: Option<std::path::PathBuf>,
    command: mappings::Command,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let (runtime, text) = (runtime()?, |error: mappings::Failure| error.to_string());
    let absent = if command.writes() { Absent::Made } else { Absent::Refused };
    match Tables::of(path, absent)? {
        Tables::Served(remote) => runtime.block_on(mappings::run(command, &remote, out)).map_err(text),
        Tables::Free { mappings, known, _lock } => {
            let local = LocalMappings::new(mappings, known);
            runtime.block_on(mappings::run(command, &local, out)).map_err(text)
        }
    }
}

fn outbox_command(
    path: Option<std::path::PathBuf>,
    command: outbox::Command,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let runtime = runtime()?;
    match Tables::of(path, Absent::Refused)? {
        Tables::Served(remote) => runtime.block_on(outbox::run(command, &remote, out)),
        Tables::Free { mappings, .. } => runtime.block_on(outbox::run(command, &*mappings, out)),
    }
}

/// What a configuration that is not being served knows of endpoints and kinds.
struct Known(Running, Vec<Kind>);

impl KnownEndpoints for Known {
    fn known_endpoint(&self, provider: &ProviderId, endpoint: Option<&str>) -> Result<(), String> {
        self.0.known_endpoint(provider, endpoint)
    }

    fn known_kind(&self, kind: &Kind) -> Result<(), String> {
        crate::config::known_kind(kind.as_str(), &self.1)
    }
}
