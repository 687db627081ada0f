//! Many lists become one: each item as its broker gave it, with where it is from and links that lead through standpipe.

use serde_json::{Map, Value, json};

use super::{Part, Wanted};
use crate::cloudpipe::bases::Bases;
use crate::cloudpipe::mediate;
use crate::cloudpipe::resources::Resources;
use crate::cloudpipe::shape;
use crate::path;

/// An item with what its place in the list depends on.
pub(super) struct Item {
    /// The provider's place in the configuration, the resource, the item's own name.
    pub(super) key: (usize, String, String),
    /// The item.
    pub(super) value: Map<String, Value>,
}

/// Joins the parts in their stable order and adds to each item where it is from.
pub(super) fn merge(resources: &Resources, parts: Vec<Part>, public_url: &str) -> Vec<Item> {
    let mut claimed: Vec<(&str, usize)> =
        parts.iter().map(|part| (part.wanted.resource.as_str(), part.wanted.at)).collect();
    claimed.sort_unstable();
    claimed.dedup();
    let shared = |id: &str| claimed.iter().filter(|(resource, _)| *resource == id).count() > 1;
    let places: Vec<String> =
        parts.iter().map(|part| place(&part.wanted, shared(part.wanted.resource.as_str()))).collect();
    let mut items = Vec::new();
    for (part, place) in parts.into_iter().zip(places) {
        let Wanted { provider, at, resource, side } = part.wanted;
        let encoded = path::encode(resource.as_str());
        let own = resources.url(&provider, &encoded);
        let bases = Bases::new(&provider.url, public_url).with_resource(&encoded, own.as_deref());
        for value in part.items.iter() {
            let mut value = value.clone();
            let name = shape::name(&value).unwrap_or_default().to_owned();
            if side == "pipes" {
                mediate::show_listed(&mut value, &provider, &resource, public_url);
            }
            let links =
                links(&value, &bases, &format!("{public_url}{place}/{side}/{}", path::encode(&name)), side);
            value.insert("provider".into(), provider.id.as_str().into());
            value.insert("resource".into(), resource.as_str().into());
            value.insert("_links".into(), links);
            items.push(Item { key: (at, resource.as_str().to_owned(), name), value });
        }
    }
    items.sort_by(|one, other| one.key.cmp(&other.key));
    items
}

/// Where a resource is reached: at the root, unless two providers have it or the word is a face's.
fn place(wanted: &Wanted, shared: bool) -> String {
    let id = wanted.resource.as_str();
    let encoded = path::encode(id);
    let reserved = crate::RESERVED.contains(&id);
    if shared || reserved {
        format!("/providers/{}/{encoded}", wanted.provider.id)
    } else {
        format!("/{encoded}")
    }
}

/// The item's links: the broker's own, rewritten, and ours in front of them.
fn links(item: &Map<String, Value>, bases: &Bases, own: &str, side: &str) -> Value {
    let mut links = item.get("_links").and_then(Value::as_object).cloned().unwrap_or_default();
    links.values_mut().for_each(|link| rewrite(link, bases));
    links.insert("self".into(), json!({ "href": own }));
    if side != "pipes" {
        links.insert("bindings".into(), json!({ "href": format!("{own}/bindings") }));
    }
    Value::Object(links)
}

fn rewrite(link: &mut Value, bases: &Bases) {
    match link {
        Value::Array(links) => links.iter_mut().for_each(|link| rewrite(link, bases)),
        Value::Object(link) => {
            let rewritten = link.get("href").and_then(Value::as_str).and_then(|href| bases.rewrite(href));
            if let Some(href) = rewritten {
                link.insert("href".into(), href.into());
            }
        }
        _ => {}
    }
}
