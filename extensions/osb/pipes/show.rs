//! A pipe as callers see it.

use serde_json::{Map, Value, json};
use standpipe_api::{Federation, Result};

use super::news::Credentials;
use super::record::{Bound, Goal, Step};
use super::services::Services;
use crate::cloudpipe::broker::pipe::End;
use crate::cloudpipe::broker::wire;
use crate::osb::client::{Client, Through};

/// What a caller is told where there is nothing to be read.
const GONE: &str = "the broker does not tell the credentials again and they are not kept; POST to this pipe's `rotate` link for \
                    new ones, or set keep_credentials";

impl Bound {
    /// How far it is.
    pub(super) fn state(&self) -> &'static str {
        match (self.goal, self.step) {
            (Goal::Gone, _) => "deleting",
            (Goal::Failed, _) | (_, Step::Failed) => "failed",
            (Goal::Live, Step::Bind) if self.previous.is_some() => "rotating",
            (Goal::Live, Step::Ready) => "ready",
            (Goal::Live, _) => "pending",
        }
    }

    /// As the spec's `Pipe`, without its data.
    pub(super) fn wire(&self, public_url: &str) -> Map<String, Value> {
        let uri = wire::uri(public_url, &self.resource, &self.pipe.id);
        let this =
            End { uri: Some(uri.clone()), issuer: Some(public_url.to_owned()), ..self.pipe.this.clone() };
        let rotate = json!({ "href": format!("{uri}/rotate") });
        let mut links = wire::links(public_url, &self.resource, uri, self.pipe.binding.as_ref());
        if let Some(links) = links.as_object_mut() {
            links.insert("rotate".to_owned(), rotate);
        }
        let mut wire = Map::new();
        wire.insert("id".to_owned(), self.pipe.id.as_str().into());
        wire.insert("this".to_owned(), wire::plain_end(&this));
        wire.insert("other".to_owned(), wire::plain_end(&self.pipe.other));
        wire.insert("state".to_owned(), self.state().into());
        if let Some(trouble) = &self.trouble {
            wire.insert("description".to_owned(), trouble.text.as_str().into());
        }
        wire.insert("instance_id".to_owned(), self.instance.id().into());
        wire.insert("binding_id".to_owned(), self.counting().into());
        wire.insert("_links".to_owned(), links);
        wire
    }
}

impl Services {
    /// A pipe with its data, which are read where they are.
    ///
    /// # Errors
    /// The broker does not tell them now.
    pub(super) async fn shown(&self, bound: &Bound, fed: &dyn Federation) -> Result<Value> {
        let mut wire = bound.wire(fed.public_url());
        if matches!(bound.state(), "ready" | "rotating") {
            let client = Client::new(&self.brokers, Through::Call(fed), bound.caller());
            match self.credentials(bound, &client).await? {
                Credentials::Known(data) => {
                    if let Some(this) = wire.get_mut("this").and_then(Value::as_object_mut) {
                        this.insert("data".to_owned(), data.into());
                    }
                }
                Credentials::Gone => {
                    wire.entry("description").or_insert_with(|| GONE.into());
                }
            }
        }
        Ok(Value::Object(wire))
    }
}
