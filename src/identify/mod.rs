//! Step 2: who is calling. Request head in, caller out; one file per kind of credential.
//!
//! The authenticators of a listener are tried in configured order; the first that recognises the request
//! decides. Nothing here knows providers, and nothing of a credential is kept but keyed hashes.

mod anonymous;
mod basic;
mod mtls;
mod oidc;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use standpipe_api::{Authenticator, Caller, Connection, Error, ErrorKind, Fault, Identified, Result};

pub use self::anonymous::Anonymous;
pub use self::basic::Basic;
pub use self::mtls::{Mtls, certificate_name};
pub use self::oidc::{Oidc, Verified};

/// What a challenge says to a token that is no good.
const INVALID_TOKEN: &str = r#"error="invalid_token""#;

/// The authenticators of one listener.
#[derive(Clone)]
pub struct Authenticators {
    tried: Vec<Arc<dyn Authenticator>>,
    challenges: Vec<HeaderValue>,
    after_bearer: Vec<HeaderValue>,
}

/// What a request that nobody recognised had shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// No bearer token.
    #[default]
    Nothing,
    /// A bearer token that is no good here.
    Bearer,
}

/// What the authenticators make of a request.
#[derive(Debug)]
pub enum Who {
    /// A known caller.
    Caller(Arc<Caller>),
    /// Somebody who showed a credential of ours that is not good: it goes to nobody else (decision 31).
    Refused(Error),
    /// Nobody we know. A bearer token, if there is one, may belong to somebody a provider knows.
    Stranger(Error),
}

impl Authenticators {
    /// Authenticators in the order they are tried.
    pub fn new(tried: Vec<Arc<dyn Authenticator>>) -> Self {
        let challenges: Vec<HeaderValue> =
            tried.iter().filter_map(|authenticator| authenticator.challenge()).collect();
        let told = |challenge: &HeaderValue| match challenge.to_str() {
            // RFC 6750, section 3.1: whoever showed a token learns that it was the token.
            Ok(text) if text.starts_with("Bearer ") => {
                HeaderValue::from_str(&format!("{text}, {INVALID_TOKEN}"))
            }
            _ => Ok(challenge.clone()),
        };
        let after_bearer = challenges.iter().filter_map(|challenge| told(challenge).ok()).collect();
        Self { tried, challenges, after_bearer }
    }

    /// The challenges of a 401.
    pub fn challenges(&self, shown: Shown) -> &[HeaderValue] {
        match shown {
            Shown::Nothing => &self.challenges,
            Shown::Bearer => &self.after_bearer,
        }
    }

    /// A caller recognised from memory.
    pub fn recall(&self, head: &Parts, connection: &Connection) -> Option<Arc<Caller>> {
        for authenticator in &self.tried {
            if let Some(caller) = authenticator.recall(head, connection) {
                return Some(caller);
            }
            // Whoever comes with a credential is not somebody whom a later one lets in without.
            if authenticator.applies(head, connection) {
                return None;
            }
        }
        None
    }

    /// Recognises the caller, however long it takes up to the caller's deadline.
    ///
    /// # Errors
    /// A credential could not be checked: 503, never 401.
    pub async fn identify(&self, head: &Parts, connection: &Connection) -> Result<Who> {
        for authenticator in &self.tried {
            match authenticator.identify(head, connection).await {
                Identified::Caller(caller) => return Ok(Who::Caller(caller)),
                Identified::NotMine => {}
                Identified::Refused(reason) => {
                    return Ok(Who::Refused(refused(authenticator.name(), reason)));
                }
                Identified::CouldNotCheck(reason) => {
                    return Err(could_not_check(authenticator.name(), reason));
                }
            }
        }
        Ok(Who::Stranger(unauthenticated("the request carries no credential that this listener accepts")))
    }
}

fn unauthenticated(public: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, Fault::Caller, public)
        .advise("send a credential of one of the kinds named by WWW-Authenticate")
}

fn refused(authenticator: &'static str, reason: String) -> Error {
    // The caller is not told why: the difference between a wrong name and a wrong password is a gift.
    unauthenticated("the credential is not good").because(format!("{authenticator}: {reason}"))
}

fn could_not_check(authenticator: &'static str, reason: String) -> Error {
    Error::new(ErrorKind::Overloaded, Fault::Proxy, "the credential could not be checked now")
        .advise("try again")
        .retry_after(Duration::from_secs(1))
        .because(format!("{authenticator}: {reason}"))
}
