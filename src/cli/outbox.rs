//! `standpipe outbox`: durable jobs, such as news for other brokers, that wait or have failed.

use std::io::Write;
use std::process::ExitCode;

use async_trait::async_trait;
use clap::Subcommand;
use serde::Deserialize;
use standpipe_api::{Error, Result as ApiResult};

use super::AdminClient;
use super::mappings::Failure;
use super::table::Table;
use crate::admin::{Entry, Outbox};

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the jobs that wait or have failed, with the reason
    List {
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Try a job now
    Retry {
        /// The job, as list shows it
        job: String,
    },
    /// Remove a job: what it was to do is not done
    Drop {
        /// The job, as list shows it
        job: String,
    },
}

/// Carries out a command on the outbox of a server, or of a file that no server holds.
pub(super) async fn run(
    command: Command,
    outbox: &dyn Outbox,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let text = |error: Error| error.log_text();
    let written = |error: std::io::Error| error.to_string();
    match command {
        Command::List { json } => list(outbox, json, out).await?,
        Command::Retry { job } => {
            let entry = named(outbox, &job).await?;
            outbox.retry(&entry.extension, &entry.id).await.map_err(text)?;
            writeln!(out, "{job}: due now").map_err(written)?;
        }
        Command::Drop { job } => {
            let entry = named(outbox, &job).await?;
            outbox.remove(&entry.extension, &entry.id).await.map_err(text)?;
            writeln!(out, "{job}: dropped").map_err(written)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(outbox: &dyn Outbox, json: bool, out: &mut dyn Write) -> Result<(), String> {
    let written = |error: std::io::Error| error.to_string();
    let all = all(outbox).await?;
    if json {
        for entry in &all {
            let line = serde_json::to_string(entry).map_err(|error| error.to_string())?;
            writeln!(out, "{line}").map_err(written)?;
        }
        return Ok(());
    }
    let mut table = Table::new(out, &["JOB", "STATE", "ATTEMPTS", "DUE", "EXTENSION", "REASON"]);
    for entry in &all {
        let (attempts, due) = (entry.attempts.to_string(), entry.due_at.to_string());
        let reason = entry.reason.as_deref().unwrap_or_default();
        table.row(&[&entry.id, &entry.state, &attempts, &due, &entry.extension, reason]).map_err(written)?;
    }
    table.end().map_err(written)
}

async fn all(outbox: &dyn Outbox) -> Result<Vec<Entry>, String> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let page = outbox.page(all.last()).await.map_err(|error| error.log_text())?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

async fn named(outbox: &dyn Outbox, job: &str) -> Result<Entry, String> {
    let mut found = all(outbox).await?.into_iter().filter(|entry| entry.id == job);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (None, _) => Err(format!("there is no job {job}; standpipe outbox list shows all")),
        (Some(_), Some(_)) => Err(format!("several extensions have a job {job}; use the admin listener")),
    }
}

#[async_trait]
impl Outbox for AdminClient {
    async fn page(&self, after: Option<&Entry>) -> ApiResult<Vec<Entry>> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Entry>,
        }
        let after = after.map(crate::admin::cursor);
        let page: Page = self.read("/outbox", ("after", after.as_deref())).await.map_err(failed)?;
        Ok(page.items)
    }

    async fn retry(&self, extension: &str, id: &str) -> ApiResult<bool> {
        self.post(&["outbox", extension, id, "retry"]).await.map(|()| true).map_err(failed)
    }

    async fn remove(&self, extension: &str, id: &str) -> ApiResult<bool> {
        self.delete(&["outbox", extension, id]).await.map(|()| true).map_err(failed)
    }
}

fn failed(failure: Failure) -> Error {
    Error::internal(failure.to_string())
}
