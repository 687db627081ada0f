//! Calling extensions: in order, each with its own parameters and handle, panics caught at the edge.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::{HeaderMap, Response};
use standpipe_api::{Body, Caller, Error, Flow, Params, ProviderId, Result, Sent, Target};

use super::Proxy;
use super::prepare::Asked;
use crate::call::{OnBehalf, Trail};
use crate::engine::Running;
use crate::federation::Handle;
use crate::route::ExtensionId;

impl Proxy {
    /// Asks each extension whether it answers the call, or knows where it goes.
    pub(super) async fn take_over(
        &self,
        trail: &Trail,
        running: &Arc<Running>,
        asked: &mut Asked,
    ) -> Result<Flow> {
        let Some(call) = &mut asked.call else { return Ok(Flow::Continue) };
        for (id, params) in &asked.extensions {
            let handle = self.federation(
                *id,
                &call.caller,
                trail,
                running,
                OnBehalf::of(asked.request.headers()),
                asked.pinned.clone(),
            );
            call.params.clone_from(params);
            let Some(extension) = self.engine.extensions.get(id.0) else { continue };
            let hook = extension.take_over(call, &mut asked.request, &handle);
            match self.guarded(*id, hook).await? {
                Flow::Continue => {}
                decided => return Ok(decided),
            }
        }
        Ok(Flow::Continue)
    }

    /// Lets each extension alter the request for its provider.
    pub(super) async fn before_forward(
        &self,
        trail: &Trail,
        running: &Arc<Running>,
        asked: &mut Asked,
        to: &Target,
    ) -> Result<()> {
        let Some(call) = &mut asked.call else { return Ok(()) };
        for (id, params) in &asked.extensions {
            let handle = self.federation(
                *id,
                &call.caller,
                trail,
                running,
                OnBehalf::of(asked.request.headers()),
                asked.pinned.clone(),
            );
            call.params.clone_from(params);
            let Some(extension) = self.engine.extensions.get(id.0) else { continue };
            self.guarded(*id, extension.before_forward(call, &mut asked.request, to, &handle)).await?;
        }
        Ok(())
    }

    /// Lets each extension alter the answer, or learn from it.
    pub(super) async fn after_forward(
        &self,
        trail: &Trail,
        running: &Arc<Running>,
        heard: &mut Heard,
        response: &mut Response<Body>,
        from: &Target,
    ) -> Result<()> {
        let call = &mut heard.call;
        for (id, params) in &heard.extensions {
            let on_behalf = OnBehalf::of(&heard.headers);
            let handle = self.federation(*id, &call.caller, trail, running, on_behalf, None);
            call.params.clone_from(params);
            let Some(extension) = self.engine.extensions.get(id.0) else { continue };
            self.guarded(*id, extension.after_forward(call, response, from, &handle)).await?;
        }
        Ok(())
    }

    /// Tells each extension that saw the request leave that no answer came. What they make of it changes nothing for the
    /// caller.
    pub(super) async fn after_failure(
        &self,
        trail: &Trail,
        running: &Arc<Running>,
        heard: &mut Heard,
        sent: Sent,
        to: &Target,
    ) {
        let call = &mut heard.call;
        for (id, params) in &heard.extensions {
            let on_behalf = OnBehalf::of(&heard.headers);
            let handle = self.federation(*id, &call.caller, trail, running, on_behalf, None);
            call.params.clone_from(params);
            let Some(extension) = self.engine.extensions.get(id.0) else { continue };
            if let Err(error) = self.guarded(*id, extension.after_failure(call, sent, to, &handle)).await {
                tracing::error!(error = error.log_text(), "a failure could not be written down");
            }
        }
    }

    fn federation(
        &self,
        id: ExtensionId,
        caller: &Arc<Caller>,
        trail: &Trail,
        running: &Arc<Running>,
        on_behalf: OnBehalf,
        pinned: Option<ProviderId>,
    ) -> Handle {
        let name = self.engine.extensions.get(id.0).map_or("", |extension| extension.name());
        Handle::new(self.querier(trail, running, on_behalf), caller.clone(), name, pinned)
    }

    /// A panic in a hook is that extension's bug and this call's error; nothing else is disturbed.
    async fn guarded<T>(&self, id: ExtensionId, hook: impl Future<Output = Result<T>>) -> Result<T> {
        match AssertUnwindSafe(hook).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => {
                let name = self.engine.extensions.get(id.0).map_or("", |extension| extension.name());
                if let Some(count) = self.engine.hook_panics.get(id.0) {
                    count.increment(1);
                }
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                tracing::error!(extension.name = name, panic = text, "a hook panicked");
                Err(Error::internal(format!("the extension {name} failed")))
            }
        }
    }
}

/// What remains of a request for the hooks that see its answer.
pub(super) struct Heard {
    pub(super) call: standpipe_api::Call,
    pub(super) extensions: Vec<(ExtensionId, Params)>,
    pub(super) headers: HeaderMap,
}
