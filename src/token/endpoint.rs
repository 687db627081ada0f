//! A token endpoint (RFC 6749, section 3.2), asked as standpipe's own client: a form goes in, a token comes out, or
//! an error that names the provider the token is for. No error, log line or `Debug` holds anything the endpoint said
//! but its registered error code: descriptions like to repeat what was sent.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use standpipe_api::{
    Answer, Credential, CredentialRequest, Error, ErrorKind, Fault, Problem, Problems, ProviderId, Result,
    Secrets, Timestamp,
};
use zeroize::Zeroizing;

use super::endpoint_keys::{ClientAuth, Keys, Several};
use super::follow::Live;
use super::mappings::TokenMappings;
use crate::forward::origin::Origin;

/// How long an answer is waited for when nothing is configured.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a token without `expires_in` is believed when nothing is configured.
const LIFETIME: Duration = Duration::from_secs(300);
/// Longest token, in bytes: it travels in a field, and heads end at 64 KiB nearly everywhere.
const LONGEST: usize = 32 * 1024;
/// Longest error code that is repeated.
const LONGEST_CODE: usize = 64;

/// An endpoint, ready to be asked.
pub(super) struct TokenEndpoint {
    url: Uri,
    client: Client,
    scope: Option<String>,
    audience: Several,
    resource: Several,
    limit: Duration,
    lifetime: Duration,
    mappings: Arc<TokenMappings>,
}

/// Who standpipe is there.
enum Client {
    Nobody,
    Public(String),
    Secret { id: String, secret: Arc<Live<SecretString>>, auth: ClientAuth },
}

/// Why no token came, as far as it decides what the caller is told.
enum Refusal {
    /// This caller, or this request of it, gets none.
    Subject,
    /// Standpipe itself is not let in, or asks for what the endpoint does not know.
    Client,
}

impl TokenEndpoint {
    /// Checks what is configured.
    pub(super) fn new(
        keys: &Keys,
        secrets: &dyn Secrets,
        mappings: &Arc<TokenMappings>,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let url = url(&keys.token_url).map_err(|text| problems.push(Problem::at("token_url", text)));
        let client = client(keys, secrets).map_err(|found| problems.extend(found));
        let mut span =
            |key, text: &Option<String>, default| match text.as_deref().map(humantime::parse_duration) {
                None => default,
                Some(Ok(span)) if !span.is_zero() => span,
                Some(_) => {
                    problems.push(Problem::at(key, "must be a span of time, as \"10s\" or \"5m\""));
                    default
                }
            };
        let limit = span("timeout", &keys.timeout, PATIENCE);
        let lifetime = span("lifetime", &keys.lifetime, LIFETIME);
        match (url, client) {
            (Ok(url), Ok(client)) if problems.is_empty() => Ok(Self {
                url,
                client,
                scope: keys.scope.clone(),
                audience: keys.audience.clone(),
                resource: keys.resource.clone(),
                limit,
                lifetime,
                mappings: mappings.clone(),
            }),
            _ => Err(problems),
        }
    }

    /// Asks for a token by a grant; the form already holds what is the grant's own.
    pub(super) async fn ask(&self, request: &CredentialRequest<'_>, mut form: Form) -> Result<Credential> {
        let scope = request.remote_scope.map_or("", |scope| scope.as_str());
        let filled = |text: &String| text.replace("{remote_scope}", scope);
        self.scope.iter().for_each(|scope| form.field("scope", &filled(scope)));
        self.audience.iter().for_each(|audience| form.field("audience", &filled(audience)));
        self.resource.iter().for_each(|resource| form.field("resource", &filled(resource)));
        let sent = self.request(form).map_err(|cause| {
            Error::internal(format!("no question to the token endpoint of {} can be made", request.provider))
                .because(cause)
        })?;
        let asked = Timestamp::now();
        match self.mappings.outbound().fetch(sent, self.limit).await {
            Ok(answer) => self.read(request, &answer, asked),
            Err(error) => Err(unanswered(request.provider, error)),
        }
    }

    fn request(&self, mut form: Form) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::builder().method(Method::POST).uri(self.url.clone());
        match &self.client {
            Client::Nobody => {}
            Client::Public(id) => form.field("client_id", id),
            Client::Secret { id, secret, auth: ClientAuth::Post } => {
                form.field("client_id", id);
                form.field("client_secret", secret.get().expose_secret());
            }
            Client::Secret { id, secret, auth: ClientAuth::Basic } => {
                let secret = secret.get();
                let pair = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret.expose_secret())));
                let field = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
                let mut field = HeaderValue::from_str(&field)?;
                field.set_sensitive(true);
                request = request.header(AUTHORIZATION, field);
            }
        }
        request
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Bytes::copy_from_slice(form.0.as_bytes()))
    }

    /// What the endpoint's answer comes to (RFC 6749, section 5).
    fn read(&self, request: &CredentialRequest<'_>, answer: &Answer, asked: Timestamp) -> Result<Credential> {
        let provider = request.provider;
        match answer.status() {
            StatusCode::OK => {
                let granted: Option<Granted> = serde_json::from_slice(answer.body()).ok();
                let granted = granted.ok_or_else(|| nonsense(provider, "its answer is no token answer"))?;
                self.granted(provider, granted, asked)
            }
            status if status.is_client_error() => Err(refused(request, answer)),
            status if status.is_server_error() => {
                let public = format!("the token endpoint of {provider} failed with {}", status.as_u16());
                Err(Error::new(ErrorKind::CouldNotAsk, Fault::Provider(provider.clone()), public)
                    .retry_after(Duration::from_secs(1)))
            }
            status => Err(nonsense(provider, &format!("it answered {}", status.as_u16()))),
        }
    }

    fn granted(&self, provider: &ProviderId, granted: Granted, asked: Timestamp) -> Result<Credential> {
        let usable = granted.token_type.as_deref().unwrap_or("bearer");
        // RFC 8693 says `N_A` of what is no access token; as a credential it can only be carried like one.
        if !["bearer", "n_a"].contains(&usable.to_ascii_lowercase().as_str()) {
            return Err(nonsense(provider, "its token is of a type that cannot be used as a bearer"));
        }
        let token = granted.access_token;
        let text = token.expose_secret();
        if text.is_empty() || text.len() > LONGEST {
            return Err(nonsense(provider, "its token is empty or too long"));
        }
        let field = Zeroizing::new(format!("Bearer {text}"));
        let field = HeaderValue::from_str(&field)
            .map_err(|_| nonsense(provider, "its token does not fit a header field"))?;
        let lifetime = granted.expires_in.map_or(self.lifetime, Seconds::span);
        if lifetime.is_zero() {
            return Err(nonsense(provider, "its token has ended already"));
        }
        let mut credential = Credential::authorization(field);
        credential.expires_at = Some(asked.plus(lifetime));
        Ok(credential)
    }
}

/// A successful answer; fields that are not read are ignored (RFC 6749, section 5.1).
#[derive(serde::Deserialize)]
struct Granted {
    access_token: SecretString,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some servers write the number in quotes, some with a fraction.
#[derive(serde::Deserialize)]
struct Seconds(serde_json::Value);

impl Seconds {
    /// At most a year: nobody means more, and what cannot be read is over at once.
    fn span(self) -> Duration {
        const MOST: f64 = 365.0 * 24.0 * 3600.0;
        let text = self.0.as_str().map_or_else(|| self.0.to_string(), str::to_owned);
        let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite()).unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds.min(MOST)).unwrap_or(Duration::ZERO)
    }
}

/// A form that is wiped when it is dropped.
#[derive(Default)]
pub(super) struct Form(Zeroizing<String>);

impl Form {
    /// A form that begins with its grant type.
    pub(super) fn of(grant_type: &str) -> Self {
        let mut form = Self::default();
        form.field("grant_type", grant_type);
        form
    }

    pub(super) fn field(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
    }
}

fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(utf8_percent_encode(text, NON_ALPHANUMERIC).to_string())
}

fn url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let base = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
    Origin::parse(&base).map_err(|error| error.to_string())?;
    Ok(uri)
}

fn client(keys: &Keys, secrets: &dyn Secrets) -> Result<Client, Problems> {
    match (&keys.client_id, &keys.client_secret, keys.client_auth) {
        (None, None, None) => Ok(Client::Nobody),
        (Some(id), None, None) => Ok(Client::Public(id.clone())),
        (Some(_), None, Some(_)) => Err(vec![Problem::at("client_secret", "is required with `client_auth`")]),
        (None, _, _) => Err(vec![Problem::at("client_id", "is missing")]),
        (Some(id), Some(reference), auth) => {
            let secret = Live::of("client_secret", reference, secrets, |secret| Ok(secret.clone()))?;
            Ok(Client::Secret { id: id.clone(), secret, auth: auth.unwrap_or(ClientAuth::Basic) })
        }
    }
}

/// An error answer (RFC 6749, section 5.2; RFC 8693, section 2.2.2).
fn refused(request: &CredentialRequest<'_>, answer: &Answer) -> Error {
    #[derive(serde::Deserialize)]
    struct Told {
        error: String,
    }
    let provider = request.provider;
    let told: Option<Told> = serde_json::from_slice(answer.body()).ok();
    let Some(code) = told.map(|told| told.error).filter(|code| is_code(code)) else {
        return nonsense(provider, &format!("it answered {} without a reason", answer.status().as_u16()));
    };
    let whose = match (code.as_str(), request.bearer()) {
        ("invalid_client" | "unauthorized_client" | "unsupported_grant_type", _) | (_, None) => {
            Refusal::Client
        }
        _ => Refusal::Subject,
    };
    match whose {
        Refusal::Subject => {
            let public = format!("the token endpoint of {provider} gives this caller no token: {code}");
            Error::new(ErrorKind::Forbidden, Fault::Caller, public)
                .advise("come back with a token that the provider's token endpoint accepts")
        }
        Refusal::Client => {
            let public = format!("the token endpoint of {provider} refuses standpipe itself: {code}");
            Error::nonsense(provider.clone(), public)
                .advise("an operator has to look at the provider's credential in the configuration")
        }
    }
}

/// A code as registered (RFC 6749, section 11.4): what else stands there may be anything.
fn is_code(code: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    !code.is_empty() && code.len() <= LONGEST_CODE && code.bytes().all(plain)
}

fn unanswered(provider: &ProviderId, cause: Error) -> Error {
    let what = match cause.kind() {
        ErrorKind::Timeout => "did not answer in time",
        ErrorKind::Nonsense | ErrorKind::BodyBroken | ErrorKind::BodyTooLarge => "gave no usable answer",
        _ => "cannot be reached",
    };
    let public = format!("the token endpoint of {provider} {what}");
    let kind = match cause.kind() {
        kind @ (ErrorKind::Timeout | ErrorKind::Nonsense) => kind,
        ErrorKind::BodyBroken | ErrorKind::BodyTooLarge => ErrorKind::Nonsense,
        _ => ErrorKind::CouldNotAsk,
    };
    let error = Error::new(kind, Fault::Provider(provider.clone()), public).because(cause);
    if kind == ErrorKind::CouldNotAsk { error.retry_after(Duration::from_secs(1)) } else { error }
}

fn nonsense(provider: &ProviderId, why: &str) -> Error {
    Error::nonsense(provider.clone(), format!("the token endpoint of {provider} is of no use: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_keeps_every_byte_of_its_values() {
        let mut form = Form::of("client_credentials");
        form.field("scope", "a b&c=ü+");
        assert_eq!(*form.0, "grant_type=client%5Fcredentials&scope=a%20b%26c%3D%C3%BC%2B");
    }

    #[test]
    fn a_lifetime_may_be_written_in_many_ways_and_none_is_endless() {
        let span = |text: &str| serde_json::from_str::<Seconds>(text).unwrap().span();
        assert_eq!(span("60"), Duration::from_secs(60));
        assert_eq!(span("\"60\""), Duration::from_secs(60));
        assert_eq!(span("1e300"), Duration::from_secs(365 * 24 * 3600));
        for over in ["-1", "0", "\"soon\"", "\"NaN\"", "null", "[]"] {
            assert_eq!(span(over), Duration::ZERO, "{over}");
        }
    }

    #[test]
    fn only_registered_codes_are_repeated() {
        for code in ["invalid_grant", "temporarily_unavailable"] {
            assert!(is_code(code));
        }
        for other in ["", "eyJhbGciOi", "invalid grant", "a\nb", &"a".repeat(65)] {
            assert!(!is_code(other), "{other}");
        }
    }
}
