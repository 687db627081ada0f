//! What of a list a caller wants, and which page of it.

use percent_encoding::percent_decode_str;
use standpipe_api::{Error, Result};

use super::{Item, Wanted};
use crate::cloudpipe::shape;
use crate::path::encode_query;

/// Items on a page at most.
const MOST: usize = 1000;

/// The query of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) provider: Option<String>,
    pub(super) resource: Option<String>,
    proto: Option<String>,
    adapter: Option<String>,
    name: Option<String>,
    pub(super) strict: bool,
    limit: Option<usize>,
    marker: Option<Key>,
}

/// What the order of a list depends on: the provider's place, the resource, the item's name.
type Key = (usize, String, String);

impl Filter {
    /// Reads a query.
    ///
    /// # Errors
    /// An unknown parameter, or a value that cannot be one.
    pub(super) fn parse(query: &str) -> Result<Self> {
        let mut filter = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_decode_str(&value).decode_utf8_lossy().into_owned();
            match name {
                "provider" => filter.provider = Some(value),
                "resource" => filter.resource = Some(value),
                "proto" => filter.proto = Some(value),
                "adapter" => filter.adapter = Some(value),
                "name" => filter.name = Some(value),
                "strict" => filter.strict = strict(&value)?,
                "limit" => filter.limit = Some(limit(&value)?),
                "marker" => filter.marker = Some(marker(&value)?),
                _ => {
                    let known = "provider, resource, proto, adapter, name, limit, marker, strict";
                    let public = format!("the parameter `{name}` is unknown; known are {known}");
                    return Err(Error::bad_request(public));
                }
            }
        }
        Ok(filter)
    }

    /// Whether a resource is asked for.
    pub(super) fn takes_resource(&self, id: &str) -> bool {
        self.resource.as_deref().is_none_or(|wanted| wanted == id)
    }

    /// The lists that this page begins with, at most so many, and the last of them when there are more.
    pub(super) fn window(&self, wanted: Vec<Wanted>, most: usize) -> (Vec<Wanted>, Option<Key>) {
        let begins = |wanted: &Wanted| {
            let marker = self.marker.as_ref();
            marker.is_none_or(|(at, resource, _)| (wanted.at, wanted.resource.as_str()) >= (*at, resource))
        };
        let mut wanted: Vec<Wanted> = wanted.into_iter().filter(begins).collect();
        let more = wanted.len() > most;
        wanted.truncate(most);
        // Behind every item of that list.
        let end = |last: &Wanted| (last.at, last.resource.to_string(), char::MAX.to_string());
        let cut = wanted.last().filter(|_| more).map(end);
        (wanted, cut)
    }

    /// The items of this page, and the query of the next; `cut` is where the lists end that were asked for.
    pub(super) fn page(&self, items: Vec<Item>, cut: Option<Key>) -> (Vec<Item>, Option<String>) {
        let after = |item: &Item| self.marker.as_ref().is_none_or(|marker| item.key > *marker);
        let mut kept: Vec<Item> = items.into_iter().filter(|item| self.takes(item) && after(item)).collect();
        let Some(limit) = self.limit.filter(|limit| kept.len() > *limit) else {
            return (kept, cut.map(|cut| self.next(&cut)));
        };
        kept.truncate(limit);
        let next = kept.last().map(|last| self.next(&last.key));
        (kept, next)
    }

    fn takes(&self, item: &Item) -> bool {
        // A blueprint lists the protos it takes, a pipe has the one it was bound with.
        let has = |many, one, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| {
                shape::has_entry(&item.value, many, wanted) || shape::is_bound_with(&item.value, one, wanted)
            })
        };
        let named = self.name.as_deref().is_none_or(|wanted| wanted == item.key.2);
        named && has("protos", "proto", &self.proto) && has("adapters", "adapters", &self.adapter)
    }

    fn next(&self, last: &Key) -> String {
        let given = [
            ("provider", &self.provider),
            ("resource", &self.resource),
            ("proto", &self.proto),
            ("adapter", &self.adapter),
            ("name", &self.name),
        ];
        let mut query: Vec<String> = given
            .iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encode_query(value.as_deref()?))))
            .collect();
        query.extend(self.strict.then(|| "strict=true".to_owned()));
        query.extend(self.limit.map(|limit| format!("limit={limit}")));
        let marker = serde_json::json!([last.0, last.1, last.2]).to_string();
        query.push(format!("marker={}", encode_query(&marker)));
        query.join("&")
    }
}

fn strict(value: &str) -> Result<bool> {
    match value {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::bad_request("`strict` must be true or false")),
    }
}

fn limit(value: &str) -> Result<usize> {
    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| Error::bad_request(format!("`limit` must be a number from 1 to {MOST}")))
}

fn marker(value: &str) -> Result<Key> {
    serde_json::from_str(value)
        .map_err(|_| Error::bad_request("`marker` must be one that a `next` link of this list held"))
}
