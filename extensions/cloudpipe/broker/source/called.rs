//! `command` and `http`: somebody outside makes the data, or carries out what a pipe stands for.
//!
//! Both are told the event and the pipe, and answer with a JSON object of keys, or with nothing. They are called at
//! least once per event: after a crash perhaps again, with the same pipe.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use standpipe_api::{Error, ErrorKind, Fault, Outbound, Result};

use super::{Event, Source};
use crate::outside::{Program, Server};

/// A command: the pipe on standard input, the event in `STANDPIPE_EVENT`, the keys on standard output.
pub(super) struct Ran(pub(super) Program);

#[async_trait]
impl Source for Ran {
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let printed = self.0.run(pipe.to_string().as_bytes(), &[("STANDPIPE_EVENT", event.word())]).await;
        keys(&printed.map_err(|error| failed("the command failed", error))?)
    }
}

/// A server: `{"event":..,"pipe":..}` is posted, the keys come back.
pub(super) struct Fetched {
    pub(super) server: Server,
    pub(super) outbound: Arc<dyn Outbound>,
}

#[async_trait]
impl Source for Fetched {
    async fn produce(&self, event: Event, pipe: &Value) -> Result<Map<String, Value>> {
        let body = Bytes::from(json!({"event": event.word(), "pipe": pipe}).to_string());
        let answer = self.server.post(&*self.outbound, body).await?;
        if !answer.status().is_success() {
            return Err(failed("the server refused", answer.status()));
        }
        keys(answer.body())
    }
}

fn keys(text: &[u8]) -> Result<Map<String, Value>> {
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(text).map_err(|error| failed("the answer is no JSON object", error))
}

fn failed(public: &'static str, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).because(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shell(script: &str) -> Ran {
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        Ran(Program { words, limit: Duration::from_secs(20), longest: 1000 })
    }

    #[tokio::test]
    async fn a_command_is_told_the_event_and_the_pipe() {
        let script = r#"printf '{"EVENT":"%s","PIPE":%s}' "$STANDPIPE_EVENT" "$(cat)""#;
        let made = shell(script).produce(Event::Rotate, &json!({"id": "p"})).await.unwrap();
        assert_eq!(Value::from(made), json!({"EVENT": "rotate", "PIPE": {"id": "p"}}));
        assert!(shell("true").produce(Event::Unbind, &json!({})).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_command_complains_of_is_for_the_log() {
        let error = shell("echo secret-host >&2; exit 1").produce(Event::Bind, &json!({})).await.unwrap_err();
        assert!(
            !error.public().contains("secret-host") && error.log_text().contains("secret-host"),
            "{error:?}"
        );
        let error = shell("echo '[1]'").produce(Event::Bind, &json!({})).await.unwrap_err();
        assert!(error.public().contains("no JSON object"));
    }
}
