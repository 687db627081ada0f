//! Mediated pipes: standpipe becomes the other party for both brokers, so that brokers that cannot reach each other, or do
//! not trust each other, still tell each other what changes (decisions 38 to 46).
//!
//! Each end of a mediated pipe has an address here, `/ends/{provider}/{resource}/pipes/{pipe}`. Callers and the other broker
//! see that address and standpipe's issuer in place of the broker's own, which are kept. A broker that has news brings it to
//! the address of the other end; it is verified, made durable, and delivered under standpipe's own token.
//!
//! Read `answer` and `request` for what callers see, `hear` for news that comes in, `deliver` for news that goes out.

mod address;
mod answer;
mod deliver;
mod ends;
mod hear;
mod request;
mod room;

use std::rc::Rc;
use std::sync::OnceLock;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use standpipe_api::{
    Background, Body, Call, Error, Extension, Face, Federation, Flow, Job, JobOutcome, Provider, Rest,
    Result, Route, Target, bearer, without_empty_segments,
};
use tokio::sync::mpsc;

pub(super) use self::address::EndAddress;
pub(super) use self::answer::show_listed;
use self::hear::{Heard, News};
use super::dialect::NAME;
use super::settings::ProviderSettings;
use crate::incoming;
use crate::path;

/// Bytes of a body that names or shows a pipe, or brings news.
const LONGEST: usize = 8 << 20;
/// News that wait to be looked at.
const WAITING: usize = 256;

/// The extension.
#[derive(Default)]
pub struct Mediate {
    /// To the thread where news are looked at; there once it runs.
    hearing: OnceLock<mpsc::Sender<News>>,
}

/// What a request that leaves is about.
#[derive(Clone)]
struct About(Option<EndAddress>);

/// Whether a provider's pipes are mediated.
pub(super) fn is_mediated(provider: &Provider) -> bool {
    ProviderSettings::of(provider).is_some_and(|settings| settings.mediated)
}

/// What is too long to be looked through is not shown with the broker's own names in it.
fn too_long_to_show(provider: &Provider) -> Result<()> {
    if !is_mediated(provider) {
        return Ok(());
    }
    let text = format!("{} answered more than {LONGEST} bytes, which are too many to mediate", provider.id);
    Err(Error::nonsense(provider.id.clone(), text))
}

fn all_cloudpipe(fed: &dyn Federation) -> Vec<Provider> {
    fed.providers().into_iter().filter(|provider| provider.dialect == NAME).collect()
}

#[async_trait(?Send)]
impl Extension for Mediate {
    fn name(&self) -> &'static str {
        "cloudpipe-mediate"
    }

    fn faces(&self) -> Vec<Face> {
        vec![Face { name: "ends", roots: &["ends"], owns_the_rest: Rest::NotOwned }]
    }

    fn open_faces(&self) -> &'static [&'static str] {
        &["ends"]
    }

    fn routes(&self) -> Vec<Route> {
        let bound = ["offers", "needs"].into_iter().flat_map(|side| {
            [
                format!("/{{resource}}/{side}/{{blueprint}}"),
                format!("/{{resource}}/{side}/{{blueprint}}/bindings"),
                format!("/{side}/{{blueprint}}"),
                format!("/{side}/{{blueprint}}/bindings"),
            ]
        });
        let pipes =
            ["/{resource}/pipes", "/{resource}/pipes/{pipe}", "/pipes", "/pipes/{pipe}", "/ends/{*end}"];
        pipes.into_iter().map(str::to_owned).chain(bound).map(|pattern| Route::any(&pattern)).collect()
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        _: &dyn Federation,
    ) -> Result<Flow> {
        if !call.uri.path().starts_with("/ends/") {
            return Ok(Flow::Continue);
        }
        let heard = self.hear(call, request).await?;
        Ok(Flow::Respond(heard.into_response()))
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        to: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let path = without_empty_segments(request.uri().path());
        let (resource, rest) = path::split_first(&path);
        let end = EndAddress::read(to.provider.clone(), resource, rest);
        call.notes.insert(About(end));
        if !matches!(*request.method(), Method::POST | Method::PATCH | Method::PUT) {
            return Ok(());
        }
        let providers = all_cloudpipe(fed);
        if !providers.iter().any(is_mediated) {
            return Ok(());
        }
        let Some(body) = request.body_mut().bytes_within(LONGEST).await? else {
            return Err(Error::body_too_large(LONGEST));
        };
        if let Some(changed) =
            request::mediated(&body, &to.provider, &providers, &fed.state(), fed.public_url()).await?
        {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
            *request.body_mut() = Body::from(changed);
        }
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let providers = all_cloudpipe(fed);
        let Some(provider) = providers.iter().find(|one| one.id == from.provider) else { return Ok(()) };
        let about = call.notes.get::<About>().and_then(|About(end)| end.clone());
        let mediates = providers.iter().any(is_mediated);
        let (true, Some(end)) = (mediates && response.status().is_success(), about) else { return Ok(()) };
        if call.method == Method::DELETE {
            return ends::forget(&fed.state(), &end).await;
        }
        if call.method == Method::HEAD {
            return Ok(());
        }
        let Some(body) = response.body_mut().bytes_within(LONGEST).await? else {
            return too_long_to_show(provider);
        };
        if !is_mediated(provider) && memchr::memmem::find(&body, b"/ends/").is_none() {
            return Ok(());
        }
        // Whatever it is called: brokers in the field send JSON as text.
        let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
        let (state, public_url) = (fed.state(), fed.public_url());
        if answer::mediate(&mut value, (provider, &providers), &end.resource, &state, public_url).await? {
            let changed = value.to_string();
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(changed.len()));
            response.headers_mut().remove(ETAG);
            *response.body_mut() = Body::from(changed);
        }
        Ok(())
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        let (tell, told) = mpsc::channel(WAITING);
        // A second start would be the engine's mistake; the first one's thread stays.
        self.hearing.get_or_init(|| tell);
        hear::listen(told, background).await;
        Ok(())
    }

    async fn run_job(&self, job: Job, background: Rc<dyn Background>) -> JobOutcome {
        deliver::run(job, &*background).await
    }
}

impl Mediate {
    /// Hands news to the thread that can verify them, and waits for what becomes of them.
    async fn hear(&self, call: &Call, request: &mut Request<Body>) -> Result<Heard> {
        let wait = || Error::could_not_ask("the other end of this pipe", Vec::new());
        let Some(to) = EndAddress::of_path(call.uri.path()) else { return Ok(Heard::Refused) };
        if !matches!(call.method, Method::PATCH | Method::POST) {
            return Ok(Heard::Refused);
        }
        let Some(token) = bearer(request.headers()).map(SecretString::from) else {
            return Ok(Heard::Refused);
        };
        let body = incoming::body(call, request, LONGEST).await?;
        let (tell, told) = tokio::sync::oneshot::channel();
        let news = News { to, token, body, tell };
        self.hearing.get().ok_or_else(wait)?.try_send(news).map_err(|_full| wait())?;
        told.await.map_err(|_ended| wait())
    }
}

impl Heard {
    fn into_response(self) -> Response<Body> {
        let (status, text) = match self {
            Self::Taken => (StatusCode::ACCEPTED, None),
            Self::Refused => {
                (StatusCode::UNAUTHORIZED, Some("the token is not that of a broker with a pipe to this end"))
            }
            Self::NotYours => (
                StatusCode::FORBIDDEN,
                Some("a broker may change other.data of the other end, and nothing else"),
            ),
            Self::Later => {
                (StatusCode::SERVICE_UNAVAILABLE, Some("the sender could not be recognised now; try again"))
            }
        };
        let mut response = Response::new(text.map_or_else(Body::empty, |text| {
            let problem =
                serde_json::json!({"type": "about:blank", "status": status.as_u16(), "detail": text});
            Body::from(problem.to_string())
        }));
        *response.status_mut() = status;
        if text.is_some() {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}
