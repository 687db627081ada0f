//! The providers as an operator sees them.

use serde::Serialize;
use serde_json::{Value, json};
use standpipe_api::{ProviderId, Timestamp};

use crate::notes::Note;

/// How one provider is doing.
#[derive(Clone, Debug, Serialize)]
pub struct ProviderStatus {
    /// Its name.
    pub name: ProviderId,
    /// The dialect it speaks.
    pub dialect: String,
    /// `remote`, or the word of the extension that serves it in this process.
    pub kind: String,
    /// Its base URL; userinfo and query are cut before it is shown. `None` in process.
    #[serde(serialize_with = "without_secrets", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Requests there now.
    pub in_flight: usize,
    /// Requests that may be there at once.
    pub concurrency: usize,
    /// Connections to it.
    pub pool: PoolStatus,
    /// Ids in its index that lead requests to it.
    pub indexed: usize,
    /// What extensions say of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The last time it could not be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// The position of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// One request may try.
    HalfOpen,
    /// No request passes.
    Open,
}

/// Connections of all cores to a provider.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PoolStatus {
    /// Waiting for a request.
    pub idle: usize,
    /// Carrying one.
    pub active: usize,
}

/// An error that a provider caused.
#[derive(Clone, Debug, Serialize)]
pub struct LastError {
    /// When.
    pub at: Timestamp,
    /// What: an error's public text.
    pub error: String,
}

pub(super) fn list(providers: Vec<ProviderStatus>) -> Value {
    json!({ "providers": providers })
}

fn without_secrets<S: serde::Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_deref().map(public_url).serialize(serializer)
}

/// The URL without userinfo and query. Works on templates too, which are no URLs yet.
fn public_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_password_and_no_query() {
        assert_eq!(public_url("https://u:p@h:1/a/{resource}?key=s#f"), "https://h:1/a/{resource}");
        assert_eq!(public_url("https://u:p@ss@{resource}.example"), "https://{resource}.example");
        assert_eq!(public_url("http://h/a@b"), "http://h/a@b");
    }
}
