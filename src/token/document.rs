//! A credentials document: named keys with the organisations and projects they are for, and the login of a broker.
//! JSON or YAML, from an environment variable, a file it names, Cloud Foundry's `VCAP_SERVICES` or a mounted directory.
//!
//! The sources are looked at in order and the first that is set counts: a mistake in it is not covered up by the next.

use std::path::{Path, PathBuf};
use std::{env, fs};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Longest document, in bytes.
const LONGEST: u64 = 1024 * 1024;
/// Documents read from one directory.
const MOST_FILES: usize = 256;
/// The environment variable in which Cloud Foundry hands over bound services.
const VCAP: &str = "VCAP_SERVICES";
/// The name of the login as a credential.
const LOGIN: &str = "broker";

/// Where a provider's document is, and what of it becomes its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentSource {
    /// The sources, in order.
    pub from: Vec<DocumentPlace>,
    /// The strategy of the credentials: one with user name and password.
    pub kind: String,
    /// What becomes a credential.
    pub take: Take,
}

/// One source of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentPlace {
    /// `env:NAME`: the document, or the name of a file that holds it.
    Env(String),
    /// `file:path`.
    File(PathBuf),
    /// `dir:path`: each file in it holds a document; they are put together in the order of their names.
    Directory(PathBuf),
    /// `vcap`: the credentials of all services under `credhub` and `user-provided`, put together.
    Vcap,
}

/// What of a document becomes a provider's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Its keys, each under its name.
    Keys,
    /// The login of the broker, under the name `broker`.
    Login,
}

impl DocumentPlace {
    /// Reads a word of the configuration; paths are relative to a folder.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(folder.join(path))),
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(folder.join(path))),
            None if text == "vcap" => Ok(Self::Vcap),
            _ => Err("must be `env:NAME`, `file:path`, `dir:path` or `vcap`".into()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Env(name) => name.clone(),
            Self::File(path) | Self::Directory(path) => path.display().to_string(),
            Self::Vcap => VCAP.to_owned(),
        }
    }
}

/// One key: user name and password, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) username: String,
    password: SecretString,
    /// The ids of its organisations and projects, by which it can be asked for.
    pub(super) organisations: Vec<String>,
}

/// A checked document.
#[derive(Debug)]
pub(super) struct Document {
    keys: Vec<Key>,
    login: Key,
}

impl DocumentSource {
    /// The files whose change may change the document; a directory is changed with what lies in it.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let file = |from: &DocumentPlace| match from {
            DocumentPlace::Env(name) => env::var(name).ok().map(PathBuf::from).filter(|path| path.is_file()),
            DocumentPlace::File(path) | DocumentPlace::Directory(path) => Some(path.clone()),
            DocumentPlace::Vcap => None,
        };
        self.from.iter().filter_map(file).collect()
    }
}

impl Document {
    /// Reads the document.
    ///
    /// # Errors
    /// A sentence that says which source is wrong and how; it repeats nothing of it.
    pub(super) fn load(source: &DocumentSource) -> Result<Self, String> {
        Self::find(source, &|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn find(source: &DocumentSource, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        for from in &source.from {
            let written = match from {
                DocumentPlace::Env(name) => variable(name).map(|value| in_variable(name, value)),
                DocumentPlace::File(path) => {
                    Some(read(path).and_then(|text| parse(&text, &path.display().to_string())))
                }
                DocumentPlace::Directory(path) => path.is_dir().then(|| in_directory(path)),
                DocumentPlace::Vcap => variable(VCAP).map(|value| in_vcap(&value)),
            };
            if let Some(written) = written {
                return written?.checked().map_err(|text| format!("{text} (in {})", from.name()));
            }
        }
        let names: Vec<String> = source.from.iter().map(DocumentPlace::name).collect();
        Err(format!("no credentials document is there: none of {} is set", names.join(", ")))
    }

    /// What becomes credentials.
    pub(super) fn taken(&self, take: Take) -> &[Key] {
        match take {
            Take::Keys => &self.keys,
            Take::Login => std::slice::from_ref(&self.login),
        }
    }

    /// The private key of a name.
    pub(super) fn secret(&self, name: &str) -> Result<SecretString, String> {
        let mut all = self.keys.iter().chain(std::iter::once(&self.login));
        let found = all.find(|key| key.name == name).map(|key| key.password.clone());
        found.ok_or_else(|| format!("the credentials document holds no key `{name}`"))
    }
}

/// A document as it is written. Both shapes are read: lists of projects and organisations, and a table of keys.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    broker: Option<WrittenLogin>,
    #[serde(default)]
    projects: Vec<WrittenKey>,
    #[serde(default)]
    orgs: Vec<WrittenKey>,
    #[serde(default)]
    keys: std::collections::BTreeMap<String, WrittenKey>,
}

#[derive(Deserialize)]
struct WrittenLogin {
    #[serde(default)]
    username: String,
    #[serde(default = "nothing")]
    password: SecretString,
}

fn nothing() -> SecretString {
    SecretString::from("")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenKey {
    #[serde(default)]
    id: String,
    #[serde(alias = "publickey")]
    public_key: String,
    #[serde(alias = "privatekey")]
    private_key: SecretString,
    #[serde(alias = "orgID", alias = "orgid")]
    org_id: Option<String>,
    #[serde(default)]
    roles: Vec<Role>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Role {
    #[serde(alias = "groupID")]
    group_id: Option<String>,
    #[serde(alias = "projectID")]
    project_id: Option<String>,
    #[serde(alias = "orgID")]
    org_id: Option<String>,
}

impl Written {
    /// Later ones win, name by name.
    fn join(&mut self, later: Self) {
        self.broker = later.broker.or(self.broker.take());
        self.keys.extend(later.keys);
        for (all, more) in [(&mut self.projects, later.projects), (&mut self.orgs, later.orgs)] {
            all.retain(|key| !more.iter().any(|other| other.id == key.id));
            all.extend(more);
        }
    }

    fn checked(self) -> Result<Document, String> {
        let login = self.broker.filter(|login| !login.username.is_empty());
        let login = login.filter(|login| !login.password.expose_secret().is_empty());
        let login =
            login.ok_or("no broker credentials specified: `broker` needs `username` and `password`")?;
        let login = Key {
            name: LOGIN.to_owned(),
            username: login.username,
            password: login.password,
            organisations: Vec::new(),
        };
        let named = self.keys.into_iter().map(|(name, key)| WrittenKey { id: name, ..key });
        let mut keys: Vec<Key> = Vec::new();
        for written in self.projects.into_iter().chain(self.orgs).chain(named) {
            let ids =
                written.roles.into_iter().flat_map(|role| [role.group_id, role.project_id, role.org_id]);
            let organisations: Vec<String> = ids.chain([written.org_id]).flatten().collect();
            if written.id.is_empty() || written.id == LOGIN {
                return Err("a key has no `id`, or the id of the broker's login".into());
            }
            if keys.iter().any(|key| key.name == written.id) {
                return Err(format!("two keys have the id `{}`", written.id));
            }
            // A key that is for nothing cannot be used for anything.
            if !organisations.is_empty() {
                let (name, username, password) = (written.id, written.public_key, written.private_key);
                keys.push(Key { name, username, password, organisations });
            }
        }
        if keys.is_empty() {
            return Err(
                "no API keys specified: a key needs an organisation or project beside its two parts".into()
            );
        }
        Ok(Document { keys, login })
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    use std::io::Read as _;
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path).map_err(wrong)?.take(LONGEST).read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

/// JSON is tried first: its errors are not worth a word when it was YAML. Of a mistake only the place is told; the
/// libraries' own words quote the document.
fn parse(text: &str, name: &str) -> Result<Written, String> {
    let Err(error) = serde_json::from_str::<Written>(text) else {
        return serde_json::from_str(text).map_err(|_| String::new());
    };
    if text.trim_start().starts_with('{') {
        let (line, column) = (error.line(), error.column());
        return Err(format!("{name} is no credentials document: look at line {line}, column {column}"));
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let place =
            error.location().map(|at| format!(": look at line {}, column {}", at.line(), at.column()));
        format!("{name} is no credentials document{}", place.unwrap_or_default())
    })
}

fn in_variable(name: &str, value: String) -> Result<Written, String> {
    let value = Zeroizing::new(value);
    let path = Path::new(value.trim());
    if path.is_file() {
        return parse(&read(path)?, &path.display().to_string());
    }
    let is_text = value.contains(['\n', '{', ':']);
    let neither = "it holds neither a credentials document nor the name of a file that does";
    if is_text { parse(&value, name) } else { Err(String::new()) }.map_err(|why| {
        format!("cannot find {name}: {neither}{}{why}", if why.is_empty() { "" } else { "; " })
    })
}

/// Hidden names are how mounted directories are replaced at once; they are no documents.
fn in_directory(path: &Path) -> Result<Written, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() || files.len() > MOST_FILES {
        return Err(format!("{} holds no file, or more than {MOST_FILES}", path.display()));
    }
    files.sort();
    let mut all = Written::default();
    for file in files {
        all.join(parse(&read(&file)?, &file.display().to_string())?);
    }
    Ok(all)
}

fn in_vcap(value: &str) -> Result<Written, String> {
    #[derive(Deserialize)]
    struct Services {
        #[serde(default)]
        credhub: Vec<Service>,
        #[serde(default, rename = "user-provided")]
        user_provided: Vec<Service>,
    }
    #[derive(Deserialize)]
    struct Service {
        #[serde(default)]
        credentials: Written,
    }
    let services: Services = serde_json::from_str(value).map_err(|error| {
        format!("{VCAP} cannot be read: look at line {}, column {}", error.line(), error.column())
    })?;
    let mut all = Written::default();
    for service in services.credhub.into_iter().chain(services.user_provided) {
        all.join(service.credentials);
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
