//! What callers tell a broker of the other end: a known broker's pipe becomes its address here (decision 41).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use standpipe_api::{Provider, ProviderId, Result, State};

use super::address::EndAddress;
use super::{ends, is_mediated};
use crate::cloudpipe::shape::key_of;

/// The body with standpipe as the other party; `None` when it stays as it is.
pub(super) async fn mediated(
    body: &Bytes,
    to: &ProviderId,
    providers: &[Provider],
    state: &Arc<dyn State>,
    public_url: &str,
) -> Result<Option<String>> {
    let Ok(Value::Object(mut outer)) = serde_json::from_slice::<Value>(body) else { return Ok(None) };
    let nested = key_of(&outer, "pipe").filter(|key| outer.get(key).is_some_and(Value::is_object));
    let pipe = match nested.and_then(|key| outer.get_mut(&key)) {
        Some(Value::Object(pipe)) => pipe,
        _ => &mut outer,
    };
    let Some(Value::Object(other)) = key_of(pipe, "other").and_then(|key| pipe.get_mut(&key)) else {
        return Ok(None);
    };
    let uri_key = key_of(other, "uri");
    let uri = uri_key.as_ref().and_then(|key| other.get(key)).and_then(Value::as_str);
    let Some(uri) = uri.map(str::to_owned) else { return Ok(None) };
    let Some(end) = named(&uri, to, providers, state, public_url).await? else { return Ok(None) };
    let issuer_key = key_of(other, "issuer").unwrap_or_else(|| "issuer".to_owned());
    other.insert(uri_key.unwrap_or_else(|| "uri".to_owned()), end.uri(public_url).into());
    other.insert(issuer_key, public_url.into());
    Ok(Some(Value::Object(outer).to_string()))
}

/// The end that a uri names, when the pipe is to be mediated.
async fn named(
    uri: &str,
    to: &ProviderId,
    providers: &[Provider],
    state: &Arc<dyn State>,
    public_url: &str,
) -> Result<Option<EndAddress>> {
    if let Some(end) = EndAddress::of_uri(uri, public_url) {
        return Ok(Some(end));
    }
    let end = match providers.iter().find_map(|provider| EndAddress::at(provider, uri)) {
        Some(end) => Some(end),
        None => ends::of(state, uri).await?.map(|(end, _)| end),
    };
    let mediates = |id: &ProviderId| providers.iter().any(|one| one.id == *id && is_mediated(one));
    Ok(end.filter(|end| mediates(to) || mediates(&end.provider)))
}
