//! `/events`: the whole feed, whoever's the events are.

use http::{Request, Response, StatusCode};
use standpipe_api::{Body, EventQuery, Result};
use tokio::time::timeout;

use super::Engine;
use super::answer;

/// `/events?after=&limit=&wait=`. A wait ends with the process at the latest.
pub(super) async fn list(engine: &dyn Engine, request: &Request<Body>) -> Result<Response<Body>> {
    let query = EventQuery::read(request.uri().query())?;
    let mut last = engine.last_event();
    let after = query.after.unwrap_or(*last.borrow());
    // Late is no error: the page is empty then.
    let _late = timeout(query.wait, last.wait_for(|last| *last > after)).await;
    Ok(match engine.events(after, query.limit).await? {
        Ok(page) => answer::json(StatusCode::OK, &page),
        Err(outdated) => outdated.answer(),
    })
}
