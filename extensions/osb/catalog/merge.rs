//! The merged catalog: every offering that a caller sees, as its broker wrote it but for what collides.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::Value;
use standpipe_api::ProviderId;

use super::snapshot::replaced;
use super::{Generation, Member, Service};

/// What a caller sees of the catalogs; two callers with equal views get one merged catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::osb) struct View {
    /// The providers, in configured order; `None`: all.
    pub providers: Option<Arc<[ProviderId]>>,
}

impl View {
    /// Whether nothing is left out.
    pub(super) fn is_whole(&self) -> bool {
        self.providers.is_none()
    }

    fn shows(&self, member: &Member) -> bool {
        self.providers.as_ref().is_none_or(|providers| providers.contains(&member.provider.id))
    }
}

/// A merged catalog.
#[derive(Debug)]
pub(in crate::osb) struct Merged {
    /// The catalog.
    pub body: Bytes,
    /// Its strong validator.
    pub etag: HeaderValue,
    /// Providers whose offerings are missing because nobody has ever seen their catalog.
    pub missing: Vec<ProviderId>,
}

/// An offering that the merged catalog does not show, because another has its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// Whose it is.
    pub provider: ProviderId,
    /// Its id on the federated face.
    pub service: String,
    /// Who has the id first.
    pub first: ProviderId,
}

impl Merged {
    /// What a view shows.
    pub(super) fn of(now: &Generation, view: &View) -> Self {
        let shown: Vec<&Member> = now.members.iter().filter(|member| view.shows(member)).collect();
        let mut body = String::from(r#"{"services":["#);
        for (at, (member, service)) in offerings(&shown).into_iter().enumerate() {
            if at > 0 {
                body.push(',');
            }
            body.push_str(&written(now, member, service));
        }
        body.push_str("]}");
        let silent = shown.iter().filter(|member| member.snapshot.is_none());
        let missing = silent.map(|member| member.provider.id.clone()).collect();
        let hash = BASE64_URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body.as_bytes()));
        // Base64 is visible ASCII, which every field may hold.
        let etag = HeaderValue::try_from(format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body: body.into(), etag, missing }
    }
}

/// The offerings to be shown, in order; of several with one id the first.
fn offerings<'a>(members: &[&'a Member]) -> Vec<(&'a Member, &'a Service)> {
    let mut first: HashMap<String, ()> = HashMap::new();
    let mut shown = Vec::new();
    for member in members {
        for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
            if first.insert(format!("{}{}", member.prefix, service.id), ()).is_none() {
                shown.push((*member, service));
            }
        }
    }
    shown
}

/// The offerings that are not shown although they differ from the one that is.
pub(super) fn hidden(members: &[Member]) -> Vec<Hidden> {
    let mut first: HashMap<String, (&Member, &Service)> = HashMap::new();
    let mut hidden = Vec::new();
    for member in members {
        for service in member.snapshot.iter().flat_map(|snapshot| &snapshot.services) {
            let id = format!("{}{}", member.prefix, service.id);
            match first.get(&id) {
                None => {
                    first.insert(id, (member, service));
                }
                Some((_, same)) if is_same(same, service) => {}
                Some((owner, _)) => hidden.push(Hidden {
                    provider: member.provider.id.clone(),
                    service: id,
                    first: owner.provider.id.clone(),
                }),
            }
        }
    }
    hidden
}

/// Whether two brokers offer the very same: equal JSON, whatever its spaces and order of keys.
pub(super) fn is_same(one: &Service, other: &Service) -> bool {
    one.text == other.text || Value::from(one.fields()) == Value::from(other.fields())
}

/// An offering as it stands in the merged catalog.
fn written(now: &Generation, member: &Member, service: &Service) -> String {
    let mut changes = Vec::new();
    if let Some(name) = now.names.of(&member.provider.id, &service.id, &service.name)
        && name != service.name
    {
        changes.push((service.name_at.clone(), Value::from(name).to_string()));
    }
    if !member.prefix.is_empty() {
        changes.push((service.id_at.clone(), prefixed(member, &service.id)));
        let plans: Vec<String> = service
            .plans
            .iter()
            .map(|plan| replaced(&plan.text, &[(plan.id_at.clone(), prefixed(member, &plan.id))]))
            .collect();
        changes.push((service.plans_at.clone(), format!("[{}]", plans.join(","))));
    }
    changes.sort_by_key(|(place, _)| place.start);
    replaced(&service.text, &changes)
}

fn prefixed(member: &Member, id: &str) -> String {
    Value::from(format!("{}{id}", member.prefix)).to_string()
}
