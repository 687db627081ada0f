//! `standpipe audit`: who changed what, and what access rules refused.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::mappings::Failure;
use super::opened::Opened;
use super::table::Table;
use crate::store::{AuditEvent, AuditFilter, AuditRow, Store as _};

/// Events read at once.
const PAGE: usize = 250;

/// What to do with the audit.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List events as a table, oldest first
    List {
        /// Which events
        #[command(flatten)]
        which: Which,
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// Many events.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// Only those of this caller, as basic:ann
    #[arg(long)]
    caller: Option<String>,
    /// Only those at this provider
    #[arg(long)]
    provider: Option<String>,
    /// Only those behind the event with this id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    after: i64,
    /// At most so many
    #[arg(long)]
    limit: Option<usize>,
}

async fn page(
    tables: &Opened,
    filter: &AuditFilter,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRow>, Failure> {
    match tables {
        Opened::Server(client) => client.audit(filter, after, limit).await,
        Opened::File(store, _) => {
            store.audit(filter, after, limit).await.map_err(|error| Failure::Store(error.into()))
        }
    }
}

/// Carries out a command.
pub(super) fn run(path: Option<PathBuf>, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let tables = Opened::of(path)?;
    let runtime = super::runtime()?;
    let Command::List { which, json } = command;
    match runtime.block_on(list(&tables, which, json.then_some(Json), out)) {
        // Who reads only the first lines wanted only those.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.to_string()),
    }
}

/// JSON Lines in place of a table.
struct Json;

async fn list(tables: &Opened, which: Which, json: Option<Json>, out: &mut dyn Write) -> Result<(), Failure> {
    let filter =
        AuditFilter { caller: which.caller.map(Into::into), provider: which.provider.map(Into::into) };
    let (mut after, mut left) = (which.after, which.limit.unwrap_or(usize::MAX));
    let head = [
        "ID",
        "TIME",
        "CALLER",
        "TENANT",
        "METHOD",
        "PATH",
        "OPERATION",
        "PROVIDER",
        "STATUS",
        "WHY",
        "CALL",
    ];
    let mut lines = match json {
        Some(Json) => Lines::Json(io::BufWriter::new(out)),
        None => Lines::Table(Table::new(out, &head)),
    };
    while left > 0 {
        let rows = page(tables, &filter, after, left.min(PAGE)).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        left -= rows.len().min(left);
        rows.iter().try_for_each(|row| lines.row(row))?;
    }
    Ok(lines.end()?)
}

enum Lines<'a> {
    Json(io::BufWriter<&'a mut dyn Write>),
    Table(Table<'a>),
}

impl Lines<'_> {
    fn row(&mut self, row: &AuditRow) -> io::Result<()> {
        match self {
            Self::Json(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }
            Self::Table(table) => {
                let AuditEvent { at, call, caller, method, path, status, .. } = &row.event;
                let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
                let event = &row.event;
                table.row(&[
                    &row.id.to_string(),
                    &at.to_string(),
                    &or_dash(caller.as_ref().map(|caller| caller.as_str())),
                    &or_dash(event.tenant.as_deref()),
                    method,
                    path,
                    &or_dash(event.operation.as_deref()),
                    &or_dash(event.provider.as_ref().map(|provider| provider.as_str())),
                    &status.to_string(),
                    &why(event),
                    call,
                ])
            }
        }
    }

    fn end(self) -> io::Result<()> {
        match self {
            Self::Json(mut out) => out.flush(),
            Self::Table(table) => table.end(),
        }
    }
}

/// The rule's refusal, or else whose fault a failure was, or else what an extension made of the answer.
fn why(event: &AuditEvent) -> String {
    let refused = event.refused.as_ref().map(|refused| format!("access:{refused}"));
    refused.or_else(|| event.fault.clone()).or_else(|| event.remark.clone()).unwrap_or_else(|| "-".into())
}
