//! The aggregated lists: `GET /offers` and `/pipes` have what stands under the names of OSB providers and instances.

use async_trait::async_trait;
use serde_json::{Map, Value};
use standpipe_api::{Federation, ProviderId, Result};

use super::services::{Found, Services};
use crate::cloudpipe::{Besides, Listed, Takes};
use crate::osb::dialect::NAME;
use crate::osb::visibility::User;

#[async_trait(?Send)]
impl Besides for Services {
    async fn list(
        &self,
        fed: &dyn Federation,
        side: &str,
        takes: &Takes<'_>,
    ) -> Result<(Vec<Listed>, Vec<ProviderId>)> {
        let providers = fed.providers();
        let mut listed = Vec::new();
        match side {
            "offers" => {
                for (at, provider) in providers.into_iter().enumerate().filter(|(_, one)| one.dialect == NAME)
                {
                    let own = (provider.id.as_str().into(), Found::Provider(provider.clone()));
                    let instances = self.instances(fed, &provider).await?;
                    let places = [own].into_iter().chain(instances);
                    for (resource, found) in places.filter(|(resource, _)| takes(&provider.id, resource)) {
                        let offers = self.offers(fed, &found, &User::default());
                        let items = offers.iter().map(|offer| object(offer.blueprint.wire())).collect();
                        listed.push(Listed { provider: provider.clone(), at, resource, items });
                    }
                }
            }
            "pipes" => {
                for bound in self.pipes(None, fed.caller()).await? {
                    let place = providers.iter().position(|one| one.id == bound.plan.provider);
                    let Some((at, provider)) = place.and_then(|at| Some((at, providers.get(at)?))) else {
                        continue;
                    };
                    if takes(&provider.id, &bound.resource) {
                        let items = vec![bound.wire(fed.public_url())];
                        let resource = bound.resource;
                        listed.push(Listed { provider: provider.clone(), at, resource, items });
                    }
                }
            }
            _ => {}
        }
        let missing = if side == "offers" { self.brokers.missing(fed) } else { Vec::new() };
        Ok((listed, missing))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
