//! `standpipe mappings`: what an operator types, and what is printed for it.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use futures_util::stream::LocalBoxStream;
use http::StatusCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use standpipe_api::{BoxError, Kind, Mapping, Resource, Scope};

use super::source::{self, Chunks};
use super::table::Table;
use crate::admin::{Filter, ImportReport, MappingValue};

/// Lists, shows, changes, exports and imports where resources live.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List mappings as a table
    List {
        /// Which mappings
        #[command(flatten)]
        which: Which,
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show every field of one mapping
    Show(Key),
    /// Say where a resource lives; replaces only what was set, imported or forgotten before
    Set {
        /// The resource
        #[command(flatten)]
        key: Key,
        /// Where it lives
        #[command(flatten)]
        value: Value,
    },
    /// Remove one mapping, so that the resource is searched for anew
    Forget(Key),
    /// Write mappings as JSON Lines
    Export {
        /// Which mappings
        #[command(flatten)]
        which: Which,
        /// The file to write; standard output when absent
        file: Option<PathBuf>,
    },
    /// Read mappings as JSON Lines, in the form that export writes
    Import {
        /// The file to read; standard input when absent or -
        file: Option<PathBuf>,
    },
}

/// One resource.
#[derive(Clone, Debug, Args)]
pub struct Key {
    /// What it is, for example pipe or resource
    kind: String,
    /// Its id
    id: String,
    /// The resource it is named within
    #[arg(long)]
    parent: Option<String>,
    /// The tenant that chose its id, where tenants do
    #[arg(long)]
    scope: Option<String>,
}

/// Many mappings.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Only those at this provider
    #[arg(long)]
    provider: Option<String>,
    /// Only those of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only those named within this resource
    #[arg(long)]
    parent: Option<String>,
    /// Only those that this peer gave
    #[arg(long)]
    peer: Option<String>,
}

/// Where a resource lives.
#[derive(Clone, Debug, Args)]
pub struct Value {
    /// The provider it lives at
    #[arg(long)]
    provider: String,
    /// Its base URL, when that is not the provider's own
    #[arg(long)]
    endpoint: Option<String>,
    /// The scope inside the provider
    #[arg(long)]
    remote_scope: Option<String>,
    /// The alias of the credential to use
    #[arg(long)]
    credential: Option<String>,
    /// The caller it belongs to
    #[arg(long)]
    owner: Option<String>,
}

impl From<Key> for Resource {
    fn from(key: Key) -> Self {
        let scope = key.scope.map_or(Scope::SHARED, Scope::tenant);
        Self { kind: Kind::read(key.kind), parent: key.parent.map(Into::into), id: key.id.into(), scope }
    }
}

impl From<Which> for Filter {
    fn from(which: Which) -> Self {
        Self {
            provider: which.provider.map(Into::into),
            kind: which.kind.map(Kind::read),
            parent: which.parent.map(Into::into),
            peer: which.peer.map(Into::into),
        }
    }
}

impl From<Value> for MappingValue {
    fn from(value: Value) -> Self {
        Self {
            provider: value.provider.into(),
            endpoint: value.endpoint,
            remote_scope: value.remote_scope.map(Into::into),
            credential: value.credential.map(Into::into),
            owner: value.owner.map(Into::into),
            expires_at: None,
        }
    }
}

/// Where the mappings are: in a running server, or in the file itself (decision 21).
#[async_trait(?Send)]
pub trait MappingAccess {
    /// All rows that match, a page at a time.
    ///
    /// # Errors
    /// Server or store do not answer; also on the way.
    async fn rows(
        &self,
        filter: Filter,
    ) -> Result<LocalBoxStream<'static, Result<Mapping, Failure>>, Failure>;

    /// One row, if it is there.
    ///
    /// # Errors
    /// Server or store do not answer.
    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>, Failure>;

    /// Writes one row.
    ///
    /// # Errors
    /// It breaks a rule, another origin's row is there, server or store do not answer.
    async fn set(&self, resource: Resource, value: MappingValue) -> Result<(), Failure>;

    /// Removes one row. `false`: there was none.
    ///
    /// # Errors
    /// Server or store do not answer.
    async fn forget(&self, resource: &Resource) -> Result<bool, Failure>;

    /// Writes the rows of a stream of JSON Lines.
    ///
    /// # Errors
    /// The stream, server or store fail on the way.
    async fn import(&self, chunks: Chunks) -> Result<ImportReport, Failure>;
}

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed cannot be used.
    #[error("{0}")]
    Argument(String),
    /// There is no such row.
    #[error("there is no mapping of {0}; a resource within another needs --parent, one of a tenant --scope")]
    Unknown(Resource),
    /// The server said no.
    #[error("{detail}{}{advice}", if advice.is_empty() { "" } else { "; " })]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What is wrong.
        detail: String,
        /// What to do, or nothing.
        advice: String,
    },
    /// The server did not answer, or not in words we know.
    #[error("the admin listener at {at} cannot be used: {why}; is the server still running?")]
    Unreachable {
        /// Its address.
        at: String,
        /// What happened.
        why: BoxError,
    },
    /// The store, opened here, did not answer; or a row breaks a rule.
    #[error("{}{}{}", .0.log_text(), if .0.advice().is_empty() { "" } else { "; " }, .0.advice())]
    Store(#[from] standpipe_api::Error),
    /// The import's source failed.
    #[error("cannot read what to import: {0}")]
    Input(io::Error),
    /// The output failed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Runs one command, with results on `out` and progress, for people who look, on standard error.
///
/// # Errors
/// Why it did not work. An import that refused some lines has worked, with exit code 1.
pub async fn run(
    command: Command,
    access: &dyn MappingAccess,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let outcome = match command {
        Command::List { which, json: true } => export(access, which, out, &ProgressBar::hidden()).await,
        Command::List { which, json: false } => list(access, which, out).await,
        Command::Show(key) => show(access, key.into(), out).await,
        Command::Set { key, value } => set(access, key.into(), value.into(), out).await,
        Command::Forget(key) => forget(access, key.into(), out).await,
        Command::Export { which, file: None } => export(access, which, out, &ProgressBar::hidden()).await,
        Command::Export { which, file: Some(file) } => export_to(access, which, &file).await,
        Command::Import { file } => return import(access, file.as_deref(), out).await,
    };
    match outcome {
        // Who reads only the first lines wanted only those.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS),
    }
}

impl Command {
    /// Whether it makes sense before a standpipe has ever run.
    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Set { .. } | Self::Import { .. })
    }
}

async fn set(
    access: &dyn MappingAccess,
    resource: Resource,
    value: MappingValue,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let text = format!("{resource} is at {}", value.provider);
    access.set(resource, value).await?;
    writeln!(out, "{text}").map_err(Failure::Output)
}

async fn list(access: &dyn MappingAccess, which: Which, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = access.rows(which.into()).await?;
    let mut table =
        Table::new(out, &["KIND", "PARENT", "ID", "PROVIDER", "STATE", "ORIGIN", "UPDATED", "EXPIRES"]);
    while let Some(row) = rows.try_next().await? {
        let parent = row.resource.parent.as_ref().map_or("-", |parent| parent.as_str());
        let updated = row.updated_at.to_string();
        let origin = row.peer.as_ref().map(|peer| format!("{} by {peer}", row.origin.as_str()));
        let expires = row.expires_at.map_or_else(|| "-".to_owned(), |end| end.to_string());
        table.row(&[
            row.resource.kind.as_str(),
            parent,
            row.resource.id.as_str(),
            row.provider.as_str(),
            row.state.as_str(),
            origin.as_deref().unwrap_or(row.origin.as_str()),
            &updated,
            &expires,
        ])?;
    }
    Ok(table.end()?)
}

async fn show(access: &dyn MappingAccess, resource: Resource, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(row) = access.get(&resource).await? else { return Err(Failure::Unknown(resource)) };
    let mut table = Table::new(out, &[]);
    let mut field = |name: &str, value: Option<&str>| value.map_or(Ok(()), |value| table.row(&[name, value]));
    field("kind", Some(row.resource.kind.as_str()))?;
    field("parent", row.resource.parent.as_ref().map(|parent| parent.as_str()))?;
    field("id", Some(row.resource.id.as_str()))?;
    field("scope", Some(row.resource.scope.as_str()).filter(|scope| !scope.is_empty()))?;
    field("provider", Some(row.provider.as_str()))?;
    field("endpoint", row.endpoint.as_deref())?;
    field("remote scope", row.remote_scope.as_ref().map(|scope| scope.as_str()))?;
    field("credential", row.credential.as_ref().map(|alias| alias.as_str()))?;
    field("owner", row.owner.as_ref().map(|owner| owner.as_str()))?;
    field("tenant", row.tenant.as_deref())?;
    for hint in &row.hints {
        field("hint", Some(&format!("{} {}", hint.kind, hint.value)))?;
    }
    field("state", Some(row.state.as_str()))?;
    field("origin", Some(row.origin.as_str()))?;
    field("peer", row.peer.as_ref().map(|peer| peer.as_str()))?;
    field("created", Some(&row.created_at.to_string()))?;
    field("updated", Some(&row.updated_at.to_string()))?;
    field("expires", row.expires_at.map(|end| end.to_string()).as_deref())?;
    Ok(table.end()?)
}

async fn forget(access: &dyn MappingAccess, resource: Resource, out: &mut dyn Write) -> Result<(), Failure> {
    if !access.forget(&resource).await? {
        return Err(Failure::Unknown(resource));
    }
    writeln!(out, "{resource} is forgotten, and searched for when it is asked for").map_err(Failure::Output)
}

async fn export(
    access: &dyn MappingAccess,
    which: Which,
    out: &mut dyn Write,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let mut rows = access.rows(which.into()).await?;
    let mut out = BufWriter::new(out);
    while let Some(row) = rows.try_next().await? {
        serde_json::to_writer(&mut out, &row).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        progress.inc(1);
    }
    Ok(out.flush()?)
}

/// Writes beside the file first: a broken export never stands where a whole one stood.
async fn export_to(access: &dyn MappingAccess, which: Which, file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    let progress = ticking(ProgressBar::no_length(), "{spinner} {human_pos} mappings, {per_sec}");
    export(access, which, &mut new, &progress).await?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| Failure::Output(error.error))?;
    progress.finish_and_clear();
    Ok(())
}

async fn import(
    access: &dyn MappingAccess,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let (source, progress): (Box<dyn Read + Send>, _) = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => {
            let unreadable =
                |error: io::Error| Failure::Argument(format!("cannot read {}: {error}", file.display()));
            let source = File::open(file).map_err(unreadable)?;
            let bytes = source.metadata().map_err(unreadable)?.len();
            let template = "{bar:30} {percent}% of {total_bytes}, {bytes_per_sec}, {eta} left";
            (Box::new(source), ticking(ProgressBar::new(bytes), template))
        }
        None => {
            (Box::new(io::stdin()), ticking(ProgressBar::no_length(), "{spinner} {bytes}, {bytes_per_sec}"))
        }
    };
    let chunks = source::read(Box::new(progress.wrap_read(source))).map_err(Failure::Input)?;
    let outcome = access.import(chunks).await;
    progress.finish_and_clear();
    let report = outcome?;
    for error in &report.errors {
        writeln!(out, "line {}: {}", error.line, super::table::printable(&error.error))?;
    }
    let untold = report.refused.saturating_sub(report.errors.len() as u64);
    if untold > 0 {
        writeln!(out, "and {untold} more")?;
    }
    writeln!(out, "{} read, {} written, {} refused", report.read, report.written, report.refused)?;
    Ok(if report.refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bar on standard error, if somebody looks at it.
fn ticking(bar: ProgressBar, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    bar.set_draw_target(ProgressDrawTarget::stderr());
    // A template that does not parse would only cost the looks.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
