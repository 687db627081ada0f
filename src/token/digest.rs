//! `digest`: a name and a password of standpipe's own, proven without being sent (RFC 7616; MD5, SHA-256 and SHA-512/256,
//! `qop=auth`). The provider's challenge is shared by all cores; each use of its nonce is counted.

mod challenge;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{
    Challenged, Credential, CredentialRequest, CredentialSource, CredentialStrategy, Problems, Result,
    Secrets, Settings, Stamp,
};
use zeroize::Zeroizing;

use self::challenge::Challenge;
use super::follow::Live;

/// The `digest` strategy.
pub(super) struct Digest;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    username: String,
    password: String,
}

/// Name, password, and the challenge that is being answered.
struct Login {
    username: String,
    password: Arc<Live<SecretString>>,
    challenge: ArcSwapOption<Challenge>,
}

struct Own(Arc<Login>);

impl CredentialStrategy for Digest {
    fn kind(&self) -> &'static str {
        "digest"
    }

    fn source(
        &self,
        table: &toml::Table,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn CredentialSource>, Problems> {
        let Keys { username, password } = Settings::read(table)?;
        let password = Live::of("password", &password, secrets, |password| Ok(password.clone()))?;
        Ok(Arc::new(Own(Arc::new(Login { username, password, challenge: ArcSwapOption::empty() }))))
    }
}

impl Own {
    fn credential(&self) -> Credential {
        Credential { stamp: Some(self.0.clone()), ..Credential::none() }
    }
}

#[async_trait(?Send)]
impl CredentialSource for Own {
    fn recall(&self, _request: &CredentialRequest<'_>) -> Option<Credential> {
        Some(self.credential())
    }

    async fn obtain(&self, _request: &CredentialRequest<'_>) -> Result<Credential> {
        Ok(self.credential())
    }

    fn challenged(
        &self,
        _request: &CredentialRequest<'_>,
        sent: &Credential,
        answer: &HeaderMap,
    ) -> Challenged {
        let fields = answer.get_all(WWW_AUTHENTICATE).iter().filter_map(|field| field.to_str().ok());
        let Some(asked) = Challenge::best(fields) else { return Challenged::Final };
        let answered = sent.headers.iter().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value);
        let known = self.0.challenge.load_full();
        let again = match (answered, &known) {
            // The request left before anything was known.
            (None, _) | (_, None) => Challenged::Renewable,
            // Another request has brought a challenge meanwhile.
            (Some(answered), Some(known)) if !known.is_answered_by(answered) => return Challenged::Renewable,
            // A nonce that was good before has run out; one that never was means a wrong password.
            (Some(_), Some(known)) if asked.stale || known.was_good() => Challenged::Renewable,
            _ => Challenged::Final,
        };
        self.0.challenge.store(Some(Arc::new(asked)));
        again
    }
}

impl Stamp for Login {
    fn stamp(&self, method: &Method, target: &Uri) -> Vec<(HeaderName, HeaderValue)> {
        let Some(challenge) = self.challenge.load_full() else { return Vec::new() };
        let target = target.path_and_query().map_or("/", |target| target.as_str());
        let password = self.password.get();
        let secret =
            Zeroizing::new(format!("{}:{}:{}", self.username, challenge.realm, password.expose_secret()));
        let field = challenge.answer(&self.username, &secret, method, target);
        HeaderValue::try_from(field).map(|field| vec![(AUTHORIZATION, field)]).unwrap_or_default()
    }
}
