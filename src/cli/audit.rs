//! `standpipe audit`: who changed what, and what access rules refused.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::AdminClient;
use super::mappings::Failure;
use super::table::Table;
use crate::assemble::{self, Front};
use crate::store::{AuditEvent, AuditFilter, AuditRow, DataDirLock, Sqlite, Store as _, StoreError};

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

/// Where the audit is: in a running server, or in the file itself (decision 21).
enum Source {
    Server(AdminClient),
    File(Box<Sqlite>, #[expect(dead_code, reason = "held for as long as the file is open")] DataDirLock),
}

impl Source {
    async fn page(&self, filter: &AuditFilter, after: i64, limit: usize) -> Result<Vec<AuditRow>, Failure> {
        match self {
            Self::Server(client) => client.audit(filter, after, limit).await,
            Self::File(store, _) => {
                store.audit(filter, after, limit).await.map_err(|error| Failure::Store(error.into()))
            }
        }
    }
}

/// Carries out a command.
pub(super) fn run(path: Option<PathBuf>, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let extensions = standpipe_extensions::all();
    let loaded = assemble::load(path.as_deref(), extensions, standpipe_extensions::RESERVED, Front::Proxy);
    let (config, _) = loaded.map_err(|problems| super::lines(&problems))?;
    let source = match DataDirLock::take(&config.data_dir) {
        Err(StoreError::Locked { .. }) => {
            Source::Server(AdminClient::new(&config.admin).map_err(|error| error.to_string())?)
        }
        Err(error) => return Err(error.to_string()),
        Ok(lock) => {
            let store = crate::serve::open_store(&config).map_err(|error| error.to_string())?;
            Source::File(Box::new(store), lock)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let Command::List { which, json } = command;
    match runtime.block_on(list(&source, which, json.then_some(Json), out)) {
        // Who reads only the first lines wanted only those.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.to_string()),
    }
}

/// JSON Lines in place of a table.
struct Json;

async fn list(source: &Source, which: Which, json: Option<Json>, out: &mut dyn Write) -> Result<(), Failure> {
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
        let rows = source.page(&filter, after, left.min(PAGE)).await?;
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

/// The rule's refusal, or else whose fault a failure was.
fn why(event: &AuditEvent) -> String {
    match (&event.refused, &event.fault) {
        (Some(refused), _) => format!("access:{refused}"),
        (None, Some(fault)) => fault.clone(),
        (None, None) => "-".into(),
    }
}
