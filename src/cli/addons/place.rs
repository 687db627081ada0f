//! Which standpipe or service broker, which app: from flags and the environment, else from `.standpipe.toml` of the folder or
//! one above.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use standpipe_api::Settings;

use super::Flags;

/// The file's name.
const FILE: &str = ".standpipe.toml";
/// The standpipe when nobody names one.
const URL: &str = "http://127.0.0.1:8080";

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    url: Option<String>,
    osb_url: Option<String>,
    app: Option<String>,
    channel: Option<String>,
    env_file: Option<PathBuf>,
}

/// Who is asked for add-ons, by base URL.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// A standpipe.
    Standpipe(String),
    /// A service broker, by a standpipe within the command.
    Broker(String),
}

/// Where, and for which app.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    /// Who is asked.
    pub asked: Asked,
    /// The app's folder.
    pub folder: PathBuf,
    app: Option<String>,
    channel: Option<String>,
    /// The app's env file, when its folder names one.
    pub env_file: Option<PathBuf>,
}

impl Place {
    /// Takes what was typed, and looks for the rest from `folder` upwards.
    ///
    /// # Errors
    /// The file cannot be used, or the app or channel is empty.
    pub(super) fn of(flags: &Flags, folder: &Path) -> Result<Self, String> {
        let file = folder.ancestors().map(|folder| folder.join(FILE)).find(|file| file.is_file());
        let kept = file.as_deref().map(read).transpose()?.unwrap_or_default();
        let beside = file.as_deref().and_then(Path::parent).unwrap_or(folder);
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let typed = (filled(flags.osb_url.clone()), filled(flags.url.clone()));
        let asked = match if typed == (None, None) { (kept.osb_url, kept.url) } else { typed } {
            (Some(broker), _) => Asked::Broker(broker),
            (None, Some(url)) => Asked::Standpipe(url),
            (None, None) => Asked::Standpipe(URL.to_owned()),
        };
        Ok(Self {
            asked,
            folder: beside.to_owned(),
            app: named("app", flags.app.clone().or(kept.app))?,
            channel: named("channel", flags.channel.clone().or(kept.channel))?,
            env_file: kept.env_file.map(|file| beside.join(file)),
        })
    }

    /// The app.
    ///
    /// # Errors
    /// Nobody named one.
    pub(super) fn app(&self) -> Result<&str, String> {
        self.app.as_deref().ok_or_else(|| unnamed("app"))
    }

    /// The app's channel.
    ///
    /// # Errors
    /// Nobody named one.
    pub(super) fn channel(&self) -> Result<&str, String> {
        self.channel.as_deref().ok_or_else(|| unnamed("channel"))
    }
}

/// An empty name is a variable somebody forgot to set: what stands elsewhere was not meant.
fn named(what: &str, name: Option<String>) -> Result<Option<String>, String> {
    match name {
        Some(name) if name.trim().is_empty() => Err(format!("the {what} is empty; {}", unnamed(what))),
        name => Ok(name),
    }
}

fn unnamed(what: &str) -> String {
    let example = if what == "app" { "myapp" } else { "development" };
    let variable = what.to_uppercase();
    format!(
        "which {what}? say --{what} {example}, set STANDPIPE_{variable}, or write {what} = \"{example}\" into {FILE}"
    )
}

fn read(file: &Path) -> Result<Kept, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let table = text.parse().map_err(|error: toml::de::Error| wrong(&error.message()))?;
    let kept: Kept = Settings::read(&table).map_err(|problems| wrong(&super::super::lines(&problems)))?;
    match (&kept.url, &kept.osb_url) {
        (Some(_), Some(_)) => {
            Err(wrong(&"choose one of `url`, a standpipe, and `osb_url`, a service broker"))
        }
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(app: Option<&str>) -> Flags {
        let nothing =
            Flags { url: None, osb_url: None, app: None, channel: None, json: false, unencrypted: false };
        Flags { app: app.map(str::to_owned), ..nothing }
    }

    fn standpipe(url: &str) -> Asked {
        Asked::Standpipe(url.to_owned())
    }

    #[test]
    fn the_nearest_file_counts_and_what_is_typed_counts_more() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(
            folder.path().join(FILE),
            "app = \"myapp\"\nchannel = \"development\"\nenv_file = \".env\"\n",
        )
        .unwrap();
        let place = Place::of(&flags(None), &inner).unwrap();
        assert_eq!(
            (place.app(), place.channel(), &place.asked),
            (Ok("myapp"), Ok("development"), &standpipe(URL))
        );
        assert_eq!(place.env_file, Some(folder.path().join(".env")));
        assert_eq!(Place::of(&flags(Some("other")), &inner).unwrap().app(), Ok("other"));
        std::fs::write(inner.join(FILE), "url = \"https://standpipe.example\"\n").unwrap();
        let place = Place::of(&flags(None), &inner).unwrap();
        assert_eq!(place.asked, standpipe("https://standpipe.example"));
        assert_eq!(place.folder, inner);
        assert!(place.app().unwrap_err().contains("--app myapp, set STANDPIPE_APP, or write app = "));
        let typed = Flags { osb_url: Some("https://broker.example".to_owned()), ..flags(None) };
        let broker = Asked::Broker("https://broker.example".to_owned());
        assert_eq!(Place::of(&typed, &inner).unwrap().asked, broker);
        std::fs::write(inner.join(FILE), "osb_url = \"https://broker.example\"\n").unwrap();
        assert_eq!(Place::of(&flags(None), &inner).unwrap().asked, broker);
        std::fs::write(inner.join(FILE), "url = \"a\"\nosb_url = \"b\"\n").unwrap();
        assert!(Place::of(&flags(None), &inner).unwrap_err().contains("choose one of `url`"));
        std::fs::write(inner.join(FILE), "ap = \"x\"\n").unwrap();
        let error = Place::of(&flags(None), &inner).unwrap_err();
        assert!(error.contains("a/b/.standpipe.toml") && error.contains("ap"), "{error}");
    }
    #[test]
    fn an_empty_name_is_not_made_up_for() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "app = \"myapp\"\n").unwrap();
        for empty in ["", " "] {
            let error = Place::of(&flags(Some(empty)), folder.path()).unwrap_err();
            assert!(error.starts_with("the app is empty; which app? say --app myapp"), "{error}");
        }
        std::fs::write(folder.path().join(FILE), "channel = \"\"\n").unwrap();
        let error = Place::of(&flags(None), folder.path()).unwrap_err();
        assert!(
            error.starts_with("the channel is empty; which channel? say --channel development"),
            "{error}"
        );
    }
}
