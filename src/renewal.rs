//! A request whose credential its provider refused, made again with another one: once, and only where the whole of it
//! is still here.

use http::{HeaderMap, Request};
use standpipe_api::{Body, Challenged, Credential, CredentialRequest, Result};

use crate::forward::Replay;
use crate::providers::Provider;

/// The request to send once more, under what the credential has become; `None` when the 401 is the answer.
///
/// # Errors
/// The party that gives credentials does not give another one.
pub async fn renewed(
    provider: &Provider,
    wanted: &CredentialRequest<'_>,
    credential: &mut Credential,
    sent: &Replay,
    answer: &HeaderMap,
) -> Result<Option<Request<Body>>> {
    if provider.credentials.challenged(wanted, credential, answer) == Challenged::Final {
        return Ok(None);
    }
    let fresh = provider.credentials.obtain(wanted).await?;
    let mut again = sent.request();
    let (method, target) = (again.method().clone(), again.uri().clone());
    let headers = again.headers_mut();
    credential.headers.iter().for_each(|(name, _)| drop(headers.remove(name)));
    *credential = fresh;
    for (name, value) in &credential.headers {
        headers.insert(name.clone(), value.clone());
    }
    credential.complete(&method, &target, headers);
    Ok(Some(again))
}
