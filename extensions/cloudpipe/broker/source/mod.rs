//! Where a pipe's data comes from.
//!
//! In: an event in a pipe's life and the pipe as JSON. Out: top-level keys for the `data` of its own end.
//! It never writes a pipe.

mod called;
mod certificate;
mod fixed;
mod generate;
mod identity;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Outbound, Result};

use self::called::{Fetched, Ran};
use self::certificate::Certificates;
use self::fixed::Fixed;
use self::generate::Random;
use self::identity::Identity;
use self::settings::SourceKind;
pub use self::settings::SourceSettings;

/// What happens to the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is being created.
    Bind,
    /// A caller changed it.
    Update,
    /// Its data is to be made anew.
    Rotate,
    /// It is gone.
    Unbind,
}

impl Event {
    /// The word a command or server is told.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Update => "update",
            Self::Rotate => "rotate",
            Self::Unbind => "unbind",
        }
    }
}

/// How far a source reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It only makes data; there is nothing to tell it and nothing to release.
    Inside,
    /// Its data follows from the rest of the pipe, so that it is told of updates.
    Pipe,
    /// It calls a command or a server, which may keep something per pipe.
    Outside,
}

/// A place data comes from.
#[async_trait]
pub trait Source: Send + Sync {
    /// The data for a pipe, called at least once per event.
    ///
    /// # Errors
    /// It could not be had.
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>>;

    /// How often what it makes has to be made anew, if the settings do not say.
    fn rotate_every(&self) -> Option<Duration> {
        None
    }
}

/// Builds a source.
pub fn build(settings: &SourceSettings, outbound: Arc<dyn Outbound>) -> Arc<dyn Source> {
    match settings.kind.clone() {
        SourceKind::Table(table) => Arc::new(Fixed(table)),
        SourceKind::Random(keys) => Arc::new(Random { keys }),
        SourceKind::Identity(identity) => Arc::new(Identity(identity)),
        SourceKind::Certificate(authority) => Arc::new(Certificates(authority)),
        SourceKind::Command(program) => Arc::new(Ran(program)),
        SourceKind::Http(server) => Arc::new(Fetched { server, outbound }),
    }
}

impl SourceSettings {
    /// How often its data is to be made anew.
    pub fn rotate_every(&self) -> Option<Duration> {
        self.rotate_every
    }

    /// The secrets its data holds now, so that another value is noticed like another declaration.
    pub fn secrets(&self) -> BTreeMap<String, String> {
        match &self.kind {
            SourceKind::Table(table) => table.secrets(),
            _ => BTreeMap::new(),
        }
    }

    /// How far it reaches.
    pub fn reach(&self) -> Reach {
        match self.kind {
            SourceKind::Table(_) | SourceKind::Random(_) | SourceKind::Certificate(_) => Reach::Inside,
            SourceKind::Identity(_) => Reach::Pipe,
            SourceKind::Command(_) | SourceKind::Http(_) => Reach::Outside,
        }
    }
}
