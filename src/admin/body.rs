//! Small bodies of requests, whole.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use standpipe_api::{Body, Error, Result};
use tokio::time::timeout;

/// How long a sender may take over a body.
const SILENCE: Duration = Duration::from_secs(30);

/// A body of at most `most` bytes.
pub(super) async fn whole(request: &mut Request<Body>, most: usize) -> Result<Bytes> {
    let body = timeout(SILENCE, request.body_mut().bytes(most)).await;
    body.map_err(|_| Error::body_broken(format!("it did not end within {SILENCE:?}")))?
}
