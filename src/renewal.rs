//! A request whose credential its provider refused, made again with another one: once, and only where the whole of it
//! is still here.

use http::{HeaderMap, Request};
use standpipe_api::{Body, Challenged, Credential, CredentialRequest, Result};

use crate::providers::Provider;

/// Puts what the credential has become into a request that was refused, so that it can be sent once more; `Final`: the
/// 401 is the answer.
///
/// # Errors
/// The party that gives credentials does not give another one.
pub async fn renew(
    provider: &Provider,
    wanted: &CredentialRequest<'_>,
    credential: &mut Credential,
    refused: &mut Request<Body>,
    answer: &HeaderMap,
) -> Result<Challenged> {
    let challenged = provider.credentials.challenged(wanted, credential, answer);
    if challenged == Challenged::Final {
        return Ok(challenged);
    }
    let fresh = provider.credentials.obtain(wanted).await?;
    let (method, target) = (refused.method().clone(), refused.uri().clone());
    let headers = refused.headers_mut();
    credential.headers.iter().for_each(|(name, _)| drop(headers.remove(name)));
    *credential = fresh;
    for (name, value) in &credential.headers {
        headers.insert(name.clone(), value.clone());
    }
    credential.complete(&method, &target, headers);
    Ok(challenged)
}
