//! Everybody who reaches a loopback listener, whatever they carry; the configuration refuses it elsewhere.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::request::Parts;
use standpipe_api::{Authenticator, Caller, Connection, Identified};

/// The `anonymous` authenticator.
pub struct Anonymous(Arc<Caller>);

impl Anonymous {
    /// One caller for all.
    pub fn new() -> Self {
        let id = "anonymous".into();
        Self(Arc::new(Caller { id, tenant: None, groups: Vec::new(), authenticator: "anonymous" }))
    }
}

impl Default for Anonymous {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait(?Send)]
impl Authenticator for Anonymous {
    fn name(&self) -> &'static str {
        "anonymous"
    }

    fn challenge(&self) -> Option<HeaderValue> {
        None
    }

    fn recall(&self, _head: &Parts, _connection: &Connection) -> Option<Arc<Caller>> {
        Some(self.0.clone())
    }

    async fn identify(&self, _head: &Parts, _connection: &Connection) -> Identified {
        Identified::Caller(self.0.clone())
    }
}
