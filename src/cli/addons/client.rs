//! Asks a standpipe over HTTP or HTTPS, one connection per question.

use std::env::var;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use standpipe_api::BoxError;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::admin_client::{Connection, request, shake_hands};
use super::super::table::printable;
use super::Flags;
use crate::forward::tls::{client_config, unusable};

/// How long the server may take to accept, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer: brokers behind it may take their time.
const ANSWER: Duration = Duration::from_secs(120);
/// Bytes of an answer: catalogs are long.
const LONGEST: usize = 32 * 1024 * 1024;

/// What to do when whoever asks is not known.
pub(super) const WHO: &str = "set STANDPIPE_USER and STANDPIPE_PASSWORD, or STANDPIPE_TOKEN";

/// A standpipe, and who asks it.
pub(super) struct Client {
    base: String,
    authority: Authority,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<HeaderValue>,
}

/// Why a question has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server says no.
    Refused {
        /// How it says it.
        status: StatusCode,
        /// What is wrong, and what to do.
        text: String,
    },
    /// It does not answer, or not in words we know; asking again may help.
    Unreachable(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { text, .. } | Failure::Unreachable(text) => text,
        }
    }
}

impl Client {
    /// A client of the standpipe at a base URL.
    ///
    /// # Errors
    /// The URL or the credential cannot be used.
    pub(super) fn new(url: &Uri, credential: &Credential) -> Result<Self, String> {
        let tls = match url.scheme_str() {
            Some("https") => Some(client_config(None).map_err(|problems| unusable(problems).to_string())?),
            _ => None,
        };
        let authority = url.authority().cloned().ok_or_else(|| format!("{url} has no host"))?;
        let base = url.path().trim_end_matches('/').to_owned();
        Ok(Self { base, authority, tls, authorization: credential.field()? })
    }

    /// Asks, and reads the JSON of the answer.
    ///
    /// # Errors
    /// The server refuses, or cannot be asked.
    pub(super) async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), Failure> {
        let unreachable = |why: BoxError| {
            Failure::Unreachable(format!(
                "the standpipe at {} cannot be asked: {why}; another one is named with --url",
                self.authority
            ))
        };
        let (status, answer) = self.send(method, target, body).await.map_err(unreachable)?;
        if status.is_success() {
            return Ok((status, answer));
        }
        // Who is at fault only a standpipe says; anything else may be a broker's.
        if answer.get("fault").is_none() && self.is_broker().await {
            let text = format!(
                "{}{} is a service broker and no standpipe with add-ons: name it with --osb-url instead of --url",
                self.authority, self.base
            );
            return Err(Failure::Refused { status, text });
        }
        Err(refused(status, &answer))
    }

    async fn is_broker(&self) -> bool {
        let asked = self.send(Method::GET, "/v2/catalog", None).await;
        asked.is_ok_and(|(status, answer)| status == StatusCode::OK && answer.get("services").is_some())
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), BoxError> {
        let text = body.map(ToString::to_string).unwrap_or_default();
        let mut request = request(method, &format!("{}{target}", self.base), text)?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::try_from(self.authority.as_str())?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        // A broker wants to know (spec, "API Version Header").
        headers.insert("x-broker-api-version", HeaderValue::from_static("2.17"));
        headers.extend(body.map(|_| (CONTENT_TYPE, HeaderValue::from_static("application/json"))));
        headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
        let mut connection = timeout(CONNECT, self.connect()).await??;
        let asked = async {
            let response = connection.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await?;
            Ok::<_, BoxError>((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
        };
        timeout(ANSWER, asked).await?
    }

    async fn connect(&self) -> Result<Connection, BoxError> {
        let host = self.authority.host().trim_matches(['[', ']']);
        let usual = if self.tls.is_some() { 443 } else { 80 };
        let socket = TcpStream::connect((host, self.authority.port_u16().unwrap_or(usual))).await?;
        match &self.tls {
            None => shake_hands(socket).await,
            Some(config) => {
                let name = ServerName::try_from(host.to_owned())?;
                shake_hands(TlsConnector::from(config.clone()).connect(name, socket).await?).await
            }
        }
    }
}

/// An answer that is no success: a problem (RFC 9457), else its status.
fn refused(status: StatusCode, answer: &Value) -> Failure {
    let field = |key: &str| answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = match (field("detail"), field("advice")) {
        (Some(detail), Some(advice)) => format!("{detail}\n{advice}"),
        (Some(detail), None) => detail.to_owned(),
        _ => format!("the standpipe answered {status}"),
    };
    let text = match status {
        StatusCode::UNAUTHORIZED => {
            format!("{text}\n{WHO}")
        }
        _ => text,
    };
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Failure::Unreachable(text),
        _ => Failure::Refused { status, text },
    }
}

/// Who asks, as the environment says it: never the command line, which others can read.
pub(super) enum Credential {
    /// Nobody says who it is.
    Nobody,
    /// A name and its password.
    User(String, String),
    /// A bearer token.
    Token(String),
}

impl Credential {
    /// What the environment holds.
    ///
    /// # Errors
    /// It holds half of it.
    pub(super) fn from_environment() -> Result<Self, String> {
        match (var("STANDPIPE_TOKEN"), var("STANDPIPE_USER")) {
            (Ok(token), _) if !token.is_empty() => Ok(Self::Token(token)),
            (_, Ok(user)) if !user.is_empty() => {
                let password = var("STANDPIPE_PASSWORD").map_err(|_| "STANDPIPE_PASSWORD is not set")?;
                Ok(Self::User(user, password))
            }
            _ => Ok(Self::Nobody),
        }
    }

    fn field(&self) -> Result<Option<HeaderValue>, String> {
        let text = match self {
            Self::Nobody => return Ok(None),
            Self::User(user, password) => {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }
            Self::Token(token) => format!("Bearer {token}"),
        };
        let mut value =
            HeaderValue::try_from(text).map_err(|_| "STANDPIPE_TOKEN cannot be sent in a header")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A base URL that can be asked.
///
/// # Errors
/// It is none, or the credential would travel where others can read it.
pub(super) fn checked(url: &str, what: &str, credential: &Credential, flags: &Flags) -> Result<Uri, String> {
    let wrong = || format!("`{}` is no URL of a {what}; write it as https://{what}.example", printable(url));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
    let host = authority.host().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_here || flags.unencrypted || matches!(credential, Credential::Nobody) => {}
        Some("http") => {
            return Err(format!(
                "{url} is not encrypted: others could read your password or token; use https://, or --unencrypted"
            ));
        }
        _ => return Err(wrong()),
    }
    Ok(uri)
}
