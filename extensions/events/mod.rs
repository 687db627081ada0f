//! `GET /events`: what happened, as far as the caller may see it, in order and without a gap.
//!
//! A page (`?after=&limit=`), a page that waits for the next event (`&wait=30s`), or all that comes as server-sent events
//! (`Accept: text/event-stream`). Whoever asks behind a revision that is no longer kept is told so (410) and reads anew
//! what it follows. Followers are woken by what is written, never by a clock.

mod settings;
mod stream;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use http::{HeaderName, HeaderValue, Request, Response};
use standpipe_api::{
    Background, Body, Call, Error, ErrorKind, EventPage, EventQuery, Extension, Face, Fault, Federation,
    Flow, Outdated, Problems, Rest, Result, Route, without_empty_segments,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use self::settings::Settings;
use self::stream::Stream;

/// How long before a call's deadline a wait ends, so that its answer still leaves in time.
const MARGIN: Duration = Duration::from_millis(500);
/// Where a client of server-sent events was when it lost its connection (HTML, section 9.2).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// What a client of server-sent events accepts.
const EVENT_STREAM: &str = "text/event-stream";

/// The feed for callers.
pub struct Events {
    settings: Settings,
    /// Each wait and each stream has a place.
    places: Arc<Semaphore>,
    /// Whether standpipe drains.
    ending: watch::Sender<bool>,
}

impl Default for Events {
    fn default() -> Self {
        let settings = Settings::default();
        let places = Arc::new(Semaphore::new(settings.followers));
        Self { settings, places, ending: watch::Sender::new(false) }
    }
}

#[async_trait(?Send)]
impl Extension for Events {
    fn name(&self) -> &'static str {
        "events"
    }

    fn configure(&mut self, table: &toml::Table) -> Result<(), Problems> {
        self.settings = Settings::read(table)?;
        self.places = Arc::new(Semaphore::new(self.settings.followers));
        Ok(())
    }

    fn faces(&self) -> Vec<Face> {
        vec![Face { name: "events", roots: &["events"], owns_the_rest: Rest::NotOwned }]
    }

    fn routes(&self) -> Vec<Route> {
        vec![Route::get("/events")]
    }

    async fn take_over(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        fed: &dyn Federation,
    ) -> Result<Flow> {
        // The events of a provider behind /providers/{name}/ are its own.
        if without_empty_segments(call.uri.path()) != "/events" {
            return Ok(Flow::Continue);
        }
        let query = EventQuery::read(request.uri().query())?;
        if accepts_stream(request.headers()) {
            return self.stream(query, request.headers(), fed).await.map(Flow::Respond);
        }
        let until = call.deadline.checked_sub(MARGIN).unwrap_or(call.deadline);
        let until = Instant::from_std(until).min(Instant::now() + query.wait);
        Ok(Flow::Respond(match self.page(query, until, fed).await? {
            Ok(page) => json(&page),
            Err(outdated) => outdated.answer(),
        }))
    }

    async fn start(&self, background: Rc<dyn Background>) -> Result<()> {
        background.stopped().await;
        self.ending.send_replace(true);
        Ok(())
    }
}

impl Events {
    /// The next events, waiting for the first of them until then. What the caller does not see does not end the wait.
    async fn page(
        &self,
        query: EventQuery,
        until: Instant,
        fed: &dyn Federation,
    ) -> Result<Result<EventPage, Outdated>> {
        let _place = if query.wait.is_zero() { None } else { Some(self.place()?) };
        let mut ending = self.ending.subscribe();
        let mut after = query.after.unwrap_or_else(|| fed.last_event());
        loop {
            let page = match fed.events(after, query.limit).await? {
                Ok(page) if page.events.is_empty() && Instant::now() < until && !*ending.borrow() => page,
                answer => return Ok(answer),
            };
            after = page.next;
            tokio::select! {
                () = fed.event_behind(after) => {}
                () = tokio::time::sleep_until(until) => {}
                // The sender is this extension.
                _ending = ending.changed() => {}
            }
        }
    }

    async fn stream(
        &self,
        query: EventQuery,
        headers: &HeaderMap,
        fed: &dyn Federation,
    ) -> Result<Response<Body>> {
        let place = self.place()?;
        let after = last_event_id(headers)?.or(query.after).unwrap_or_else(|| fed.last_event());
        // Only a head can say that this is too old.
        if let Err(outdated) = fed.events(after, 1).await? {
            return Ok(outdated.answer());
        }
        let follower = fed.detached(self.settings.longest);
        let stream = Stream::new(follower, after, &self.settings, self.ending.subscribe(), place);
        let mut response = Response::new(stream.into_body());
        mark(&mut response, EVENT_STREAM);
        Ok(response)
    }

    fn place(&self) -> Result<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().map_err(|_full| {
            let most = self.settings.followers;
            Error::new(
                ErrorKind::Overloaded,
                Fault::Proxy,
                format!("{most} others follow the events already"),
            )
            .advise("ask without `wait`; an operator lets more in with extensions.events.followers")
            .retry_after(Duration::from_secs(10))
        })
    }
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = fields.flat_map(|field| field.split(',')).filter_map(|item| item.split(';').next());
    types.any(|name| name.trim().eq_ignore_ascii_case(EVENT_STREAM))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| {
        Error::bad_request("Last-Event-ID is no revision").advise("it is the id of the last event that came")
    })
}

fn json(page: &EventPage) -> Response<Body> {
    // Texts and numbers only, so writing them into memory cannot fail.
    let mut response = Response::new(Body::from(serde_json::to_string(page).unwrap_or_default()));
    mark(&mut response, "application/json");
    response
}

fn mark(response: &mut Response<Body>, content_type: &'static str) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
