//! `standpipe check --as`: which access rule lets a caller in, or why none does.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use http::{Method, Request, Uri};
use standpipe_api::{Caller, ProviderId, RequestView, Resource};

use crate::assemble::Parts;
use crate::config::Config;
use crate::engine::Running;
use crate::route::{DialectId, Way};

/// For whom access rules are explained, and for which call.
#[derive(Args, Clone, Debug, Default)]
pub struct Explained {
    /// Explain what access rules let this caller do, by its id: basic:ann, anonymous
    #[arg(long = "as", value_name = "CALLER")]
    caller: Option<String>,
    /// The caller's tenant; one of [[caller]] has its own
    #[arg(long, requires = "caller")]
    tenant: Option<String>,
    /// A group of the caller; may be given several times
    #[arg(long = "group", value_name = "GROUP", requires = "caller")]
    groups: Vec<String>,
    /// Explain it for a call with this method
    #[arg(requires_all = ["caller", "path"])]
    method: Option<Method>,
    /// ... and this path, as /db/pipes/web
    #[arg(requires = "method")]
    path: Option<Uri>,
}

/// A call as rules see it.
struct Call {
    method: Method,
    dialect: DialectId,
    only: Option<ProviderId>,
    resources: Vec<Resource>,
}

impl Explained {
    /// Prints the explanation; `None`: nobody asked for one.
    ///
    /// # Errors
    /// The path leads nowhere, or the output failed.
    pub(super) fn print(
        self,
        running: &Running,
        parts: &Parts,
        out: &mut dyn Write,
    ) -> Result<Option<ExitCode>, String> {
        let Some(caller) = self.caller(&running.config) else { return Ok(None) };
        let tenant = caller.tenant.as_deref().unwrap_or("none");
        let groups = if caller.groups.is_empty() { "none".to_owned() } else { caller.groups.join(", ") };
        let mut text = format!("caller       {} (tenant: {tenant}; groups: {groups})\n", caller.id);
        let call = match (self.method, self.path) {
            (Some(method), Some(path)) => {
                let call = Call::read(running, parts, method, &path)?;
                let named: Vec<String> = call.resources.iter().map(ToString::to_string).collect();
                let named = if named.is_empty() { "no resource".to_owned() } else { named.join(", ") };
                text += &format!("call         {} {} ({named})\n", call.method, path.path());
                Some(call)
            }
            _ => None,
        };
        for provider in &running.providers {
            let id = provider.id();
            let told = match &call {
                None => running.access.explain_provider(&caller, id),
                Some(call) if provider.dialect != call.dialect => continue,
                Some(call) if call.only.as_ref().is_some_and(|only| only != id) => continue,
                Some(call) => running.access.explain_call(&caller, id, &call.resources, &call.method),
            };
            text += &format!("provider     {id}: {told}\n");
        }
        out.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Some(ExitCode::SUCCESS))
    }

    /// The caller; a configured one has its own tenant and groups unless others are given.
    fn caller(&self, config: &Config) -> Option<Caller> {
        let id = self.caller.as_deref()?;
        let known = id.strip_prefix("basic:");
        let known = known.and_then(|name| config.callers.iter().find(|caller| caller.name == name));
        let tenant = self.tenant.clone().or_else(|| known.and_then(|known| known.tenant.clone()));
        let groups = match (self.groups.as_slice(), known) {
            ([], Some(known)) => known.groups.clone(),
            (given, _) => given.to_vec(),
        };
        Some(Caller { id: id.into(), tenant, groups, authenticator: "check" })
    }
}

impl Call {
    fn read(running: &Running, parts: &Parts, method: Method, path: &Uri) -> Result<Self, String> {
        let router = &parts.router;
        let way = router.way(path.path()).map_err(|error| error.public().to_owned())?;
        let only = way.provider.map(ProviderId::from);
        let dialect = match &only {
            Some(only) => Some(running.provider(only).map_err(|error| error.public().to_owned())?.dialect),
            None => way.dialect,
        };
        let dialect = dialect.ok_or("this path is not one of providers")?;
        let found = router.find(&method, &Way { dialect: Some(dialect), ..way });
        if found.operation.is_none() && !found.extensions.is_empty() {
            return Err("this path is answered for all resources together: each is shown where its own path is let in".into());
        }
        let resources = found.operation.map_or_else(Vec::new, |matched| {
            let request = Request::builder().method(&method).uri(way.path).body(()).unwrap_or_default();
            let view = RequestView::of(&request, &matched.params, None);
            router.dialect(dialect).names(matched.operation, &view)
        });
        Ok(Self { method, dialect, only, resources })
    }
}
