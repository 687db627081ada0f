//! Lists of pipes, written page by page: a resource can have more than fits in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::StreamBody;
use standpipe_api::{Body, BoxError, Error, Record, ResourceId, State};

use super::answer::Refusal;
use super::core::{Broker, PAGE, stored};
use super::pipe::{BlueprintName, PipeId, Side, pipe_key, pipe_prefix, slot_prefix};
use super::wire::Setup;

/// Which pipes of a resource.
pub(super) enum Listing {
    /// All, in the order of their keys.
    All,
    /// Those bound to a blueprint, in the order of its slots.
    Bound(Side, BlueprintName),
}

struct Pages {
    state: Arc<dyn State>,
    setup: Setup,
    resource: ResourceId,
    prefix: String,
    listing: Listing,
    after: Option<String>,
    read: VecDeque<Record>,
    opener: &'static str,
}

impl Broker {
    /// An array of pipes. The store is asked once before the answer begins, so that a failure is an answer of its
    /// own; a later one breaks the answer off.
    pub(super) async fn list(
        &self,
        setup: &Setup,
        resource: &ResourceId,
        listing: Listing,
    ) -> Result<Response<Body>, Refusal> {
        let prefix = match &listing {
            Listing::All => pipe_prefix(resource),
            Listing::Bound(side, name) => slot_prefix(resource, *side, name),
        };
        let mut pages = Pages {
            state: Arc::clone(self.state()?),
            setup: setup.clone(),
            resource: resource.clone(),
            prefix,
            listing,
            after: None,
            read: VecDeque::new(),
            opener: "[",
        };
        pages.turn().await?;
        let frames = futures_util::stream::unfold(Some(pages), |pages| async {
            let mut pages = pages?;
            match pages.next().await {
                Ok(Some(text)) => Some((Ok(Frame::data(Bytes::from(text))), Some(pages))),
                Ok(None) => {
                    let end = if pages.opener == "[" { "[]" } else { "]" };
                    Some((Ok(Frame::data(Bytes::from_static(end.as_bytes()))), None))
                }
                Err(error) => Some((Err(BoxError::from(error)), None)),
            }
        });
        let mut response = Response::new(Body::stream(StreamBody::new(frames)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

impl Pages {
    async fn turn(&mut self) -> Result<(), Error> {
        let page = self.state.list(&self.prefix, self.after.as_deref(), PAGE).await?;
        if let Some(last) = page.last() {
            self.after = Some(last.key.clone());
        }
        self.read = page.into();
        Ok(())
    }

    /// The next pipe as a piece of the array.
    async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            if self.read.is_empty() {
                self.turn().await?;
            }
            let Some(record) = self.read.pop_front() else { return Ok(None) };
            if let Some(record) = self.pipe_record(record).await? {
                let pipe = self.setup.pipe(&self.resource, &stored(&record)?.pipe);
                let piece = format!("{}{pipe}", self.opener);
                self.opener = ",";
                return Ok(Some(piece));
            }
        }
    }

    /// A slot names its pipe, which may just be gone.
    async fn pipe_record(&self, record: Record) -> Result<Option<Record>, Error> {
        match self.listing {
            Listing::All => Ok(Some(record)),
            Listing::Bound(..) => {
                let id = std::str::from_utf8(&record.value).ok().and_then(PipeId::read);
                match id {
                    Some(id) => self.state.get(&pipe_key(&self.resource, &id)).await,
                    None => Ok(None),
                }
            }
        }
    }
}
