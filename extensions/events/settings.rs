//! `[extensions.events]`.

use std::time::Duration;

use serde::Deserialize;
use standpipe_api::{Problem, Problems};

/// Bounds on those who follow.
#[derive(Debug)]
pub(super) struct Settings {
    /// Waits and streams at once. Each is woken by every event and reads it from the store, which others read, too.
    pub(super) followers: usize,
    /// How long a stream is silent before it says that it is still there.
    pub(super) heartbeat: Duration,
    /// How long a stream lasts before its client has to come back and be recognised anew.
    pub(super) longest: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let (heartbeat, longest) = (Duration::from_secs(15), Duration::from_secs(15 * 60));
        Self { followers: 256, heartbeat, longest }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    followers: Option<usize>,
    heartbeat: Option<String>,
    longest_stream: Option<String>,
}

impl Settings {
    /// # Errors
    /// Every mistake in the table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let (keys, mut problems) = standpipe_api::Settings::examine::<Keys>(table);
        let Some(keys) = keys else { return Err(problems) };
        let default = Self::default();
        let mut span = |key, text: Option<String>, default| {
            let Some(text) = text else { return default };
            let read = humantime::parse_duration(&text).ok().filter(|span| *span >= Duration::from_secs(1));
            read.unwrap_or_else(|| {
                problems.push(Problem::at(key, format!("`{text}` is no span of at least 1s, as 15s or 10m")));
                default
            })
        };
        let heartbeat = span("heartbeat", keys.heartbeat, default.heartbeat);
        let longest = span("longest_stream", keys.longest_stream, default.longest);
        let followers = keys.followers.unwrap_or(default.followers);
        if followers == 0 || followers > 100_000 {
            problems.push(Problem::at("followers", "must be from 1 to 100000"));
        }
        if problems.is_empty() { Ok(Self { followers, heartbeat, longest }) } else { Err(problems) }
    }
}
