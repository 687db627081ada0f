//! A standpipe of the command's own in front of one service broker, for as long as the command runs.

use std::path::{Path, PathBuf};

use http::{StatusCode, Uri};
use tempfile::TempDir;
use toml::{Table, Value};

use super::super::admin_client::joined;
use super::super::{embedded, hash_password};
use super::client::{Client, Credential, WHO};
use crate::assemble::Front;
use crate::serve::Server;
use crate::store::{DataDirLock, StoreError};

/// Where in an app's folder it keeps what it knows, sealed under a key beside it.
const FOLDER: &str = ".standpipe";
/// The only caller it lets in.
const CALLER: &str = "addons";
/// The provider that the broker is.
const BROKER: &str = "broker";

/// It, and what it needs while it runs: the configuration and a path that is short enough for the operator's socket.
pub(super) struct Own {
    server: Server,
    broker: Uri,
    _temporary: TempDir,
}

impl Own {
    /// Starts it in front of the broker at a URL, which it asks with a credential, and gives a client of it.
    ///
    /// # Errors
    /// What kept it from starting; another command of this folder is under way, for one.
    pub(super) fn start(
        folder: &Path,
        broker: &Uri,
        credential: &Credential,
    ) -> Result<(Self, Client), String> {
        let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let password = format!("{:032x}", random()?);
        let data = data_dir(folder, broker)?;
        free(&data)?;
        let config = config(temporary.path(), &data, broker, credential, &password)?;
        let server = embedded::start(&temporary.path().join("standpipe.toml"), &config, Front::Proxy)?;
        let url = server.running().config.public_url.parse().map_err(|error| format!("{error}"))?;
        let client = Client::new(&url, &Credential::User(CALLER.to_owned(), password))?;
        Ok((Self { server, broker: broker.clone(), _temporary: temporary }, client))
    }

    /// Adds to the text of a failure what is the matter with the broker.
    pub(super) fn explain(&self, failure: String) -> String {
        let mut lines = vec![failure];
        for note in self.server.notes(&BROKER.into()) {
            lines.push(format!("{} ({})", note.text, self.broker));
            // The note has the status as the broker said it, and nothing else tells it.
            lines.extend(note.text.contains(&StatusCode::UNAUTHORIZED.to_string()).then(|| WHO.to_owned()));
        }
        lines.join("\n")
    }

    /// Ends it.
    pub(super) fn stop(self) {
        self.server.stop();
    }
}

/// Commands of a folder ask a broker one after the other.
fn free(data: &Path) -> Result<(), String> {
    DataDirLock::take(data).map(drop).map_err(|error| match error {
        StoreError::Locked { holder, .. } => {
            format!("another command{holder} of this folder is asking this broker; wait until it has ended")
        }
        error => error.to_string(),
    })
}

fn random() -> Result<u128, String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(u128::from_be_bytes(bytes))
}

/// Each broker has a folder of its own, so that what one has is never asked of another. None of it belongs into a repository.
fn data_dir(folder: &Path, broker: &Uri) -> Result<PathBuf, String> {
    let kept = folder.join(FOLDER);
    let ignored = kept.join(".gitignore");
    let made = std::fs::create_dir_all(&kept).and_then(|()| std::fs::write(&ignored, "*\n"));
    made.map_err(|error| format!("cannot write {}: {error}", ignored.display()))?;
    let address = broker.authority().map_or("", |authority| authority.as_str());
    let name = joined(&[&format!("{address}{}", broker.path().trim_end_matches('/'))]);
    Ok(kept.join(name.trim_start_matches('/')))
}

/// The credential stays in the environment. The broker hears of its user as the organization, so that all who add for an app
/// there mean the same instances.
fn config(
    temporary: &Path,
    data: &Path,
    broker: &Uri,
    credential: &Credential,
    password: &str,
) -> Result<String, String> {
    let text = |path: &Path| {
        path.to_str().map(Value::from).ok_or_else(|| format!("{} is not UTF-8", path.display()))
    };
    let (user, strategy) = match credential {
        Credential::Nobody => ("anonymous", Table::from_iter([pair("kind", "none")])),
        Credential::Token(_) => {
            ("anonymous", Table::from_iter([pair("kind", "bearer"), pair("token", "env:STANDPIPE_TOKEN")]))
        }
        Credential::User(user, _) => {
            let parts =
                [pair("kind", "basic"), pair("username", user), pair("password", "env:STANDPIPE_PASSWORD")];
            (user.as_str(), Table::from_iter(parts))
        }
    };
    let one = |table: Table| Value::from(vec![Value::from(table)]);
    let listener = [pair("address", "127.0.0.1:0"), ("callers".to_owned(), Value::from(vec!["basic"]))];
    let hash = hash_password::hash(password)?;
    let caller = [pair("name", CALLER), pair("password_hash", &hash), pair("tenant", user)];
    let provider = [
        pair("name", BROKER),
        pair("dialect", "osb"),
        pair("url", &broker.to_string()),
        ("credential".to_owned(), strategy.into()),
    ];
    let admin = Table::from_iter([("socket".to_owned(), text(&temporary.join("admin.sock"))?)]);
    let config = Table::from_iter([
        ("data_dir".to_owned(), text(data)?),
        ("threads".to_owned(), 1.into()),
        ("admin".to_owned(), admin.into()),
        ("listener".to_owned(), one(Table::from_iter(listener))),
        ("caller".to_owned(), one(Table::from_iter(caller))),
        ("provider".to_owned(), one(Table::from_iter(provider))),
    ]);
    Ok(config.to_string())
}

fn pair(key: &str, value: &str) -> (String, Value) {
    (key.to_owned(), value.into())
}
