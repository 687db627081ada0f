//! `standpipe peers`: other standpipes, what they gave and were given, and taking it back.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use standpipe_api::PeerId;

use super::mappings::Failure;
use super::table::Table;
use super::{Absent, AdminClient, Tables};
use crate::admin::Side;
use crate::peer::{Ledger, Page, PeerView, query};
use crate::store::Amount;

/// Shows and takes back what standpipes told each other.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the peers, how each is recognised, and how much it gave
    List {
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show what a peer gave
    Show {
        /// Which peer, and whose gift
        #[command(flatten)]
        whose: Whose,
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Take back what a peer gave: all of it, or what matches
    Revoke {
        /// Which peer, and whose gift
        #[command(flatten)]
        whose: Whose,
        /// Only what leads to this provider
        #[arg(long)]
        provider: Option<String>,
        /// Only mappings of this kind, for example pipe or resource
        #[arg(long)]
        kind: Option<String>,
        /// Only mappings of this id
        #[arg(long)]
        id: Option<String>,
    },
}

/// A peer, and one side of what the two told each other.
#[derive(Clone, Debug, Args)]
pub struct Whose {
    /// The peer's name
    peer: String,
    /// What it was given by this standpipe, asked for there, instead of what it gave
    #[arg(long)]
    given: bool,
}

impl Whose {
    fn side(&self) -> Side {
        if self.given { Side::Given } else { Side::Gave }
    }
}

/// Where the ledger is: with the server that holds the data directory, else in the file itself (decision 21).
enum Access {
    Server(AdminClient),
    File(Box<Ledger>),
}

/// Carries out a command.
pub(super) fn run(path: Option<PathBuf>, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let runtime = super::runtime()?;
    let tables = Tables::of(path, Absent::Refused)?;
    let (access, _lock) = match tables {
        Tables::Served(client) => (Access::Server(client), None),
        Tables::Free { mappings, known, _lock } => {
            let ledger = Ledger::in_file(known.0.peers.clone(), mappings.store().clone());
            (Access::File(Box::new(ledger)), Some((mappings, known, _lock)))
        }
    };
    let outcome = runtime.block_on(async {
        match command {
            Command::List { json: true } => lines(&access.peers().await?, out),
            Command::List { json: false } => list(&access.peers().await?, out),
            Command::Show { whose, json: true } => {
                let pages = access.pages(&whose).await?;
                pages.iter().try_for_each(|page| {
                    lines(&page.mappings, out)?;
                    lines(&page.tokens, out)
                })
            }
            Command::Show { whose, json: false } => show(&access.pages(&whose).await?, out),
            Command::Revoke { whose, provider, kind, id } => {
                let which =
                    [("provider", provider.as_deref()), ("kind", kind.as_deref()), ("id", id.as_deref())];
                let Amount { mappings, tokens } = access.revoke(&whose, &which).await?;
                Ok(writeln!(out, "{mappings} mappings and {tokens} tokens are revoked")?)
            }
        }
    });
    outcome.map(|()| ExitCode::SUCCESS).map_err(|failure: Failure| failure.to_string())
}

fn lines<T: serde::Serialize>(rows: &[T], out: &mut dyn Write) -> Result<(), Failure> {
    for row in rows {
        serde_json::to_writer(&mut *out, row).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn list(peers: &[PeerView], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(out, &["NAME", "URL", "TRUSTED BY", "BESIDE", "MAPPINGS", "TOKENS"]);
    for peer in peers {
        let beside: Vec<&str> = peer.beside.iter().map(|provider| provider.as_str()).collect();
        let (beside, Amount { mappings, tokens }) = (beside.join(","), peer.gave);
        let (mappings, tokens) = (mappings.to_string(), tokens.to_string());
        table.row(&[peer.name.as_str(), &peer.url, &peer.trusted_by, &beside, &mappings, &tokens])?;
    }
    Ok(table.end()?)
}

fn show(pages: &[Page], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new(out, &["WHAT", "PROVIDER", "EXPIRES"]);
    for row in pages.iter().flat_map(|page| &page.mappings) {
        let expires = row.expires_at.map_or_else(|| "-".to_owned(), |end| end.to_string());
        table.row(&[&row.resource.to_string(), row.provider.as_str(), &expires])?;
    }
    for token in pages.iter().flat_map(|page| &page.tokens) {
        let what = format!("token for caller {}", token.subject);
        table.row(&[&what, token.provider.as_str(), &token.expires_at.to_string()])?;
    }
    Ok(table.end()?)
}

impl Access {
    async fn peers(&self) -> Result<Vec<PeerView>, Failure> {
        #[derive(Deserialize)]
        struct All {
            peers: Vec<PeerView>,
        }
        match self {
            Self::Server(client) => {
                let all: All = client.ask_for(Method::GET, "/peers", &[], String::new()).await?;
                Ok(all.peers)
            }
            Self::File(ledger) => Ok(ledger.peers().await?),
        }
    }

    async fn pages(&self, whose: &Whose) -> Result<Vec<Page>, Failure> {
        let mut pages: Vec<Page> = Vec::new();
        loop {
            let after = pages.last().and_then(|page| page.next.as_deref());
            let page = match self {
                Self::Server(client) => {
                    client.ask_for(Method::GET, &path(whose), &[("after", after)], String::new()).await?
                }
                Self::File(ledger) => {
                    let (peer, query) = (PeerId::from(whose.peer.as_str()), query(&[("after", after)]));
                    match whose.side() {
                        Side::Gave => ledger.gave(&peer, query.as_deref()).await?,
                        Side::Given => ledger.given(&peer, query.as_deref()).await?,
                    }
                }
            };
            pages.push(page);
            if pages.last().is_some_and(|page| page.next.is_none()) {
                return Ok(pages);
            }
        }
    }

    async fn revoke(&self, whose: &Whose, which: &[(&'static str, Option<&str>)]) -> Result<Amount, Failure> {
        match self {
            Self::Server(client) => client.ask_for(Method::DELETE, &path(whose), which, String::new()).await,
            Self::File(ledger) => {
                let (peer, query) = (PeerId::from(whose.peer.as_str()), query(which));
                Ok(match whose.side() {
                    Side::Gave => ledger.revoke(&peer, query.as_deref()).await?,
                    Side::Given => ledger.revoke_given(&peer, query.as_deref()).await?,
                })
            }
        }
    }
}

fn path(whose: &Whose) -> String {
    let side = match whose.side() {
        Side::Gave => "gave",
        Side::Given => "given",
    };
    super::admin_client::joined(&["peers", &whose.peer, side])
}
