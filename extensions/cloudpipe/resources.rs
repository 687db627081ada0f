//! Which resources each provider is configured with, read again and again where the list is elsewhere.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use standpipe_api::{Background, Federation, Hint, Provider, ProviderId, Resource, ResourceId, Target};

use tokio::io::AsyncReadExt as _;

use super::dialect::{NAME, PIPE, RESOURCE};
use super::listing::ResourceList;
use super::settings::{ListAt, Polled, ProviderSettings, ResourceSource};
use crate::outside::{Program, anchored};

/// Bytes of a list.
const LONGEST: u64 = 8 << 20;
/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lists, by provider; filled in the background, read by hooks on every core.
#[derive(Debug, Default)]
pub struct Resources(RwLock<HashMap<ProviderId, Arc<ResourceList>>>);

impl Resources {
    /// The configured resources of a provider.
    pub fn of(&self, provider: &Provider) -> Arc<ResourceList> {
        if let Some(ProviderSettings { resources: ResourceSource::Listed(list), .. }) =
            ProviderSettings::of(provider)
        {
            return list.clone();
        }
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&provider.id).cloned().unwrap_or_default()
    }

    /// Whether anybody has said which resources a provider has.
    pub fn are_known(&self, provider: &Provider) -> bool {
        match ProviderSettings::of(provider).map(|settings| &settings.resources) {
            Some(ResourceSource::Listed(_)) => true,
            Some(ResourceSource::Polled(_)) => {
                self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&provider.id)
            }
            Some(ResourceSource::Unlisted) | None => false,
        }
    }

    /// The ids of a provider's configured resources.
    pub fn ids(&self, provider: &Provider) -> Vec<ResourceId> {
        self.of(provider).items().iter().map(|listed| listed.id.clone()).collect()
    }

    /// The resources of a provider that calls have found, and, where nobody lists them, that have pipes created through
    /// standpipe; and whether these are all of them.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn learned(
        &self,
        fed: &dyn Federation,
        provider: &Provider,
    ) -> standpipe_api::Result<(Vec<ResourceId>, Found)> {
        let resources = fed.mappings_at(&provider.id, &RESOURCE, MOST_LEARNED).await?;
        let pipes = match self.are_known(provider) {
            true => Vec::new(),
            false => fed.mappings_at(&provider.id, &PIPE, MOST_LEARNED).await?,
        };
        let found = if resources.len().max(pipes.len()) < MOST_LEARNED { Found::All } else { Found::Some };
        let owners = pipes.into_iter().filter_map(|mapping| mapping.resource.parent);
        let ids = resources.into_iter().map(|mapping| mapping.resource.id);
        Ok((ids.chain(owners.map(|owner| owner.as_str().into())).collect(), found))
    }

    /// The providers that are known to have a resource, as far as the caller may see it: it is listed, calls have found it, or,
    /// where nobody lists them, it has pipes created through standpipe.
    ///
    /// # Errors
    /// The store does not answer.
    pub(crate) async fn owners(
        &self,
        fed: &dyn Federation,
        resource: &ResourceId,
    ) -> standpipe_api::Result<Vec<ProviderId>> {
        let mut owners = Vec::new();
        for provider in fed.providers().into_iter().filter(|provider| provider.dialect == NAME) {
            let (learned, _) = self.learned(fed, &provider).await?;
            let is_known = learned.contains(resource) || self.ids(&provider).contains(resource);
            if is_known && fed.may_see(&provider.id, &Resource::new(RESOURCE, resource.clone())) {
                owners.push(provider.id);
            }
        }
        Ok(owners)
    }

    /// The own URL of the resource that a path segment names.
    pub fn url(&self, provider: &Provider, segment: &str) -> Option<String> {
        match ProviderSettings::of(provider) {
            // The rule is a short list in the configuration: no lock on the way of a call.
            Some(ProviderSettings { resources: ResourceSource::Listed(list), .. }) => {
                list.url(segment).map(str::to_owned)
            }
            Some(ProviderSettings { resources: ResourceSource::Polled(_), .. }) => {
                self.of(provider).url(segment).map(str::to_owned)
            }
            _ => None,
        }
    }

    fn put(&self, provider: ProviderId, list: Arc<ResourceList>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(provider, list);
    }
}

/// Mappings looked through for resources that nobody has listed.
const MOST_LEARNED: usize = 1000;

/// How many of what is known were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it.
    All,
    /// There is more.
    Some,
}

/// Publishes all lists and keeps the polled ones fresh, until the end. Begins anew after each reload.
pub(super) async fn keep(resources: Arc<Resources>, background: Rc<dyn Background>) {
    loop {
        let polled = publish_listed(&*background);
        let polls =
            polled.into_iter().map(|(provider, polled)| poll(&resources, &*background, provider, polled));
        let polls = futures_util::future::join_all(polls);
        tokio::select! {
            _ = polls => background.reloaded().await,
            () = background.reloaded() => {}
            () = background.stopped() => return,
        }
    }
}

fn publish_listed(background: &dyn Background) -> Vec<(Provider, Polled)> {
    let mut polled = Vec::new();
    for provider in background.providers().into_iter().filter(|provider| provider.dialect == NAME) {
        match ProviderSettings::of(&provider).map(|settings| settings.resources.clone()) {
            Some(ResourceSource::Listed(list)) => publish(background, &provider, &list),
            Some(ResourceSource::Polled(from)) => polled.push((provider, from)),
            Some(ResourceSource::Unlisted) => publish(background, &provider, &ResourceList::default()),
            None => {}
        }
    }
    polled
}

fn publish(background: &dyn Background, provider: &Provider, list: &ResourceList) {
    for listed in list.items().iter().filter(|listed| crate::RESERVED.contains(&listed.id.as_str())) {
        tracing::warn!(
            provider = %provider.id,
            resource = %listed.id,
            "the resource's id is a reserved word: it is reached under /providers/{}/ only", provider.id
        );
    }
    let hints = list.items().iter().map(|listed| Hint::new(RESOURCE, listed.id.clone())).collect();
    background.publish_index(&provider.id, hints);
}

async fn poll(resources: &Resources, background: &dyn Background, provider: Provider, polled: Polled) {
    let mut told = String::new();
    loop {
        let read = tokio::time::timeout(PATIENCE, read(background, &provider, &polled.from)).await;
        match read
            .unwrap_or_else(|_| Err("it took too long".into()))
            .and_then(|text| ResourceList::parse(&text))
        {
            Ok(list) => {
                told.clear();
                publish(background, &provider, &list);
                resources.put(provider.id.clone(), Arc::new(list));
            }
            Err(error) if error == told => {}
            Err(error) => {
                tracing::warn!(provider = %provider.id, error, "the list of resources cannot be read; the last good one stays, if there is one");
                told = error;
            }
        }
        tokio::time::sleep(polled.refresh).await;
    }
}

async fn read(background: &dyn Background, provider: &Provider, from: &ListAt) -> Result<Bytes, String> {
    match from {
        ListAt::File(path) => {
            let path = provider.folder.join(path);
            let file = tokio::fs::File::open(&path).await;
            let mut text = Vec::new();
            let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
            file.map_err(wrong)?.take(LONGEST).read_to_end(&mut text).await.map_err(wrong)?;
            Ok(text.into())
        }
        ListAt::Command(words) => {
            let mut words = words.clone();
            if let Some(program) = words.first_mut() {
                *program = anchored(program, &provider.folder).display().to_string();
            }
            Program { words, limit: PATIENCE, longest: LONGEST }.run(b"", &[]).await
        }
        ListAt::Url(url) => {
            let request = http::Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
            let answer = if url.starts_with('/') {
                background.query(&Target::from(provider), request).await
            } else {
                background.outbound().fetch(request, PATIENCE).await
            };
            let answer = answer.map_err(|error| error.log_text())?;
            if answer.status().is_success() {
                Ok(answer.into_body())
            } else {
                Err(format!("it answered {}", answer.status()))
            }
        }
    }
}
