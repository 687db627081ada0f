//! The keys that a cloudpipe provider has beside the engine's: its resources, and what its peers may bring.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use standpipe_api::{Problem, Problems, Provider};

use super::listing::{Entry, Listed, ResourceList};

/// How often a list is read again when the operator does not say.
const REFRESH: Duration = Duration::from_secs(60);
/// How long news for a mediated pipe are tried to be delivered: a weekend and what follows it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest interval; below it, a command runs all the time.
const MIN_REFRESH: Duration = Duration::from_secs(1);

/// A cloudpipe provider's own settings.
#[derive(Clone, Debug)]
pub(super) struct ProviderSettings {
    /// Where the resources it is asked for stand; learned ones join.
    pub resources: ResourceSource,
    /// Whether a bearer token that belongs to no caller travels to the broker of a single pipe.
    pub peer_bearer: bool,
    /// Whether standpipe is the other party of its pipes.
    pub mediated: bool,
    /// Who signs for it; `None`: whoever does at first sight.
    pub issuer: Option<String>,
    /// Where its keys are; `None`: under its own url.
    pub jwks_url: Option<String>,
    /// How long news for it are tried to be delivered.
    pub give_up_after: Duration,
}

/// Where a provider's resources are listed.
#[derive(Clone, Debug)]
pub(super) enum ResourceSource {
    /// Nowhere: only calls tell.
    Unlisted,
    /// In the configuration itself.
    Listed(Arc<ResourceList>),
    /// Elsewhere, read at start and then on an interval.
    Polled(Polled),
}

/// A list that is read again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Polled {
    /// Where it is.
    pub from: ListAt,
    /// How long after one reading the next begins.
    pub refresh: Duration,
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListAt {
    /// In a file.
    File(PathBuf),
    /// On the standard output of a command, run without a shell.
    Command(Vec<String>),
    /// At an absolute URL, asked without credentials, or, beginning with `/`, at a path of the provider,
    /// asked with the provider's credential.
    Url(String),
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            resources: ResourceSource::Unlisted,
            peer_bearer: true,
            mediated: false,
            issuer: None,
            jwks_url: None,
            give_up_after: GIVE_UP_AFTER,
        }
    }
}

impl ProviderSettings {
    /// What a provider was configured with.
    pub(super) fn of(provider: &Provider) -> Option<&Self> {
        provider.settings.of()
    }

    /// Reads a provider's table.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let mut settings = Self::default();
        let mut problems = Problems::new();
        for (key, value) in table {
            match key.as_str() {
                "resources" => match read_source(value) {
                    Ok(source) => settings.resources = source,
                    Err(found) => problems.extend(found.into_iter().map(|problem| problem.under(key))),
                },
                "peer_bearer" => match value.as_bool() {
                    Some(value) => settings.peer_bearer = value,
                    None => problems.push(Problem::at(key, "must be true or false")),
                },
                "pipes" => match value.as_str() {
                    Some("direct") => settings.mediated = false,
                    Some("mediated") => settings.mediated = true,
                    _ => problems.push(Problem::at(key, "must be \"direct\" or \"mediated\"")),
                },
                "issuer" => match read_text(value) {
                    Ok(issuer) => settings.issuer = Some(issuer),
                    Err(text) => problems.push(Problem::at(key, text)),
                },
                "jwks_url" => match read_url(value) {
                    Ok(url) if !url.starts_with('/') => settings.jwks_url = Some(url),
                    _ => problems.push(Problem::at(key, "must be an absolute http or https URL")),
                },
                "give_up_after" => match value.as_str().and_then(|text| humantime::parse_duration(text).ok()) {
                    Some(span) => settings.give_up_after = span,
                    None => problems.push(Problem::at(key, "must be a span of time, as \"7d\"")),
                },
                _ => problems.push(Problem::at(
                    key,
                    "unknown key: a cloudpipe provider also has `resources`, `peer_bearer`, `pipes`, `issuer`, `jwks_url` and `give_up_after`",
                )),
            }
        }
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

fn read_source(value: &toml::Value) -> Result<ResourceSource, Problems> {
    match value {
        toml::Value::Array(entries) => read_list(entries).map(|list| ResourceSource::Listed(Arc::new(list))),
        toml::Value::Table(table) => read_polled(table).map(ResourceSource::Polled),
        _ => {
            let text = "must be a list of ids, or a table with one of `file`, `command` and `url`";
            Err(vec![Problem::at("", text)])
        }
    }
}

fn read_list(entries: &[toml::Value]) -> Result<ResourceList, Problems> {
    let mut problems = Problems::new();
    let mut items: Vec<Listed> = Vec::with_capacity(entries.len());
    for (at, value) in entries.iter().enumerate() {
        let entry: Result<Entry, toml::de::Error> = value.clone().try_into();
        match entry.map_err(|error| error.message().to_owned()).and_then(Entry::check) {
            Ok(listed) => items.push(listed),
            Err(text) => problems.push(Problem::at(format!("[{at}]"), text)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    ResourceList::new(items).map_err(|text| vec![Problem::at("", text)])
}

fn read_polled(table: &toml::Table) -> Result<Polled, Problems> {
    let mut problems = Problems::new();
    let mut from = Vec::new();
    let mut refresh = REFRESH;
    for (key, value) in table {
        let read = match key.as_str() {
            "file" => read_text(value).map(|text| from.push(ListAt::File(text.into()))),
            "command" => read_command(value).map(|words| from.push(ListAt::Command(words))),
            "url" => read_url(value).map(|url| from.push(ListAt::Url(url))),
            "refresh" => read_refresh(value).map(|span| refresh = span),
            _ => Err("unknown key: one of `file`, `command` and `url`, and `refresh`".to_owned()),
        };
        problems.extend(read.err().map(|text| Problem::at(key, text)));
    }
    if from.len() > 1 || (from.is_empty() && problems.is_empty()) {
        problems
            .push(Problem::at("", "exactly one of `file`, `command` and `url` must say where the list is"));
    }
    match from.pop() {
        Some(from) if problems.is_empty() => Ok(Polled { from, refresh }),
        _ => Err(problems),
    }
}

fn read_text(value: &toml::Value) -> Result<String, String> {
    let text = value.as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| "must be a text that is not empty".to_owned())
}

fn read_command(value: &toml::Value) -> Result<Vec<String>, String> {
    let words = value
        .as_array()
        .and_then(|words| words.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    let program = |words: &Vec<String>| words.first().is_some_and(|program| !program.is_empty());
    words.filter(program).ok_or_else(|| "must be a list of texts, the program first".to_owned())
}

fn read_url(value: &toml::Value) -> Result<String, String> {
    let wrong = "must be an http:// or https:// URL, or a path of the provider that begins with `/`";
    let text = read_text(value)?;
    let url: http::Uri = text.parse().map_err(|_| wrong.to_owned())?;
    let good = match url.scheme_str() {
        Some("http" | "https") => url.authority().is_some_and(|authority| !authority.as_str().contains('@')),
        Some(_) => false,
        None => text.starts_with('/') && !text.starts_with("//"),
    };
    if good { Ok(text) } else { Err(wrong.to_owned()) }
}

fn read_refresh(value: &toml::Value) -> Result<Duration, String> {
    let span = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    span.filter(|span| *span >= MIN_REFRESH)
        .ok_or_else(|| "must be a duration of at least 1s, such as \"60s\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ProviderSettings, Vec<String>> {
        let problems = |found: Problems| found.iter().map(ToString::to_string).collect();
        ProviderSettings::read(&text.parse().unwrap()).map_err(problems)
    }

    #[test]
    fn nothing_configured_is_no_resources_and_peers_let_in() {
        let settings = read("").unwrap();
        assert!(settings.peer_bearer);
        assert!(matches!(settings.resources, ResourceSource::Unlisted));
    }

    #[test]
    fn a_list_holds_ids_and_tables() {
        let settings = read(r#"resources = ["web", { id = "db", url = "https://own.example/db" }]"#).unwrap();
        let ResourceSource::Listed(list) = settings.resources else { panic!("not a list") };
        assert_eq!(list.items().len(), 2);
        assert_eq!(list.url("db"), Some("https://own.example/db"));
    }

    #[test]
    fn a_list_can_be_read_from_elsewhere() {
        let polled = |text: &str| match read(text).unwrap().resources {
            ResourceSource::Polled(polled) => polled,
            _ => panic!("not polled"),
        };
        let file = polled(r#"resources = { file = "ids.txt", refresh = "5m" }"#);
        assert_eq!(file, Polled { from: ListAt::File("ids.txt".into()), refresh: Duration::from_secs(300) });
        let command = polled(r#"resources = { command = ["ids", "-l"] }"#);
        assert_eq!(
            command,
            Polled { from: ListAt::Command(vec!["ids".into(), "-l".into()]), refresh: REFRESH }
        );
        assert_eq!(polled(r#"resources = { url = "/ids" }"#).from, ListAt::Url("/ids".into()));
    }

    #[test]
    fn all_mistakes_are_told_at_once_with_their_paths() {
        let text = "peer_bearer = 1\nresurces = []\nresources = [\"\", \"ok\", { id = \"x\", url = \"ftp://h\" }, 7]";
        let problems = read(text).unwrap_err();
        let paths: Vec<&str> = problems.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(paths, ["peer_bearer", "resources[0]", "resources[2]", "resources[3]", "resurces"]);
        let polled = read("resources = { file = \"a\", url = \"b\", refresh = \"1ms\", x = 1 }").unwrap_err();
        let paths: Vec<&str> = polled.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(paths.len(), 3, "{polled:?}");
        assert!(read("resources = {}").is_err());
        assert!(read("resources = { file = \"a\", command = [\"b\"] }").is_err());
    }
}
