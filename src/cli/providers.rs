//! `standpipe providers`: those that come and go while standpipe runs, through its admin listener.

mod list;

use std::io::{IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use standpipe_api::SecretRef;
use zeroize::Zeroizing;

use super::AdminClient;
use super::admin_client::joined;
use super::mappings::Failure;
use super::table::printable;
use crate::assemble::{self, Front};
use crate::store::{DataDirLock, StoreError};

/// Longer input is no secret.
const LONGEST: u64 = 64 * 1024;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a provider; it is asked first, and serves at once
    #[command(
        after_help = "Examples:\n  standpipe providers add alpha --dialect osb --url https://broker.example --username admin --password -\n  standpipe providers add beta --dialect cloudpipe --url http://127.0.0.1:9002 --set 'resources=[\"db\"]'\n  standpipe providers add gamma --file gamma.toml"
    )]
    Add {
        /// Its name, in paths and answers
        name: String,
        /// What it is registered with
        #[command(flatten)]
        with: Box<With>,
    },
    /// List all providers, those of the configuration too, and how they are
    List {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show how a provider is and what it is registered with; never a secret
    Show {
        /// Its name
        name: String,
    },
    /// Change what a registered provider is registered with; another url needs the credentials again
    #[command(
        after_help = "Example: standpipe providers update alpha --set response_timeout=60s --set breaker.failures=3"
    )]
    Update {
        /// Its name
        name: String,
        /// What changes; with --file, the whole table
        #[command(flatten)]
        with: Box<With>,
        /// Change also what ids of resources that live there are made of, as id_prefix: platforms can then no longer update or
        /// delete by the ids they have
        #[arg(long)]
        force: bool,
    },
    /// Let a provider run dry: it is hidden from catalogs, offers and add-ons, nothing new is created there, and what it has is
    /// served on. --undo takes it back
    #[command(
        after_help = "What lives there is read, updated, bound and deleted as ever, and /providers/NAME/ is not hidden. It lasts, over restarts too, until `standpipe providers drain NAME --undo`. What is left: `standpipe mappings list --provider NAME`; when nothing is: `standpipe providers remove NAME`."
    )]
    Drain {
        /// Its name
        name: String,
        /// Show it again, and let new things be created there
        #[arg(long)]
        undo: bool,
    },
    /// Remove a registered provider that nothing lives at any more
    Remove {
        /// Its name
        name: String,
        /// Remove it although resources live there; their mappings stay and lead nowhere
        #[arg(long)]
        force: bool,
    },
    /// Ask a provider now for what it has, such as its catalog; one that is left out is tried again first
    Refresh {
        /// Its name
        name: String,
    },
}

/// What a provider is registered with: the keys of a `[[provider]]` table.
#[derive(Args, Debug)]
pub struct With {
    /// The API it speaks
    #[arg(long)]
    dialect: Option<String>,
    /// Where it is
    #[arg(long)]
    url: Option<String>,
    /// The user name it lets standpipe in by
    #[arg(long, requires = "password")]
    username: Option<String>,
    /// Its password, as env:NAME or file:/path (the server reads it each time), or - to type or pipe it (the server seals it)
    #[arg(long, value_name = "REFERENCE", requires = "username")]
    password: Option<String>,
    /// The bearer token it lets standpipe in by, as --password
    #[arg(long, value_name = "REFERENCE", conflicts_with = "password")]
    token: Option<String>,
    /// Another key of the table, as concurrency=10 or 'resources=["db"]'; a dot leads into a table
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A TOML file with the table, its keys at the top or under [[provider]]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Carries out a command.
///
/// # Errors
/// No server runs here, it refuses, or something given cannot be read.
pub(super) fn run(path: Option<PathBuf>, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let client = client(path.as_deref())?;
    let runtime = super::runtime()?;
    let work = async {
        match command {
            Command::Add { name, with } => add(&client, &name, &with, out).await,
            Command::List { json } => list::list(&client, json, out).await,
            Command::Show { name } => {
                let shown: Value = ask(&client, Method::GET, &[&name], &[], String::new()).await?;
                let text = serde_json::to_string_pretty(&shown).map_err(std::io::Error::from)?;
                Ok(writeln!(out, "{text}")?)
            }
            Command::Update { name, with, force } => update(&client, &name, (&with, force), out).await,
            Command::Drain { name, undo } => {
                let word = if undo { "undrain" } else { "drain" };
                let _status: Value = ask(&client, Method::POST, &[&name, word], &[], String::new()).await?;
                let told = if undo {
                    "takes new things again"
                } else {
                    "takes nothing new; what it has is served on"
                };
                Ok(writeln!(out, "{name} {told}")?)
            }
            Command::Remove { name, force } => remove(&client, &name, force, out).await,
            Command::Refresh { name } => {
                let _asked: Value =
                    ask(&client, Method::POST, &[&name, "refresh"], &[], String::new()).await?;
                Ok(writeln!(
                    out,
                    "{name} is being asked; standpipe providers show {name} tells what came of it"
                )?)
            }
        }
    };
    runtime.block_on(work).map(|()| ExitCode::SUCCESS).map_err(|failure| failure.to_string())
}

/// The server that holds the data directory. Providers are asked before they are taken, which takes one that runs.
fn client(path: Option<&Path>) -> Result<AdminClient, String> {
    let (extensions, reserved) = (standpipe_extensions::all(), standpipe_extensions::RESERVED);
    let loaded = assemble::load(path, extensions, reserved, Front::Proxy);
    let (config, _) = loaded.map_err(|problems| super::lines(&problems))?;
    let idle = || {
        let folder = config.data_dir.display();
        format!(
            "no standpipe runs on {folder}; start it (standpipe serve), or name its configuration with --config"
        )
    };
    if !config.data_dir.exists() {
        return Err(idle());
    }
    match DataDirLock::take(&config.data_dir) {
        Err(StoreError::Locked { .. }) => AdminClient::new(&config.admin).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
        Ok(_nobody_has_it) => Err(idle()),
    }
}

async fn ask<T: for<'de> Deserialize<'de>>(
    client: &AdminClient,
    method: Method,
    segments: &[&str],
    query: &[(&'static str, Option<&str>)],
    body: String,
) -> Result<T, Failure> {
    let path = format!("/providers{}", joined(segments));
    client.ask_for(method, &path, query, body).await
}

async fn add(client: &AdminClient, name: &str, with: &With, out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = with.table().map_err(Failure::Argument)?;
    table.insert("name".into(), name.into());
    let body = Zeroizing::new(Value::Object(table).to_string());
    let _status: Value = ask(client, Method::POST, &[], &[], String::clone(&body)).await?;
    Ok(writeln!(out, "{name} is registered and serves under /providers/{name}/")?)
}

async fn update(
    client: &AdminClient,
    name: &str,
    (with, force): (&With, bool),
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let table = with.table().map_err(Failure::Argument)?;
    if table.is_empty() {
        return Err(Failure::Argument("nothing changes: see standpipe providers update --help".into()));
    }
    let method = if with.file.is_some() { Method::PUT } else { Method::PATCH };
    let body = Zeroizing::new(Value::Object(table).to_string());
    let query = [("force", force.then_some("true"))];
    let _status: Value = ask(client, method, &[name], &query, String::clone(&body)).await?;
    Ok(writeln!(out, "{name} is changed")?)
}

async fn remove(client: &AdminClient, name: &str, force: bool, out: &mut dyn Write) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Removed {
        left: Left,
    }
    #[derive(Deserialize)]
    struct Left {
        mappings: u64,
        some: Vec<String>,
    }
    let query = [("force", force.then_some("true"))];
    let Removed { left } = ask(client, Method::DELETE, &[name], &query, String::new()).await?;
    writeln!(out, "{name} is removed")?;
    if left.mappings > 0 {
        let some = left.some.join(", ");
        let (count, some) = (left.mappings, printable(&some));
        writeln!(
            out,
            "{count} mappings lead nowhere now, such as {some}; standpipe mappings forget removes them"
        )?;
    }
    Ok(())
}

impl With {
    /// The table these words make.
    fn table(&self) -> Result<Map<String, Value>, String> {
        let mut table = match &self.file {
            Some(path) => in_file(path)?,
            None => Map::new(),
        };
        for (key, value) in [("dialect", &self.dialect), ("url", &self.url)] {
            if let Some(value) = value {
                table.insert(key.into(), value.as_str().into());
            }
        }
        let secret = |reference: &Option<String>| reference.as_deref().map(secret).transpose();
        if let (Some(username), Some(password)) = (&self.username, secret(&self.password)?) {
            let credential = json!({ "kind": "basic", "username": username, "password": password });
            table.insert("credential".into(), credential);
        }
        if let Some(token) = secret(&self.token)? {
            table.insert("credential".into(), json!({ "kind": "bearer", "token": token }));
        }
        self.set.iter().try_for_each(|set| put(&mut table, set))?;
        Ok(table)
    }
}

/// `key.key=value`: the value as TOML has it, else a text.
fn put(table: &mut Map<String, Value>, set: &str) -> Result<(), String> {
    let (keys, text) = set.split_once('=').ok_or_else(|| format!("--set {set}: must be key=value"))?;
    let parsed: Result<toml::Table, _> = format!("value = {text}").parse();
    let parsed = parsed.ok().filter(|parsed| parsed.len() == 1).and_then(|mut parsed| parsed.remove("value"));
    let value = match parsed {
        Some(value) => serde_json::to_value(value).map_err(|error| format!("--set {keys}: {error}"))?,
        None => text.into(),
    };
    let mut steps = keys.split('.').peekable();
    let mut inside = table;
    while let Some(step) = steps.next() {
        if step.is_empty() {
            return Err(format!("--set {keys}: a key is empty"));
        }
        if steps.peek().is_none() {
            inside.insert(step.into(), value);
            return Ok(());
        }
        let next = inside.entry(step).or_insert_with(|| Value::Object(Map::new()));
        inside = next.as_object_mut().ok_or_else(|| format!("--set {keys}: {step} is no table"))?;
    }
    Ok(())
}

fn in_file(path: &Path) -> Result<Map<String, Value>, String> {
    let wrong = |why: String| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    let table = match table.get("provider") {
        Some(toml::Value::Array(tables)) if tables.len() == 1 => {
            tables.first().and_then(toml::Value::as_table).cloned().unwrap_or_default()
        }
        Some(toml::Value::Table(table)) => table.clone(),
        Some(_) => return Err(wrong("must hold one provider".into())),
        None => table,
    };
    match serde_json::to_value(table) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(wrong("is no table".into())),
    }
}

/// A reference, with a path that does not depend on where the server runs; or, for `-`, the secret itself.
fn secret(reference: &str) -> Result<Value, String> {
    if reference == "-" {
        let secret = given()?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        let missing = "no secret on standard input; try: printf %s \"$PASSWORD\" | standpipe providers ...";
        return if secret.is_empty() { Err(missing.into()) } else { Ok(json!({ "value": secret })) };
    }
    match SecretRef::parse(reference) {
        Ok(SecretRef::Env(_)) => Ok(reference.into()),
        Ok(SecretRef::File(path)) => {
            let path = std::path::absolute(path).map_err(|error| error.to_string())?;
            Ok(format!("file:{}", path.display()).into())
        }
        _ => Err("a secret is given as env:NAME, file:path or -, never in the command itself".into()),
    }
}

fn given() -> Result<Zeroizing<String>, String> {
    let unreadable = |error: std::io::Error| format!("cannot read the secret: {error}");
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Secret: ").map(Zeroizing::new).map_err(unreadable);
    }
    let mut secret = Zeroizing::new(String::new());
    std::io::stdin().take(LONGEST).read_to_string(&mut secret).map_err(unreadable)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_toml_makes_of_it_else_a_text() {
        let mut table = Map::new();
        let words = [
            "concurrency=10",
            "queue_wait=5s",
            "resources=[\"db\"]",
            "breaker.failures=3",
            "breaker.open=\"1s\"",
            "issuer=https://a.b/?c=d",
        ];
        words.iter().for_each(|set| put(&mut table, set).unwrap());
        let wanted = json!({
            "concurrency": 10, "queue_wait": "5s", "resources": ["db"],
            "breaker": { "failures": 3, "open": "1s" }, "issuer": "https://a.b/?c=d",
        });
        assert_eq!(Value::Object(table.clone()), wanted);
        for wrong in ["concurrency", "concurrency.x=1", ".x=1", "a..b=1"] {
            assert!(put(&mut table, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_in_the_command_itself_is_refused_without_repeating_it() {
        let refused = secret("hunter2").unwrap_err();
        assert!(refused.contains("env:NAME") && !refused.contains("hunter2"), "{refused}");
        assert_eq!(secret("env:PASSWORD"), Ok("env:PASSWORD".into()));
        let path = secret("file:x").unwrap();
        assert!(
            path.as_str().is_some_and(|path| path.starts_with("file:/") && path.ends_with("/x")),
            "{path}"
        );
    }
}
