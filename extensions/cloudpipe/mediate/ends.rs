//! What brokers call their ends themselves: kept verbatim, because their tokens name them so (decision 39).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use standpipe_api::{Change, Error, Provider, Record, Result, State};

use super::address::EndAddress;
use crate::cloudpipe::settings::ProviderSettings;
use crate::path;

/// Compare-and-sets that lost before giving up.
pub(super) const TRIES: usize = 16;

/// An end as its broker names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    pub(super) uri: String,
    pub(super) issuer: String,
}

/// The record of an end.
fn end_key(end: &EndAddress) -> String {
    format!("end/{}/{}/{}", end.provider, path::encode(end.resource.as_str()), path::encode(&end.pipe))
}

/// The record that finds an end by what its broker calls it.
fn own_key(uri: &str) -> String {
    format!("own/{}", digest(uri))
}

/// Names of any length as a part of a key.
fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn issuer_key(provider: &Provider) -> String {
    format!("issuer/{}", provider.id)
}

fn decode<T: DeserializeOwned>(record: &Record) -> Result<T> {
    serde_json::from_slice(&record.value)
        .map_err(|error| Error::internal("a record of an end cannot be read").because(error))
}

pub(super) fn encode(value: &impl Serialize) -> Result<bytes::Bytes> {
    let bytes = serde_json::to_vec(value);
    Ok(bytes.map_err(|error| Error::internal("a record of an end cannot be written").because(error))?.into())
}

/// What an end's broker calls it.
pub(super) async fn own(state: &Arc<dyn State>, end: &EndAddress) -> Result<Option<Own>> {
    state.get(&end_key(end)).await?.as_ref().map(decode).transpose()
}

/// The end that some broker calls so.
pub(super) async fn of(state: &Arc<dyn State>, uri: &str) -> Result<Option<(EndAddress, Own)>> {
    let Some(record) = state.get(&own_key(uri)).await? else { return Ok(None) };
    let end: EndAddress = decode(&record)?;
    Ok(own(state, &end).await?.filter(|own| own.uri == uri).map(|own| (end, own)))
}

/// Who signs for a provider: as configured, or as it was first seen.
pub(super) async fn issuer(state: &Arc<dyn State>, provider: &Provider) -> Result<Option<String>> {
    if let Some(configured) = ProviderSettings::of(provider).and_then(|settings| settings.issuer.clone()) {
        return Ok(Some(configured));
    }
    state.get(&issuer_key(provider)).await?.as_ref().map(decode).transpose()
}

/// Keeps what a broker calls an end, durably, before anybody is told of the end's address.
///
/// # Errors
/// The broker now signs as somebody else than it did, or the store does not answer.
pub(super) async fn remember(
    state: &Arc<dyn State>,
    providers: &[Provider],
    end: &EndAddress,
    new: &Own,
    public_url: &str,
) -> Result<()> {
    let Some(provider) = providers.iter().find(|one| one.id == end.provider) else { return Ok(()) };
    not_anothers(providers, provider, new)?;
    for _ in 0..TRIES {
        let mut changes = Vec::new();
        changes.extend(signs(state, provider, &new.issuer, public_url).await?);
        match issuer(state, provider).await? {
            Some(known) if known != new.issuer => {
                let text = format!("{} signs as {} and signed as {known}", provider.id, new.issuer);
                return Err(Error::nonsense(provider.id.clone(), text)
                    .advise("an operator can say which is right: `issuer` of the provider"));
            }
            Some(_) => {}
            None => changes.push(Change::Put {
                key: issuer_key(provider),
                value: encode(&new.issuer)?,
                expected: None,
            }),
        }
        let record = state.get(&end_key(end)).await?;
        let old: Option<Own> = record.as_ref().map(decode).transpose()?;
        let found = state.get(&own_key(&new.uri)).await?;
        let leads: Option<EndAddress> = found.as_ref().map(decode).transpose()?;
        if let Some(other) = leads.as_ref().filter(|leads| leads.provider != end.provider) {
            let text =
                format!("{} calls an end {}, which is one of {}", provider.id, new.uri, other.provider);
            return Err(Error::nonsense(provider.id.clone(), text));
        }
        if old.as_ref() == Some(new) && leads.as_ref() == Some(end) {
            return Ok(());
        }
        let (expected, value) = (record.map(|record| record.revision), encode(new)?);
        changes.push(Change::Put { key: end_key(end), value, expected });
        let (expected, value) = (found.map(|record| record.revision), encode(end)?);
        changes.push(Change::Put { key: own_key(&new.uri), value, expected });
        if state.commit(changes).await?.is_ok() {
            return Ok(());
        }
    }
    Err(Error::internal("an end is changed by too many at once"))
}

/// A broker that calls its end by an address of another broker's would be taken for it.
fn not_anothers(providers: &[Provider], provider: &Provider, new: &Own) -> Result<()> {
    if EndAddress::at(provider, &new.uri).is_some() {
        return Ok(());
    }
    match providers.iter().find(|other| EndAddress::at(other, &new.uri).is_some()) {
        None => Ok(()),
        Some(other) => {
            let text = format!("{} calls an end {}, which is under {}'s url", provider.id, new.uri, other.id);
            Err(Error::nonsense(provider.id.clone(), text))
        }
    }
}

/// What has to be written down so that nobody else signs as this issuer; standpipe itself signs for all brokers in this
/// process.
async fn signs(
    state: &Arc<dyn State>,
    provider: &Provider,
    issuer: &str,
    public_url: &str,
) -> Result<Option<Change>> {
    if issuer == public_url {
        return Ok(None);
    }
    let key = format!("signs/{}", digest(issuer));
    match state.get(&key).await?.as_ref().map(decode::<String>).transpose()? {
        Some(known) if known == provider.id.as_str() => Ok(None),
        Some(known) => {
            let text = format!("{} signs as {issuer}, and that is {known}", provider.id);
            Err(Error::nonsense(provider.id.clone(), text)
                .advise("brokers need issuers of their own; if this one is right, the other's `issuer` must be configured"))
        }
        None => Ok(Some(Change::Put { key, value: encode(&provider.id.as_str())?, expected: None })),
    }
}

/// Forgets an end that is gone.
pub(super) async fn forget(state: &Arc<dyn State>, end: &EndAddress) -> Result<()> {
    for _ in 0..TRIES {
        let Some(record) = state.get(&end_key(end)).await? else { return Ok(()) };
        let own: Own = decode(&record)?;
        let mut changes = vec![Change::Remove { key: record.key, expected: record.revision }];
        if let Some(found) = state.get(&own_key(&own.uri)).await? {
            changes.push(Change::Remove { key: found.key, expected: found.revision });
        }
        if state.commit(changes).await?.is_ok() {
            return Ok(());
        }
    }
    Err(Error::internal("an end is changed by too many at once"))
}
