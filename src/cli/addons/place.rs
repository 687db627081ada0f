//! Which standpipe, which app: from flags and the environment, else from `.standpipe.toml` of the folder or one above.

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
    app: Option<String>,
    channel: Option<String>,
    env_file: Option<PathBuf>,
}

/// Where, and for which app.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Place {
    /// The base URL of the standpipe.
    pub url: String,
    app: Option<String>,
    channel: Option<String>,
    /// The app's env file, when its folder names one.
    pub env_file: Option<PathBuf>,
}

impl Place {
    /// Takes what was typed, and looks for the rest from `folder` upwards.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn of(flags: &Flags, folder: &Path) -> Result<Self, String> {
        let file = folder.ancestors().map(|folder| folder.join(FILE)).find(|file| file.is_file());
        let kept = file.as_deref().map(read).transpose()?.unwrap_or_default();
        let beside = file.as_deref().and_then(Path::parent).unwrap_or(folder);
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let url = filled(flags.url.clone()).or(kept.url).unwrap_or_else(|| URL.to_owned());
        Ok(Self {
            url,
            app: filled(flags.app.clone()).or(kept.app),
            channel: filled(flags.channel.clone()).or(kept.channel),
            env_file: kept.env_file.map(|file| beside.join(file)),
        })
    }

    /// The app.
    ///
    /// # Errors
    /// Nobody named one.
    pub(super) fn app(&self) -> Result<&str, String> {
        self.app.as_deref().ok_or_else(|| unnamed("app", "myapp"))
    }

    /// The app's channel.
    ///
    /// # Errors
    /// Nobody named one.
    pub(super) fn channel(&self) -> Result<&str, String> {
        self.channel.as_deref().ok_or_else(|| unnamed("channel", "development"))
    }
}

fn unnamed(what: &str, example: &str) -> String {
    let variable = what.to_uppercase();
    format!(
        "which {what}? say --{what} {example}, set STANDPIPE_{variable}, or write {what} = \"{example}\" into {FILE}"
    )
}

fn read(file: &Path) -> Result<Kept, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| wrong(&error))?;
    let table = text.parse().map_err(|error: toml::de::Error| wrong(&error.message()))?;
    Settings::read(&table).map_err(|problems| wrong(&super::super::lines(&problems)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(app: Option<&str>) -> Flags {
        Flags { url: None, app: app.map(str::to_owned), channel: None, json: false }
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
        assert_eq!((place.app(), place.channel(), &*place.url), (Ok("myapp"), Ok("development"), URL));
        assert_eq!(place.env_file, Some(folder.path().join(".env")));
        assert_eq!(Place::of(&flags(Some("other")), &inner).unwrap().app(), Ok("other"));
        std::fs::write(inner.join(FILE), "url = \"https://standpipe.example\"\n").unwrap();
        let place = Place::of(&flags(None), &inner).unwrap();
        assert_eq!(place.url, "https://standpipe.example");
        assert!(place.app().unwrap_err().contains("--app myapp, set STANDPIPE_APP, or write app = "));
        std::fs::write(inner.join(FILE), "ap = \"x\"\n").unwrap();
        let error = Place::of(&flags(None), &inner).unwrap_err();
        assert!(error.contains("a/b/.standpipe.toml") && error.contains("ap"), "{error}");
    }
}
