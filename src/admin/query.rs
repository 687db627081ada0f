//! The query of an admin request: every name known, none twice.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use standpipe_api::{Error, Resource, Result};

/// Decoded parameters.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query; `+` stands for itself (RFC 3986).
    ///
    /// # Errors
    /// A name not in `known`, a name twice, bytes that are no UTF-8.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Self> {
        let mut found: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let text = format!("there is no parameter {name:?} here");
                return Err(Error::bad_request(text).advise(format!("known are {}", known.join(", "))));
            }
            if found.iter().any(|(earlier, _)| *earlier == name) {
                return Err(Error::bad_request(format!("the parameter {name} stands there twice")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    /// A parameter's value; `None` when it is absent, which is not the same as empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| Error::bad_request("the query is not UTF-8"))
}

/// A key as the opaque text behind which the next page begins.
pub(crate) fn cursor(resource: &Resource) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(resource).unwrap_or_default())
}

/// # Errors
/// The text is no cursor of ours.
pub(crate) fn read_cursor(text: &str) -> Result<Resource> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
        Error::bad_request("the parameter after is no cursor").advise("take it from next of the page before")
    })
}

#[cfg(test)]
mod tests {
    use standpipe_api::Kind;

    use super::*;

    #[test]
    fn parameters_are_decoded_and_a_plus_is_a_plus() {
        let found = Parameters::read(Some("parent=a%2Fb+c&kind="), &["parent", "kind", "id"]).unwrap();
        assert_eq!(found.get("parent"), Some("a/b+c"));
        assert_eq!(found.get("kind"), Some(""));
        assert_eq!(found.get("id"), None);
    }

    #[test]
    fn unknown_and_doubled_parameters_are_named() {
        let unknown = Parameters::read(Some("provder=alpha"), &["provider"]).unwrap_err();
        assert!(unknown.public().contains("provder") && unknown.advice().contains("provider"));
        assert!(Parameters::read(Some("kind=a&kind=b"), &["kind"]).unwrap_err().public().contains("twice"));
        assert!(Parameters::read(Some("kind=%ff"), &["kind"]).is_err());
    }

    #[test]
    fn a_cursor_carries_any_key() {
        let odd = Resource::new(Kind::of("pipe"), "a/b\n\"ü").within("x:y");
        assert_eq!(read_cursor(&cursor(&odd)).unwrap(), odd);
        assert!(read_cursor("nonsense").is_err());
    }
}
