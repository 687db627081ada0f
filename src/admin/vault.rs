//! `/tokens` and `/keys/rotate`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use standpipe_api::{Body, Error, Result, SecretRef};

use super::query::Parameters;
use super::{answer, body};
use crate::store::{Subject, TokenKey};
use crate::vault::{TokenView, Vault};

/// Rows of a page.
const PAGE: usize = 500;
/// Bytes of what is said with a rotation.
const MOST: usize = 4096;

/// `/tokens`: a page, or the removal of all that match.
pub(super) async fn tokens(vault: &Vault, request: &Request<Body>) -> Result<Response<Body>> {
    let parameters = Parameters::read(request.uri().query(), &["provider", "after"])?;
    let provider = parameters.get("provider").map(Into::into);
    if request.method() == Method::DELETE {
        let removed = vault.purge(provider).await?;
        return Ok(answer::json(StatusCode::OK, &json!({ "removed": removed })));
    }
    let after = parameters.get("after").map(read_cursor).transpose()?;
    let rows = vault.tokens(provider, after, PAGE).await?;
    let views: Vec<TokenView> = rows.iter().map(TokenView::from).collect();
    let mut body = json!({ "tokens": views });
    if let (Some(last), Some(members)) = (rows.get(PAGE - 1), body.as_object_mut()) {
        members.insert("next".into(), cursor(&last.key).into());
    }
    Ok(answer::json(StatusCode::OK, &body))
}

/// `/keys/rotate`.
pub(super) async fn rotate(vault: &Vault, mut request: Request<Body>) -> Result<Response<Body>> {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        to: Option<String>,
    }
    let body = body::whole(&mut request, MOST).await?;
    let asked: Asked = if body.is_empty() {
        Asked::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|_| Error::invalid("the body must be {\"to\": \"file:/path\"}"))?
    };
    let to = asked.to.as_deref().map(SecretRef::parse).transpose().map_err(Error::invalid)?;
    Ok(answer::json(StatusCode::OK, &vault.rotate(to.as_ref()).await?))
}

/// A key as the opaque text behind which the next page begins.
fn cursor(key: &TokenKey) -> String {
    let subject = BASE64_URL_SAFE_NO_PAD.encode(key.subject.as_bytes());
    let scope = key.remote_scope.as_ref().map(|scope| scope.as_str());
    let text = json!([subject, key.provider.as_str(), scope, key.credential.as_str()]).to_string();
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

fn read_cursor(text: &str) -> Result<TokenKey> {
    let read = || {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (subject, provider, scope, credential): (String, String, Option<String>, String) =
            serde_json::from_slice(&bytes).ok()?;
        let subject = Subject::hashed(&BASE64_URL_SAFE_NO_PAD.decode(subject).ok()?);
        let (provider, remote_scope) = (provider.into(), scope.map(Into::into));
        Some(TokenKey { subject, provider, remote_scope, credential: credential.into() })
    };
    read().ok_or_else(|| {
        Error::bad_request("the parameter after is no cursor").advise("take it from next of the page before")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_carries_any_key() {
        for scope in [None, Some("a/b")] {
            let key = TokenKey {
                subject: Subject::hashed(&[0, 255, 7]),
                provider: "alpha".into(),
                remote_scope: scope.map(Into::into),
                credential: "the 2nd \"key\"".into(),
            };
            assert_eq!(read_cursor(&cursor(&key)).unwrap(), key);
        }
        assert!(read_cursor("nonsense").is_err());
    }
}
