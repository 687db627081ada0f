//! The feed as server-sent events (HTML, section 9.2).
//!
//! A part is made only when the connection takes it, so that nothing is kept for a slow reader; one that stops reading is
//! cut off by its listener (`limits.idle`). The stream ends when it has lasted long enough, when standpipe drains, and when
//! the feed cannot be read on; its client comes back with `Last-Event-ID` and is told what it missed, or that it is gone.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use standpipe_api::{Body, BoxError, Event, Federation};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::settings::Settings;

/// Events of one part: with payloads of 16 KiB, 512 KiB at most.
const PART: usize = 32;
/// How long a client that lost its connection waits before it comes back, in milliseconds.
const RETRY: u32 = 1000;

/// A feed on its way to one client.
pub(super) struct Stream {
    fed: Rc<dyn Federation>,
    after: u64,
    begun: bool,
    heartbeat: Duration,
    end: Instant,
    ending: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

/// Why a stream ends.
struct Ended;

impl Stream {
    /// Follows behind a revision.
    pub(super) fn new(
        fed: Rc<dyn Federation>,
        after: u64,
        settings: &Settings,
        ending: watch::Receiver<bool>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (heartbeat, end) = (settings.heartbeat, Instant::now() + settings.longest);
        Self { fed, after, begun: false, heartbeat, end, ending, _place: place }
    }

    pub(super) fn into_body(self) -> Body {
        let frames = futures_util::stream::unfold(self, |mut stream| async {
            let part = stream.part().await.ok()?;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from(part))), stream))
        });
        Body::stream(StreamBody::new(frames))
    }

    /// What comes next: events, or a sign of life. Either tells where to go on.
    async fn part(&mut self) -> Result<String, Ended> {
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(format!("retry: {RETRY}\n{}", self.sign_of_life()));
        }
        let silent_until = (Instant::now() + self.heartbeat).min(self.end);
        loop {
            if *self.ending.borrow() || Instant::now() >= self.end {
                return Err(Ended);
            }
            let page = match self.fed.events(self.after, PART).await {
                Ok(Ok(page)) => page,
                // Its client hears the reason when it comes back.
                Ok(Err(_outdated)) => return Err(Ended),
                Err(error) => {
                    tracing::warn!(
                        error = error.log_text(),
                        "a stream of events ends: the feed cannot be read"
                    );
                    return Err(Ended);
                }
            };
            self.after = page.next;
            if !page.events.is_empty() {
                let mut text = String::new();
                page.events.iter().for_each(|event| write(&mut text, event));
                return Ok(text);
            }
            tokio::select! {
                () = self.fed.event_behind(self.after) => {}
                () = tokio::time::sleep_until(silent_until) => return Ok(self.sign_of_life()),
                // The sender is the extension, which lives longer.
                _ending = self.ending.changed() => {}
            }
        }
    }

    /// A comment; the id moves on past what the caller does not see, so that a quiet feed does not become too old.
    fn sign_of_life(&self) -> String {
        format!(": standpipe\nid: {}\n\n", self.after)
    }
}

/// JSON has no line ends, and kinds are words of ours.
fn write(text: &mut String, event: &Event) {
    let data = serde_json::to_string(event).unwrap_or_default();
    let _infallible: Result<(), std::fmt::Error> =
        write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.revision, event.kind);
}
