//! A token for a token (RFC 8693): whom the subject token stands for, who acts for them, at which provider.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use standpipe_api::{Body, CredentialRequest, ErrorKind, Fault};

use crate::access::Refusal;
use crate::call::Trail;
use crate::config::At;
use crate::engine::Running;
use crate::identify::Verified;
use crate::issuer::exchange::{Exchange, Refused, granted};
use crate::jwt::{Claims, Rejection, expires_at};
use crate::providers::Provider;

/// Gives the token that the subject's calls to the provider would carry.
pub(super) async fn grant(
    trail: &mut Trail,
    running: &Arc<Running>,
    wanted: &Exchange,
) -> Result<Response<Body>, Refused> {
    let subject = verified(running, "subject_token", &wanted.subject).await?;
    let actor = match &wanted.actor {
        Some(token) => Some(verified(running, "actor_token", token).await?),
        None => None,
    };
    let client = trail.caller.as_ref().is_some_and(|client| client.id == subject.caller.id);
    check_actor(&subject.claims, actor.as_ref(), client)?;
    let provider = target(running, &wanted.targets)?;
    if !running.access.sees_provider(Some(&subject.caller), provider.id()) {
        trail.refuse(Refusal::Unseen, Some(provider.id().clone()));
        return Err(no_such_provider());
    }
    if !running.access.grants_all(Some(&subject.caller), provider.id()) {
        trail.refuse(Refusal::Method, Some(provider.id().clone()));
        let text =
            format!("the caller may not do everything at {}, so that it gets no token for it", provider.id());
        return Err(Refused::new("invalid_target", text));
    }
    trail.provider = Some(provider.clone());
    let act = actor.map(|actor| act(&actor.claims));
    let mut head = HeaderMap::new();
    let own = HeaderValue::from_str(&format!("Bearer {}", wanted.subject));
    head.insert(AUTHORIZATION, own.map_err(|_| invalid("subject_token holds odd characters"))?);
    let request = CredentialRequest {
        caller: Some(&subject.caller),
        head: Some(&head),
        provider: provider.id(),
        remote_scope: None,
        alias: None,
        actor: act.as_ref(),
    };
    let source = provider.credentials.source(&request).map_err(|error| failed(&error))?;
    if !source.is_bound_to_caller() {
        let text = format!("{} does not take credentials of its callers' own", provider.id());
        return Err(Refused::new("invalid_target", text));
    }
    if act.is_some() && !source.names_actors() {
        return Err(invalid(&format!("tokens for {} cannot name an actor", provider.id())));
    }
    let credential = match source.recall(&request) {
        Some(credential) => credential,
        None => source.obtain(&request).await.map_err(|error| failed(&error))?,
    };
    let field = credential.headers.iter().find(|(name, _)| name == AUTHORIZATION);
    let token = field.and_then(|(_, value)| value.to_str().ok()?.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| {
        Refused::new("invalid_target", format!("what {} takes is no bearer token", provider.id()))
    })?;
    let end = expires_at(&subject.claims);
    Ok(granted(token, Some(credential.expires_at.map_or(end, |given| given.min(end)))))
}

async fn verified(running: &Running, name: &str, token: &str) -> Result<Verified, Refused> {
    match running.oidc.verify(token).await {
        Ok(Some(verified)) => Ok(verified),
        Ok(None) => Err(invalid(&format!("{name} is of no issuer that is trusted here"))),
        // Who holds the token may know what is wrong with it.
        Err(Rejection::Bad(why)) => Err(invalid(&format!("{name} is not good: {why}"))),
        Err(Rejection::CouldNotCheck(why)) => {
            tracing::warn!(error = why, "a token could not be checked");
            Err(unavailable(StatusCode::SERVICE_UNAVAILABLE, format!("{name} could not be checked now")))
        }
    }
}

/// Who may act for the subject is what its token says, where it says so (RFC 8693, section 4.4).
fn check_actor(subject: &Claims, actor: Option<&Verified>, client_is_subject: bool) -> Result<(), Refused> {
    let Some(may_act) = subject.get("may_act") else { return Ok(()) };
    let allowed = match actor {
        None => client_is_subject,
        Some(actor) => may_act.as_object().is_some_and(|named| {
            !named.is_empty() && named.iter().all(|(claim, value)| actor.claims.get(claim) == Some(value))
        }),
    };
    if allowed { Ok(()) } else { Err(invalid("the subject token's may_act names another actor")) }
}

/// The `act` claim; actors before this one are kept inside it (RFC 8693, section 4.1).
fn act(claims: &Claims) -> Value {
    let mut act = json!({});
    if let Some(members) = act.as_object_mut() {
        for name in ["sub", "iss", "act"] {
            claims.get(name).map(|value| members.insert(name.to_owned(), value.clone()));
        }
    }
    act
}

/// The provider the token is for: by name, or by an address of it or of its face here.
fn target(running: &Running, targets: &[String]) -> Result<Arc<Provider>, Refused> {
    let refused = |text: String| Refused::new("invalid_target", text);
    let [named] = targets else {
        return Err(refused(format!("name one provider as audience or resource, not {}", targets.len())));
    };
    let trimmed = named.trim_end_matches('/');
    let face = trimmed
        .strip_prefix(running.config.public_url.as_str())
        .and_then(|path| path.strip_prefix("/providers/"));
    let is_meant = |provider: &&Arc<Provider>| {
        let at = match &provider.config.at {
            At::Url(url) => Some(url.as_str()),
            At::InProcess { .. } => None,
        };
        provider.id().as_str() == named || face == Some(provider.id().as_str()) || at == Some(trimmed)
    };
    let found = running.providers.iter().find(is_meant).cloned();
    found.ok_or_else(no_such_provider)
}

fn no_such_provider() -> Refused {
    Refused::new("invalid_target", "there is no such provider")
}

fn invalid(text: &str) -> Refused {
    Refused::new("invalid_request", text)
}

fn unavailable(status: StatusCode, text: String) -> Refused {
    Refused { status, ..Refused::new("temporarily_unavailable", text) }
}

/// Whoever gives the token did not.
fn failed(error: &standpipe_api::Error) -> Refused {
    tracing::warn!(error = error.log_text(), "a token could not be had");
    match (error.fault(), error.kind()) {
        (Fault::Caller, _) | (_, ErrorKind::Forbidden) => invalid(error.public()),
        _ => unavailable(crate::error::status(error), error.public().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use standpipe_api::Caller;

    fn claims(value: Value) -> Claims {
        value.as_object().unwrap().clone()
    }

    fn actor(value: Value) -> Verified {
        let id = "oidc:a:x".into();
        let caller = Caller { id, tenant: None, groups: Vec::new(), authenticator: "oidc" };
        Verified { caller: Arc::new(caller), claims: claims(value) }
    }

    #[test]
    fn may_act_names_who_may() {
        let subject = claims(json!({"sub": "ann", "may_act": {"sub": "robot", "iss": "https://i"}}));
        let robot = actor(json!({"sub": "robot", "iss": "https://i"}));
        let stranger = actor(json!({"sub": "robot", "iss": "https://other"}));
        assert!(check_actor(&subject, Some(&robot), false).is_ok());
        assert!(check_actor(&subject, Some(&stranger), true).is_err());
        assert!(check_actor(&subject, None, false).is_err(), "a client that is not the subject acts for it");
        assert!(check_actor(&subject, None, true).is_ok());
        let nobody = claims(json!({"sub": "ann", "may_act": {}}));
        assert!(check_actor(&nobody, Some(&robot), false).is_err());
        assert!(check_actor(&claims(json!({"sub": "ann"})), Some(&robot), false).is_ok());
    }

    #[test]
    fn earlier_actors_are_kept() {
        let act = act(&claims(json!({"sub": "b", "iss": "i", "aud": "x", "act": {"sub": "a"}})));
        assert_eq!(act, json!({"sub": "b", "iss": "i", "act": {"sub": "a"}}));
    }
}
