//! A list of resources as an operator, a file, a command or a URL gives it.

use std::collections::HashMap;

use serde::Deserialize;
use standpipe_api::ResourceId;

use crate::path;

/// Resources of one list; a longer list is refused as a whole, so that nothing is silently missing.
pub(super) const MAX_RESOURCES: usize = 100_000;

/// Bytes of an id; together with prefix and pipe id it must fit into a request line.
const MAX_ID: usize = 512;

/// One configured resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its id.
    pub id: ResourceId,
    /// The URL under which its `/pipes` is found, without a trailing slash, when that is not the provider's.
    pub url: Option<String>,
}

/// The configured resources of one provider, each once, in the order of their ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResourceList {
    items: Vec<Listed>,
    urls: HashMap<ResourceId, String>,
}

impl ResourceList {
    /// Orders the list.
    ///
    /// # Errors
    /// An id that stands in it twice, or too many of them.
    pub(super) fn new(mut items: Vec<Listed>) -> Result<Self, String> {
        if items.len() > MAX_RESOURCES {
            return Err(format!("{} resources, but at most {MAX_RESOURCES} are taken", items.len()));
        }
        items.sort_by(|a, b| a.id.cmp(&b.id));
        let twice = items.iter().zip(items.iter().skip(1)).find(|(a, b)| a.id == b.id);
        if let Some((listed, _)) = twice {
            return Err(format!("the resource {} is listed twice", listed.id));
        }
        let own = |listed: &Listed| listed.url.clone().map(|url| (listed.id.clone(), url));
        let urls = items.iter().filter_map(own).collect();
        Ok(Self { items, urls })
    }

    /// Reads what a file, command or URL gave: a JSON array of ids and `{"id", "url"}` objects, or one id per line.
    ///
    /// # Errors
    /// A sentence that says what is wrong and where.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(text).map_err(|error| format!("the list is not UTF-8: {error}"))?;
        let text = text.trim();
        let entries: Vec<Entry> = if text.starts_with('[') {
            serde_json::from_str(text)
                .map_err(|error| format!("the list is not what is expected: {error}"))?
        } else {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Entry::id).collect()
        };
        Self::new(entries.into_iter().map(Entry::check).collect::<Result<_, _>>()?)
    }

    /// The resources.
    pub(super) fn items(&self) -> &[Listed] {
        &self.items
    }

    /// The own URL of the resource that a path segment names.
    pub(super) fn url(&self, segment: &str) -> Option<&str> {
        if self.urls.is_empty() { None } else { self.urls.get(&*path::decode(segment)?).map(String::as_str) }
    }
}

/// An entry as it is written, in TOML or JSON.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an entry is an id or an object with `id` and, if it has its own, `url`")]
pub(super) enum Entry {
    Id(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Full {
    id: String,
    url: Option<String>,
}

impl Entry {
    fn id(line: &str) -> Self {
        Self::Id(line.to_owned())
    }

    /// The resource, when its id and URL can be used.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn check(self) -> Result<Listed, String> {
        let (id, url) = match self {
            Self::Id(id) => (id, None),
            Self::Full(full) => (full.id, full.url),
        };
        if id.len() > MAX_ID || !path::is_segment(&id) {
            let shown: String = id.chars().take(40).collect();
            return Err(format!(
                "{shown:?} is no resource id: one path segment of 1 to {MAX_ID} bytes, no dots alone"
            ));
        }
        let url = url.map(|url| base_url(&url)).transpose()?;
        Ok(Listed { id: id.into(), url })
    }
}

/// A base URL as it is kept: `http` or `https`, no userinfo, query or trailing slash.
fn base_url(text: &str) -> Result<String, String> {
    let wrong =
        "a resource's url must be http:// or https:// with a host and without user, query or fragment";
    let url: http::Uri = text.parse().map_err(|_| wrong.to_owned())?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let authority = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    if !scheme || !authority || url.query().is_some() || text.contains('#') {
        return Err(wrong.to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &ResourceList) -> Vec<&str> {
        list.items().iter().map(|listed| listed.id.as_str()).collect()
    }

    #[test]
    fn lines_and_json_give_the_same_list() {
        let lines = ResourceList::parse(b"db\r\n\n arn:rds:analytics-db \n").unwrap();
        let json = ResourceList::parse(br#" ["db", {"id": "arn:rds:analytics-db"}]"#).unwrap();
        assert_eq!(lines, json);
        assert_eq!(ids(&lines), ["arn:rds:analytics-db", "db"]);
    }

    #[test]
    fn a_resource_may_have_its_own_url() {
        let list =
            ResourceList::parse(br#"[{"id": "db", "url": "https://own.example/db/"}, "web"]"#).unwrap();
        assert_eq!(list.url("db"), Some("https://own.example/db"));
        assert_eq!(list.url("web"), None);
    }

    #[test]
    fn what_cannot_be_a_resource_is_refused() {
        let wrong: [&[u8]; 8] = [
            b"..",
            b"a/b",
            b"db\ndb",
            b"\xff",
            br#"[""]"#,
            br#"[{"id":"a","uri":"http://h"}]"#,
            br#"[{"id":"a","url":"http://user:secret@h"}]"#,
            br#"[1]"#,
        ];
        for text in wrong {
            assert!(ResourceList::parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        let secret = ResourceList::parse(br#"[{"id":"a","url":"http://user:secret@h"}]"#).unwrap_err();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn an_empty_output_is_an_empty_list() {
        assert!(ResourceList::parse(b" \n").unwrap().items().is_empty());
    }
}
