//! How many resources of a kind a tenant may have.

use standpipe_api::{Caller, Error, ErrorKind, Fault, Kind};

use super::Patterns;
use crate::config;

/// The quotas of one configuration, compiled.
#[derive(Debug, Default)]
pub struct Quotas(Box<[Quota]>);

#[derive(Debug)]
struct Quota {
    kind: Kind,
    tenants: Patterns,
    most: u32,
}

impl Quotas {
    /// Compiles the quotas of a configuration.
    pub fn compile(quotas: &[config::Quota]) -> Self {
        let compile = |quota: &config::Quota| Quota {
            kind: quota.kind.clone(),
            tenants: Patterns::new(quota.tenants.as_deref()),
            most: quota.most.get(),
        };
        Self(quotas.iter().map(compile).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many resources of a kind the caller's tenant may have; `None`: as many as it likes.
    pub fn of(&self, caller: Option<&Caller>, kind: &Kind) -> Option<u32> {
        let caller = caller?;
        let tenant = caller.tenant.as_deref().unwrap_or(caller.id.as_str());
        let fits = |quota: &&Quota| quota.kind == *kind && quota.tenants.take(Some(tenant));
        self.0.iter().find(fits).map(|quota| quota.most)
    }
}

/// A tenant, or a caller without one, has as many as it may.
pub fn quota_reached(tenant: Option<&str>, kind: &Kind, most: u32) -> Error {
    let public = format!("{} has {most} resources of the kind {kind}, which is its quota", creator(tenant));
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise(format!("delete one that is not needed, or ask an operator for a [[quota]] above {most}"))
}

/// A creation that leaves the id to the provider cannot be counted.
pub fn quota_needs_id(caller: Option<&Caller>, kind: &Kind) -> Error {
    let tenant = caller.and_then(|caller| caller.tenant.as_deref());
    let public =
        format!("{} has a quota for the kind {kind}, and the request names no id to count", creator(tenant));
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise("choose an id and send it with the request")
}

fn creator(tenant: Option<&str>) -> String {
    match tenant {
        Some(tenant) => format!("the tenant {tenant}"),
        None => "this caller".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn the_first_quota_that_fits_counts_and_a_caller_without_a_tenant_stands_for_itself() {
        let quota = |tenants: Option<&str>, most| config::Quota {
            kind: Kind::of("pipe"),
            tenants: tenants.map(|tenant| vec![tenant.to_owned()]),
            most: NonZeroU32::new(most).unwrap(),
        };
        let quotas = Quotas::compile(&[quota(Some("blue"), 1), quota(Some("basic:*"), 2), quota(None, 3)]);
        let of = |tenant: Option<&str>, kind| {
            let tenant = tenant.map(str::to_owned);
            let caller =
                Caller { id: "basic:ann".into(), tenant, groups: Vec::new(), authenticator: "basic" };
            quotas.of(Some(&caller), &Kind::of(kind))
        };
        assert_eq!(
            [of(Some("blue"), "pipe"), of(None, "pipe"), of(Some("red"), "pipe")],
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(of(Some("blue"), "volume"), None);
    }
}
