//! `standpipe check`: every mistake a start would find, without starting.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::Explained;
use crate::assemble::{self, Front, Tools};
use crate::config::{At, Listener};
use crate::registry::AtRunTime;
use crate::telemetry::Metrics;

/// Prints a summary of a good configuration, or what its access rules say of a caller.
///
/// # Errors
/// The mistakes, a line each.
pub(super) fn run(
    path: Option<PathBuf>,
    explained: Explained,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let lines = |problems| super::lines(&problems);
    let read = || (standpipe_extensions::all(), standpipe_extensions::RESERVED);
    let (extensions, reserved) = read();
    let mistakes = assemble::mistakes(path.as_deref(), extensions, reserved, Front::Proxy);
    if !mistakes.is_empty() {
        return Err(lines(mistakes));
    }
    let (extensions, reserved) = read();
    let loaded = assemble::load(path.as_deref(), extensions, reserved, Front::Proxy);
    let (config, parts) = loaded.map_err(lines)?;
    let said = AtRunTime::default();
    let running = assemble::running(config, said, &parts, &Tools::idle(), &Metrics::new(), None);
    let running = running.map_err(lines)?;
    if let Some(code) = explained.print(&running, &parts, out)? {
        return Ok(code);
    }
    let config = &running.config;
    let mut text =
        format!("public url   {}\ndata         {}\n", config.public_url, config.data_dir.display());
    for listener in &config.listeners {
        let faces =
            if listener.faces.is_empty() { "all faces".to_owned() } else { listener.faces.join(", ") };
        let tls = if listener.tls.is_some() { ", TLS" } else { "" };
        text += &format!(
            "listener     {} ({faces}; callers: {}{tls})\n",
            listener.address,
            listener.callers.join(", ")
        );
    }
    if !config.access.is_empty() {
        text += &format!("access       {} rules; --as CALLER explains them\n", config.access.len());
    }
    for provider in &config.providers {
        let at = match &provider.at {
            At::Url(url) => url.clone(),
            At::InProcess { kind, .. } => format!("{kind} in this process"),
        };
        text += &format!("provider     {} ({}, {at})\n", provider.id, provider.dialect);
    }
    let basic = |listener: &Listener| listener.callers.iter().any(|caller| caller == "basic");
    if config.callers.is_empty() && config.listeners.iter().any(basic) {
        text += "note         a listener's callers name basic, and there is no [[caller]]: nobody comes in by password\n";
    }
    if config.providers.is_empty() {
        text += super::serving::NO_PROVIDERS;
    }
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
