//! What an extension is: a name, routes, and the hooks it needs.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response};

use crate::{
    Authenticator, Background, Body, Call, CredentialStrategy, Dialect, Face, Federation, Job, JobOutcome,
    Problems, Provider, Result, Route, Target,
};

/// Code registered for paths. Every method but [`Extension::name`] has a default that does nothing.
///
/// One instance serves all cores. Hooks run on the core that took the request and need not be `Send`.
/// Extensions are asked in the order of the list in `extensions/lib.rs`. An error becomes the dialect's
/// error; a panic is caught at the hook's edge, counted, and answered 500. A query made through the
/// handle runs no hooks, so hooks never recurse.
#[async_trait(?Send)]
pub trait Extension: Send + Sync + 'static {
    /// Unique, kebab-case: its `[extensions.<name>]` table, log field and metric label.
    fn name(&self) -> &'static str;

    /// Reads its `[extensions.<name>]` table, which is empty when the configuration has none. Called once, before
    /// anything else; must not do I/O.
    ///
    /// # Errors
    /// Every mistake in the table. The default knows no keys.
    fn configure(&mut self, table: &toml::Table) -> Result<(), Problems> {
        let unknown =
            |key: &String| crate::Problem::at(key.clone(), "unknown key: this extension has no settings");
        let problems: Problems = table.keys().map(unknown).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The calls whose hooks it wants.
    fn routes(&self) -> Vec<Route> {
        Vec::new()
    }

    /// Faces it answers on beside those of its dialects.
    fn faces(&self) -> Vec<Face> {
        Vec::new()
    }

    /// The names of those of its faces on which it authenticates callers itself: whoever comes there is let through to
    /// [`Extension::take_over`], and to nothing else.
    fn open_faces(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it tells bearer tokens of its own apart. A call with a token that is no caller's then reaches its `take_over` too,
    /// with a caller that is [nobody](crate::Caller::is_nobody) and may do nothing; what it passes on is a stranger's call as
    /// ever.
    fn knows_tokens(&self) -> bool {
        false
    }

    /// After a caller was identified, before a provider is resolved: answer, choose the target, or pass on.
    async fn take_over(
        &self,
        _call: &mut Call,
        _request: &mut Request<Body>,
        _fed: &dyn Federation,
    ) -> Result<Flow> {
        Ok(Flow::Continue)
    }

    /// Before a request leaves for its provider: alter it. Once per call, not per retry.
    async fn before_forward(
        &self,
        _call: &mut Call,
        _request: &mut Request<Body>,
        _to: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        Ok(())
    }

    /// After the provider answered and before the engine settles the mapping: alter the response, or learn from it.
    async fn after_forward(
        &self,
        _call: &mut Call,
        _response: &mut Response<Body>,
        _from: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        Ok(())
    }

    /// After a request that `before_forward` saw came to no answer: it never left, or nobody knows what became of it.
    async fn after_failure(
        &self,
        _call: &mut Call,
        _sent: Sent,
        _to: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        Ok(())
    }

    /// Background work: runs once on the thread for background work and may run until
    /// [`Background::stopped`] resolves.
    ///
    /// # Errors
    /// Logged; the extension goes on without its background work and standpipe is not ready.
    async fn start(&self, _background: Rc<dyn Background>) -> Result<()> {
        Ok(())
    }

    /// Carries out a durable job of this extension. It may be called again for the same job after a crash.
    async fn run_job(&self, job: Job, _background: Rc<dyn Background>) -> JobOutcome {
        JobOutcome::Failed(format!("{} has no jobs, but was given {}", self.name(), job.id))
    }

    /// The dialects it brings.
    fn dialects(&self) -> Vec<Arc<dyn Dialect>> {
        Vec::new()
    }

    /// The name under which providers in the configuration ask to be served in process by this extension:
    /// `[[provider]]` with a table of this name in place of `url`.
    fn upstream_kind(&self) -> Option<&'static str> {
        None
    }

    /// Builds a provider served in process from its table. Must not do I/O; that is for [`Upstream::start`].
    ///
    /// # Errors
    /// Every mistake in the table.
    fn upstream(&self, _provider: &Provider, _table: &toml::Table) -> Result<Arc<dyn Upstream>, Problems> {
        Err(vec![crate::Problem::at("", "this extension serves no providers")])
    }

    /// Authenticators it brings, by the name used in a listener's `callers`.
    fn authenticators(&self) -> Vec<Arc<dyn Authenticator>> {
        Vec::new()
    }

    /// Credential strategies it brings, by the name used in a credential's `kind`.
    fn credential_strategies(&self) -> Vec<Arc<dyn CredentialStrategy>> {
        Vec::new()
    }
}

/// Whether a request that came to no answer may have reached its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It never left.
    No,
    /// It may have arrived, and may have worked.
    Perhaps,
}

/// Among the extensions of an answer: what a hook has made of it, in one word of few, which the audit keeps with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remark(pub &'static str);

/// What `take_over` decided. The first that is not `Continue` counts; later extensions are not asked.
#[derive(Debug)]
pub enum Flow {
    /// Go on: the engine resolves the provider.
    Continue,
    /// Forward to this target, streaming, without resolving.
    To(Target),
    /// The answer to the caller. Nothing is forwarded.
    Respond(Response<Body>),
}

/// A provider served in process: request in, response out, no socket.
#[async_trait(?Send)]
pub trait Upstream: Send + Sync + 'static {
    /// Runs once on the background thread before the first request is served: opens state, starts timers.
    ///
    /// # Errors
    /// Stops the start of standpipe with the error's text.
    async fn start(&self, _background: Rc<dyn Background>) -> Result<()> {
        Ok(())
    }

    /// Whether it tells bearer tokens of its own apart, so that a request with one that is no caller's still reaches it,
    /// where it is served alone.
    fn knows_tokens(&self) -> bool {
        false
    }

    /// Answers a request whose path is relative to the provider's base, as a broker would over TCP.
    /// May be called on any core, concurrently.
    async fn serve(&self, request: Request<Body>) -> Response<Body>;

    /// Takes changed settings in while running, at a reload. By default a restart is needed.
    ///
    /// # Errors
    /// Every mistake in the table; the old settings stay.
    fn reload(&self, _provider: &Provider, _table: &toml::Table) -> Result<(), Problems> {
        Ok(())
    }
}
