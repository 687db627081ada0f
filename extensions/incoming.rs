//! What an extension reads of a request that it answers itself.

use bytes::Bytes;
use http::Request;
use standpipe_api::{Body, Call, Error, Result};

/// The whole body, which can still be sent on.
///
/// # Errors
/// It has more than `limit` bytes, breaks off, or does not end before the call does.
pub(crate) async fn body(call: &Call, request: &mut Request<Body>, limit: usize) -> Result<Bytes> {
    let read = tokio::time::timeout_at(call.deadline.into(), request.body_mut().bytes(limit)).await;
    read.map_err(|_| Error::bad_request("the body did not arrive in time"))?
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http_body_util::StreamBody;
    use standpipe_api::BoxError;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_ends_with_the_call() {
        let mut call = standpipe_api::testing::call(http::Method::POST, "/", &[]);
        call.deadline = Instant::now() + Duration::from_secs(1);
        let stream = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        let mut request = Request::new(Body::stream(StreamBody::new(stream)));
        let error = body(&call, &mut request, 10).await.unwrap_err();
        assert_eq!(error.public(), "the body did not arrive in time");
    }
}
