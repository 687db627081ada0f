//! What callers see of a mediated pipe: the address of its end here, and standpipe's issuer. What the broker calls it is
//! kept first.

use std::sync::Arc;

use serde_json::{Map, Value};
use standpipe_api::{Provider, ResourceId, Result, State};

use super::address::EndAddress;
use super::ends::{self, Own};
use super::is_mediated;
use crate::cloudpipe::shape::key_of;

/// Shows all pipes of an answer as mediated that are. Whether anything changed.
pub(super) async fn mediate(
    value: &mut Value,
    (provider, providers): (&Provider, &[Provider]),
    resource: &ResourceId,
    state: &Arc<dyn State>,
    public_url: &str,
) -> Result<bool> {
    let mut changed = false;
    let mut shown = Vec::new();
    each_pipe(value, None, &mut |id, pipe| {
        if let Some(own) = show(pipe, id, provider, resource, public_url) {
            changed = true;
            shown.push(own);
        }
    });
    // A list shows ends that are known, or will be when they are read one by one. A binding shows its pipe twice.
    shown.dedup();
    if let [(end, own)] = shown.as_slice() {
        ends::remember(state, providers, end, own, public_url).await?;
    }
    Ok(changed)
}

/// Shows a pipe in a list as mediated, if it is. What its broker calls it is kept when it is created or read alone.
pub(in crate::cloudpipe) fn show_listed(
    pipe: &mut Map<String, Value>,
    provider: &Provider,
    resource: &ResourceId,
    public_url: &str,
) {
    drop(show(pipe, None, provider, resource, public_url));
}

/// Shows one pipe as mediated, if it is; gives what its broker calls it.
fn show(
    pipe: &mut Map<String, Value>,
    id: Option<&str>,
    provider: &Provider,
    resource: &ResourceId,
    public_url: &str,
) -> Option<(EndAddress, Own)> {
    let other = pipe.get("other").and_then(|other| other.get("uri")).and_then(Value::as_str);
    let is_ours = other.is_some_and(|uri| EndAddress::of_uri(uri, public_url).is_some());
    if !is_ours && !is_mediated(provider) {
        return None;
    }
    let id = id.or_else(|| pipe.get("id").and_then(Value::as_str))?;
    let end = EndAddress::named(&provider.id, resource, id);
    let this = pipe.get_mut("this")?.as_object_mut()?;
    let (uri_key, issuer_key) = (key_of(this, "uri")?, key_of(this, "issuer")?);
    let text =
        |this: &Map<String, Value>, key: &String| this.get(key).and_then(Value::as_str).map(str::to_owned);
    let own = Own { uri: text(this, &uri_key)?, issuer: text(this, &issuer_key)? };
    if EndAddress::of_uri(&own.uri, public_url).is_some() {
        return None;
    }
    this.insert(uri_key, end.uri(public_url).into());
    this.insert(issuer_key, public_url.into());
    Some((end, own))
}

/// Visits the pipes of an answer: one pipe, a binding around one, a list, or an object from id to pipe.
fn each_pipe(
    value: &mut Value,
    id: Option<&str>,
    visit: &mut impl FnMut(Option<&str>, &mut Map<String, Value>),
) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_pipe(item, None, visit)),
        Value::Object(object) if object.get("this").is_some_and(Value::is_object) => {
            visit(id, object);
            if let Some(nested @ Value::Object(_)) = object.get_mut("pipe") {
                each_pipe(nested, id, visit);
            }
        }
        Value::Object(object) => object.iter_mut().for_each(|(key, item)| {
            let id = if key == "pipe" { None } else { Some(key.as_str()) };
            if item.get("this").is_some() {
                each_pipe(item, id, visit);
            }
        }),
        _ => {}
    }
}
