//! `standpipe tokens` and `standpipe keys`: what is sealed, through the server while it holds the data directory, else
//! in the file itself (decision 21).

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use standpipe_api::SecretRef;

use super::AdminClient;
use super::mappings::Failure;
use super::table::Table;
use crate::assemble::{self, Front};
use crate::config::Config;
use crate::outbound;
use crate::store::{DataDirLock, Rotated, Store, StoreError, TokenKey};
use crate::token::TokenMappings;
use crate::vault::{TokenView, Vault};

/// Rows asked of the file at once.
const PAGE: usize = 500;

/// Shows and removes providers' tokens; never the tokens themselves.
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// List which tokens are kept: for which provider, by which credential, until when
    List {
        /// Only those for this provider
        #[arg(long)]
        provider: Option<String>,
        /// Print JSON Lines instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Remove tokens, so that the next calls obtain new ones
    Purge {
        /// Only those for this provider
        #[arg(long)]
        provider: Option<String>,
    },
}

/// Changes the key that seals secrets at rest.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Seal everything anew under another master key, while the server runs or without it
    Rotate {
        /// Where the new key is, as env:NAME or file:/path (the server reads it); made anew when absent
        #[arg(long, value_name = "REFERENCE")]
        to: Option<String>,
    },
}

/// Who does it.
enum Access {
    Server(AdminClient),
    File {
        vault: Box<Vault>,
        /// Held as long as the file is open.
        _lock: DataDirLock,
    },
}

pub(super) fn tokens(
    path: Option<PathBuf>,
    command: Tokens,
    out: &mut dyn Write,
) -> Result<ExitCode, String> {
    let (access, runtime) = open(path)?;
    let outcome = match command {
        Tokens::List { provider, json } => runtime.block_on(access.list(provider, json, out)),
        Tokens::Purge { provider } => runtime.block_on(access.purge(provider)).and_then(|removed| {
            writeln!(out, "{removed} removed")?;
            Ok(())
        }),
    };
    outcome.map(|()| ExitCode::SUCCESS).map_err(|failure| failure.to_string())
}

pub(super) fn keys(path: Option<PathBuf>, command: Keys, out: &mut dyn Write) -> Result<ExitCode, String> {
    let Keys::Rotate { to } = command;
    let (access, runtime) = open(path)?;
    let rotated = runtime.block_on(access.rotate(to.as_deref())).map_err(|failure| failure.to_string())?;
    let mut text = format!("{} values are sealed anew; the old key opens nothing any more\n", rotated.values);
    if let (true, Some(to)) = (rotated.reconfigure, to) {
        text += &format!("before the next start: set master_key to where this key is, as \"{to}\"\n");
    }
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn open(path: Option<PathBuf>) -> Result<(Access, tokio::runtime::Runtime), String> {
    let extensions = standpipe_extensions::all();
    let loaded = assemble::load(path.as_deref(), extensions, standpipe_extensions::RESERVED, Front::Proxy);
    let (config, _) = loaded.map_err(|problems| super::lines(&problems))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    super::has_data(&config)?;
    let access = Access::to(&config)?;
    Ok((access, runtime.map_err(|error| error.to_string())?))
}

impl Access {
    fn to(config: &Config) -> Result<Self, String> {
        match DataDirLock::take(&config.data_dir) {
            Err(StoreError::Locked { .. }) => {
                AdminClient::new(&config.admin).map(Self::Server).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
            Ok(lock) => {
                let store = crate::serve::open_store(config).map_err(|error| error.to_string())?;
                let store: Arc<dyn Store> = Arc::new(store);
                let (calls, _never_made) = outbound::queue();
                let tokens = Arc::new(TokenMappings::new(Some(store.clone()), Arc::new(calls)));
                let vault = Vault::new(tokens, store, crate::serve::keys(config));
                Ok(Self::File { vault: Box::new(vault), _lock: lock })
            }
        }
    }

    async fn list(&self, provider: Option<String>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
        let mut lister = Lister { access: self, provider, next: Some(Next::First) };
        if json {
            while let Some(page) = lister.page().await? {
                for token in page {
                    serde_json::to_writer(&mut *out, &token).map_err(std::io::Error::from)?;
                    out.write_all(b"\n")?;
                }
            }
            return Ok(());
        }
        let mut table = Table::new(
            out,
            &["PROVIDER", "SCOPE", "CREDENTIAL", "KIND", "CALLER", "OBTAINED", "EXPIRES", "PEER"],
        );
        while let Some(page) = lister.page().await? {
            for token in page {
                let scope = token.remote_scope.as_ref().map_or("-", |scope| scope.as_str());
                let (obtained, expires) = (token.obtained_at.to_string(), token.expires_at.to_string());
                let (provider, credential) = (token.provider.as_str(), token.credential.as_str());
                table.row(&[
                    provider,
                    scope,
                    credential,
                    &token.kind,
                    &token.subject,
                    &obtained,
                    &expires,
                    token.peer.as_ref().map_or("-", |peer| peer.as_str()),
                ])?;
            }
        }
        Ok(table.end()?)
    }

    async fn purge(&self, provider: Option<String>) -> Result<usize, Failure> {
        #[derive(Deserialize)]
        struct Purged {
            removed: usize,
        }
        match self {
            Self::File { vault, .. } => Ok(vault.purge(provider.map(Into::into)).await?),
            Self::Server(client) => {
                let query = [("provider", provider.as_deref())];
                let purged: Purged = client.ask_for(Method::DELETE, "/tokens", &query, String::new()).await?;
                Ok(purged.removed)
            }
        }
    }

    async fn rotate(&self, to: Option<&str>) -> Result<Rotated, Failure> {
        match self {
            Self::File { vault, .. } => {
                let to = to.map(SecretRef::parse).transpose().map_err(Failure::Argument)?;
                Ok(vault.rotate(to.as_ref()).await?)
            }
            Self::Server(client) => {
                let body = to.map_or_else(String::new, |to| json!({ "to": to }).to_string());
                client.ask_for(Method::POST, "/keys/rotate", &[], body).await
            }
        }
    }
}

/// A walk through all pages.
struct Lister<'a> {
    access: &'a Access,
    provider: Option<String>,
    /// Where the next page begins; `None` at the end.
    next: Option<Next>,
}

enum Next {
    First,
    Behind(TokenKey),
    Cursor(String),
}

impl Lister<'_> {
    async fn page(&mut self) -> Result<Option<Vec<TokenView>>, Failure> {
        #[derive(Deserialize)]
        struct Page {
            tokens: Vec<TokenView>,
            next: Option<String>,
        }
        let Some(next) = self.next.take() else { return Ok(None) };
        match self.access {
            Access::File { vault, .. } => {
                let after = if let Next::Behind(key) = next { Some(key) } else { None };
                let rows = vault.tokens(self.provider.as_deref().map(Into::into), after, PAGE).await?;
                self.next = rows.get(PAGE - 1).map(|last| Next::Behind(last.key.clone()));
                Ok(Some(rows.iter().map(TokenView::from).collect()))
            }
            Access::Server(client) => {
                let after = if let Next::Cursor(cursor) = &next { Some(cursor.as_str()) } else { None };
                let query = [("provider", self.provider.as_deref()), ("after", after)];
                let page: Page = client.ask_for(Method::GET, "/tokens", &query, String::new()).await?;
                self.next = page.next.map(Next::Cursor);
                Ok(Some(page.tokens))
            }
        }
    }
}
