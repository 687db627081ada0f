//! Asking a provider before it is taken: is it there, does it let standpipe in, does it speak its dialect.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use standpipe_api::{CredentialRequest, Error, ErrorKind, Fault, ProviderId, Result, Target};

use crate::call::OnBehalf;
use crate::engine::{Engine, Running};
use crate::forward::Forward;
use crate::forward::deadline::now;
use crate::query::Querier;

/// How long a provider may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks a provider of a configuration that is not in force yet the question its dialect greets with. Must be called where
/// local tasks can be spawned.
///
/// # Errors
/// 502: it cannot be reached, or fails. 400: it refuses the credentials, redirects, or answers something its dialect
/// cannot work with. Nothing of its answer is repeated.
pub(super) async fn greet(engine: &Arc<Engine>, candidate: Running, name: &ProviderId) -> Result<()> {
    let provider = candidate.provider(name)?.clone();
    let dialect = engine.router.dialect(provider.dialect).clone();
    let Some(question) = dialect.greeting() else { return Ok(()) };
    let wanted = CredentialRequest {
        caller: None,
        head: None,
        provider: name,
        remote_scope: None,
        alias: None,
        actor: None,
    };
    // What is let in by its callers' credentials alone lets nobody in now.
    if !provider.credentials.source(&wanted).is_ok_and(|source| source.is_unattended()) {
        tracing::info!(provider = %name, "not asked before it is taken: only its callers have credentials for it");
        return Ok(());
    }
    let forward = Forward::default();
    let deadlines = tokio::task::spawn_local(forward.clone().run());
    let querier = Querier {
        engine: engine.clone(),
        forward,
        running: Arc::new(candidate),
        caller: None,
        on_behalf: OnBehalf::default(),
        hops: 0,
        deadline: now() + PATIENCE,
    };
    let answer = querier.ask(&Target::provider(name.clone()), None, question).await;
    deadlines.abort();
    let answer = answer.map_err(|error| not_reached(name, error))?;
    judge(name, answer.status())?;
    dialect.accepts_greeting(&answer).map_err(|why| {
        Error::invalid(format!("{name} answers something that cannot be used: {why}"))
            .advise("nothing was stored; mend it at the provider, then repeat")
    })
}

fn not_reached(name: &ProviderId, error: Error) -> Error {
    if matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::Unauthenticated) {
        return refused(name).because(error);
    }
    let text = format!("{name} was asked before it is taken, and did not answer: {}", error.public());
    Error::new(ErrorKind::NotSent, Fault::Provider(name.clone()), text)
        .advise("nothing was stored; look at url and tls, and whether the provider runs, then repeat")
        .because(error)
}

fn refused(name: &ProviderId) -> Error {
    Error::invalid(format!("credential: {name} refuses it"))
        .advise("nothing was stored; repeat with the user name and password the provider was set up with")
}

fn judge(name: &ProviderId, status: StatusCode) -> Result<()> {
    let said = |what: &str| format!("url: {name} answers {} there: {what}", status.as_u16());
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused(name)),
        status if status.is_redirection() => {
            Err(Error::invalid(said("redirects are not followed")).advise("give the url that it leads to"))
        }
        status if status.is_server_error() => {
            let text = format!("{name} was asked before it is taken, and failed with {}", status.as_u16());
            Err(Error::nonsense(name.clone(), text).advise("nothing was stored; repeat when it works"))
        }
        _ => Err(Error::invalid(said("it does not speak its dialect")).advise("look at url and dialect")),
    }
}
