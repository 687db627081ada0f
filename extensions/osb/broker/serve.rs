//! From a method and path to what it does, and the log line that says which call arrived.

use http::header::{HeaderMap, HeaderName};
use http::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use standpipe_api::Body;

use super::answer::Refusal;
use super::ask::Ask;
use super::core::Broker;
use super::decide::Order;
use super::records::{BindingId, InstanceId, Subject};

/// Bytes of a request body.
const BODY_BYTES: usize = 1024 * 1024;
/// Echoed, so that a platform finds its request again.
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");

/// What a path names, relative to the broker.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Catalog,
    Subject(Subject),
    LastOperation(Subject),
}

impl Place {
    fn read(path: &str) -> Option<Self> {
        let decode = |segment| percent_decode_str(segment).decode_utf8().ok().map(String::from);
        let segments: Option<Vec<String>> = path.strip_prefix('/')?.split('/').map(decode).collect();
        let segments = segments?;
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        let subject = |instance: &str, binding: Option<&str>| {
            let binding = binding.map(|id| BindingId(id.to_owned()));
            let is_named = |id: &str| !id.is_empty() && id.len() <= 1000;
            let named = is_named(instance) && binding.as_ref().is_none_or(|id| is_named(&id.0));
            named.then(|| Subject { instance: InstanceId(instance.to_owned()), binding })
        };
        Some(match words.as_slice() {
            ["v2", "catalog"] => Self::Catalog,
            ["v2", "service_instances", instance] => Self::Subject(subject(instance, None)?),
            ["v2", "service_instances", instance, "last_operation"] => {
                Self::LastOperation(subject(instance, None)?)
            }
            ["v2", "service_instances", instance, "service_bindings", binding] => {
                Self::Subject(subject(instance, Some(binding))?)
            }
            ["v2", "service_instances", instance, "service_bindings", binding, "last_operation"] => {
                Self::LastOperation(subject(instance, Some(binding))?)
            }
            _ => return None,
        })
    }

    /// Its methods, as `Allow` says them.
    const fn allow(&self) -> &'static str {
        match self {
            Self::Catalog | Self::LastOperation(_) => "GET, HEAD",
            Self::Subject(Subject { binding: None, .. }) => "GET, HEAD, PUT, PATCH, DELETE",
            Self::Subject(Subject { binding: Some(_), .. }) => "GET, HEAD, PUT, DELETE",
        }
    }
}

impl Broker {
    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (head, mut body) = request.into_parts();
        let answered = self.handle(&head, &mut body).await;
        let mut response = answered.unwrap_or_else(Refusal::into_response);
        if let Some(identity) = head.headers.get(REQUEST_IDENTITY) {
            response.headers_mut().insert(REQUEST_IDENTITY, identity.clone());
        }
        if head.method == Method::HEAD {
            *response.body_mut() = Body::empty();
        }
        let status = response.status().as_u16();
        tracing::info!(broker = %self.name, method = %head.method, path = head.uri.path(), status, "served");
        response
    }

    async fn handle(&self, head: &http::request::Parts, body: &mut Body) -> Result<Response<Body>, Refusal> {
        check_version(&head.headers)?;
        let place = Place::read(head.uri.path())
            .ok_or_else(|| Refusal::unknown("this broker has nothing at this path"))?;
        let word = if head.method == Method::HEAD { "GET" } else { head.method.as_str() };
        if !place.allow().split(", ").any(|allowed| allowed == word) {
            return Err(Refusal::method(place.allow()));
        }
        let settings = self.settings();
        let ask = Ask::read(&head.uri, &head.headers)?;
        match (word, &place) {
            ("GET", Place::Catalog) => Ok(settings.catalog.answer(&head.headers)),
            ("GET", Place::LastOperation(subject)) => self.poll(&settings, &ask, subject).await,
            ("GET", Place::Subject(subject)) => self.fetch(&settings, subject).await,
            (_, Place::Subject(subject)) => {
                let body = body.bytes(BODY_BYTES).await?;
                let order = Order::read(word, &settings, &ask, subject, &body)?;
                self.carry_out(&settings, &ask, subject, &order).await
            }
            _ => Err(Refusal::method(place.allow())),
        }
    }
}

/// The platform must speak version 2.
fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    let version = headers.get("x-broker-api-version").and_then(|field| field.to_str().ok());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match version.and_then(|version| version.split_once('.')) {
        Some(("2", minor)) if is_number(minor) => Ok(()),
        _ => {
            let text = "the header X-Broker-API-Version must name a version 2.x; this broker speaks 2.17";
            Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text))
        }
    }
}
