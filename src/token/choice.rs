//! Which of a provider's credentials a call uses, and who may use which.

use standpipe_api::{Caller, CredentialAlias, Error, ErrorKind, Fault, ProviderId, Result};

/// Who may use a credential, and under which names it is asked for.
pub(super) struct Terms {
    pub(super) alias: CredentialAlias,
    /// Other names: the organisations and projects a key is for.
    pub(super) also: Vec<String>,
    /// Empty, with `groups`: everybody.
    pub(super) tenants: Vec<String>,
    pub(super) groups: Vec<String>,
}

/// What decides which credential is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen<'a> {
    /// The one the resource was created with.
    pub kept: Option<&'a CredentialAlias>,
    /// The one the request asks for.
    pub asked: Option<&'a str>,
}

impl Terms {
    /// Standpipe itself may use all.
    pub(super) fn allow(&self, caller: Option<&Caller>) -> bool {
        let Some(caller) = caller else { return true };
        (self.tenants.is_empty() && self.groups.is_empty())
            || caller.tenant.as_ref().is_some_and(|tenant| self.tenants.contains(tenant))
            || caller.groups.iter().any(|group| self.groups.contains(group))
    }

    fn is_called(&self, name: &str) -> bool {
        self.alias.as_str() == name || self.also.iter().any(|also| also == name)
    }
}

/// The position of the credential for a call: the one kept with its resource, else the one asked for, else the first
/// its caller may use.
///
/// # Errors
/// There is none, or none that is for this caller.
pub(super) fn choose<'a>(
    all: impl Iterator<Item = &'a Terms> + Clone,
    provider: &ProviderId,
    caller: Option<&Caller>,
    chosen: Chosen<'_>,
) -> Result<usize> {
    let mut usable = all.clone().enumerate().filter(|(_, terms)| terms.allow(caller));
    if let Some(kept) = chosen.kept {
        let mut of_name = all.clone().enumerate().filter(|(_, terms)| terms.alias == *kept);
        let (at, terms) = of_name.next().ok_or_else(|| gone(provider, kept))?;
        return if terms.allow(caller) { Ok(at) } else { Err(forbidden(provider)) };
    }
    let found = match chosen.asked {
        Some(name) => usable.find(|(_, terms)| terms.is_called(name)),
        None => usable.next(),
    };
    found.map(|(at, _)| at).ok_or_else(|| forbidden(provider))
}

fn gone(provider: &ProviderId, alias: &CredentialAlias) -> Error {
    let public = format!("the resource was created with the credential {alias} of {provider}, which is gone");
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).advise("an operator can configure it again")
}

fn forbidden(provider: &ProviderId) -> Error {
    let public = format!("this caller may not use that credential of {provider}, or there is none for it");
    Error::new(ErrorKind::Forbidden, Fault::Caller, public)
        .advise("ask for one of those that an operator has set up for you")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(alias: &str, tenants: &[&str], groups: &[&str]) -> Terms {
        let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Terms {
            alias: alias.into(),
            also: vec![format!("org-{alias}")],
            tenants: own(tenants),
            groups: own(groups),
        }
    }

    fn caller(tenant: Option<&str>, groups: &[&str]) -> Caller {
        Caller {
            id: "basic:ann".into(),
            tenant: tenant.map(str::to_owned),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            authenticator: "basic",
        }
    }

    #[test]
    fn a_credential_is_chosen_only_among_those_the_caller_may_use() {
        let all = [terms("blue", &["blue"], &[]), terms("ops", &[], &["ops"]), terms("all", &[], &[])];
        let chosen = |tenant, groups: &[&str], kept: Option<&str>, asked| {
            let kept = kept.map(CredentialAlias::from);
            let chosen = Chosen { kept: kept.as_ref(), asked };
            let caller = caller(tenant, groups);
            choose(all.iter(), &"alpha".into(), Some(&caller), chosen).map_err(|error| error.kind())
        };
        assert_eq!(chosen(Some("blue"), &[], None, None), Ok(0));
        assert_eq!(chosen(Some("red"), &["ops"], None, None), Ok(1));
        assert_eq!(chosen(None, &[], None, None), Ok(2));
        assert_eq!(chosen(Some("blue"), &["ops"], None, Some("ops")), Ok(1));
        assert_eq!(chosen(Some("blue"), &[], None, Some("org-blue")), Ok(0));
        assert_eq!(chosen(Some("red"), &[], None, Some("blue")), Err(ErrorKind::Forbidden));
        assert_eq!(chosen(Some("red"), &[], None, Some("nobody's")), Err(ErrorKind::Forbidden));
        assert_eq!(
            chosen(Some("blue"), &[], Some("all"), Some("blue")),
            Ok(2),
            "the resource's own comes first"
        );
        assert_eq!(chosen(Some("red"), &[], Some("blue"), None), Err(ErrorKind::Forbidden));
        assert_eq!(chosen(None, &[], Some("removed"), None), Err(ErrorKind::CouldNotAsk));
        assert_eq!(choose(all.iter(), &"alpha".into(), None, Chosen::default()).unwrap(), 0);
    }
}
