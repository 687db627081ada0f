//! `standpipe pipes`: what an operator does to the pipes of a built-in broker that is running.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::AdminClient;
use crate::assemble::{self, Front};
use crate::config::{At, Config};

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the data of a pipe anew, or of all pipes of a resource: passwords, certificates, whatever its sources make
    Rotate {
        /// The resource
        resource: String,
        /// One of its pipes; all when absent
        pipe: Option<String>,
    },
}

/// Asks the server that holds the data.
pub(super) fn run(path: Option<PathBuf>, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let extensions = standpipe_extensions::all();
    let loaded = assemble::load(path.as_deref(), extensions, standpipe_extensions::RESERVED, Front::Proxy);
    let (config, _) = loaded.map_err(|problems| super::lines(&problems))?;
    let Command::Rotate { resource, pipe } = command;
    let provider = keeper(&config, &resource)?;
    let client = AdminClient::new(&config.admin).map_err(|error| error.to_string())?;
    let mut segments = vec!["providers", &provider, &resource];
    segments.extend(pipe.iter().flat_map(|pipe| ["pipes", pipe.as_str()]));
    segments.push("rotate");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(client.post(&segments)).map_err(|failure| failure.to_string())?;
    let what = pipe.map_or_else(|| format!("all pipes of {resource}"), |pipe| format!("{resource}/{pipe}"));
    writeln!(out, "{what} at {provider}: made anew").map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The provider that keeps a resource's pipes.
fn keeper(config: &Config, resource: &str) -> Result<String, String> {
    let mut known = Vec::new();
    for provider in &config.providers {
        let At::InProcess { table, .. } = &provider.at else { continue };
        let Some(resources) = table.get("resource").and_then(toml::Value::as_table) else { continue };
        if resources.contains_key(resource) {
            return Ok(provider.id.to_string());
        }
        known.extend(resources.keys().cloned());
    }
    let known = if known.is_empty() { "none is configured".to_owned() } else { known.join(", ") };
    Err(format!("no built-in broker of this configuration keeps pipes for {resource}; there are: {known}"))
}
