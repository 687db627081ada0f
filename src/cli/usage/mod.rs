//! `standpipe usage`: how long service instances lived, and what their plans cost meanwhile.

mod lifetimes;
mod money;
mod print;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::Method;
use standpipe_api::{EventPage, Outdated, Timestamp};

use self::lifetimes::Lifetimes;
use super::mappings::Failure;
use super::opened::Opened;
use crate::store::Store as _;

/// Events read at once; a server's answer holds them even if each is as large as it may be.
const PAGE: usize = 50;

/// What is added up, and how it is shown.
#[derive(Clone, Debug, Args)]
pub struct Asked {
    /// Whose instances are added up: a team is the platform's organization, else the caller's tenant; an app else its space
    #[arg(long, value_enum)]
    by: By,
    /// From this moment on, as 2026-01-31T00:00:00Z; default: the oldest event
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    from: Option<Timestamp>,
    /// Up to this moment, or now where that is earlier; default: now
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    to: Option<Timestamp>,
    /// A table for people; CSV with a line per currency; JSON with amounts as texts, so that no digit is lost
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Whose instances are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The platform's organization, else the tenant of the caller
    Team,
    /// The app an instance is for, else its space
    App,
    /// Where it lives
    Provider,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::App => "app",
            Self::Provider => "provider",
        }
    }
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// RFC 4180, a line per group and currency
    Csv,
    /// One object
    Json,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let quoted = serde_json::Value::from(text);
    serde_json::from_value(quoted).map_err(|_| "must be a moment, as 2026-01-31T00:00:00Z".into())
}

/// Carries out the command; what the figures leave out is told on `err`.
pub(super) fn run(
    path: Option<PathBuf>,
    asked: &Asked,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<ExitCode, String> {
    let now = Timestamp::now();
    let to = asked.to.map_or(now, |to| to.min(now));
    let from = asked.from.unwrap_or(Timestamp::from_millis(0));
    if from > to {
        return Err("--from must be before --to and before now".into());
    }
    let tables = Opened::of(path)?;
    let mut lifetimes = Lifetimes::new(asked.by, from, to);
    let read =
        super::runtime()?.block_on(read(&tables, &mut lifetimes)).map_err(|failure| failure.to_string())?;
    let printed = match asked.format {
        Format::Table => print::table(out, asked.by, lifetimes.groups()),
        Format::Csv => print::csv(out, asked.by, lifetimes.groups()),
        Format::Json => print::json(out, (asked.by, read.begins, to), lifetimes.groups()),
    };
    match printed.and_then(|()| notes(err, &read, &lifetimes)) {
        // Who reads only the first lines wanted only those.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// How far back the events went.
struct Read {
    /// When the oldest event is from; `None`: there is none.
    begins: Option<Timestamp>,
    /// Whether older ones were removed.
    purged: bool,
}

/// Reads all that is kept.
async fn read(tables: &Opened, lifetimes: &mut Lifetimes) -> Result<Read, Failure> {
    let end = page(tables, None).await?;
    let mut after = end.oldest.saturating_sub(1);
    let mut read = Read { begins: None, purged: end.oldest > 1 };
    while after < end.next {
        let page = page(tables, Some(after)).await?;
        let Some(first) = page.events.first() else { break };
        read.begins.get_or_insert(first.at);
        page.events.iter().for_each(|event| lifetimes.take(event));
        after = page.next;
    }
    Ok(read)
}

/// A page behind a revision, or the empty one behind the last.
async fn page(tables: &Opened, after: Option<u64>) -> Result<EventPage, Failure> {
    match tables {
        Opened::Server(client) => {
            let (after, limit) = (after.map(|after| after.to_string()), PAGE.to_string());
            let query = [("after", after.as_deref()), ("limit", Some(limit.as_str()))];
            client.ask_for(Method::GET, "/events", &query, String::new()).await
        }
        Opened::File(store, _) => {
            let after = after.unwrap_or(*store.last_event().borrow());
            let read = store.events(after, PAGE).await.map_err(|error| Failure::Store(error.into()))?;
            read.map_err(|Outdated { .. }| {
                Failure::Argument("events were removed meanwhile; run it again".into())
            })
        }
    }
}

fn notes(err: &mut dyn Write, read: &Read, lifetimes: &Lifetimes) -> io::Result<()> {
    let Lifetimes { headless, unreadable, uncounted, .. } = lifetimes;
    if read.purged {
        let begins = read.begins.map_or_else(|| "now".to_owned(), |begins| begins.to_string());
        writeln!(
            err,
            "The figures begin with the oldest event that is kept, of {begins}: what was created before counts from its next \
             change on, if there was one. [events] keep and most say how long events are kept."
        )?;
    }
    if !headless.is_empty() {
        writeln!(
            err,
            "Of {} deleted or changed instances the creation is not among the events; their time before is not counted.",
            headless.len()
        )?;
    }
    if *unreadable > 0 {
        writeln!(err, "{unreadable} events do not say what instance they are about; they are left out.")?;
    }
    if *uncounted > 0 {
        writeln!(
            err,
            "{uncounted} prices are too large or have too many digits to be counted exactly; they are left out."
        )?;
    }
    Ok(())
}
