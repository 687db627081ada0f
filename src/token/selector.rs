//! The part of a request by which its caller chooses a credential: read, and removed unless it is the provider's own.
//! Removing touches nothing else: of a query the pair goes, of a JSON body the member of one object.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Request};
use percent_encoding::percent_decode_str;
use standpipe_api::{Body, Error, Members, Result};

use crate::config::CredentialBy;

/// Names the credential that a request asks for, if it does. A body is read whole, up to `limit` bytes, only where
/// one may choose.
///
/// # Errors
/// The selector is no text, or the body cannot be read.
pub async fn select(by: &CredentialBy, request: &mut Request<Body>, limit: usize) -> Result<Option<String>> {
    let mut asked = None;
    if let Some(name) = &by.header {
        asked = in_header(name, request.headers_mut(), by)?;
    }
    if let Some(name) = &by.query {
        let found = in_query(name, request.uri_mut(), by)?;
        asked = asked.or(found);
    }
    if let Some(path) = &by.body
        && is_json(request.headers())
    {
        let body = request.body_mut().bytes(limit).await?;
        if let Some((found, rest)) = in_body(path, &body)? {
            if !by.forwarded {
                put_body(request, rest);
            }
            asked = asked.or(Some(found));
        }
    }
    Ok(asked)
}

fn wrong() -> Error {
    Error::bad_request("what chooses the provider's credential must be text, once")
}

fn in_header(name: &str, headers: &mut HeaderMap, by: &CredentialBy) -> Result<Option<String>> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    let asked = first.to_str().map_err(|_| wrong())?.trim().to_owned();
    if values.next().is_some() {
        return Err(wrong());
    }
    if !by.forwarded {
        headers.remove(name);
    }
    Ok(Some(asked))
}

fn in_query(name: &str, uri: &mut Uri, by: &CredentialBy) -> Result<Option<String>> {
    let Some(query) = uri.query() else { return Ok(None) };
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let is_it = |pair: &&str| decoded(pair.split_once('=').map_or(*pair, |(name, _)| name)) == name;
    let mut found = query.split('&').filter(is_it);
    let Some(pair) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(wrong());
    }
    let asked = decoded(pair.split_once('=').map_or("", |(_, value)| value));
    if !by.forwarded {
        let rest: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
        let path = if rest.is_empty() {
            uri.path().to_owned()
        } else {
            format!("{}?{}", uri.path(), rest.join("&"))
        };
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(path).map_err(|_| wrong())?);
        *uri = Uri::from_parts(parts).map_err(|_| wrong())?;
    }
    Ok(Some(asked))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

fn put_body(request: &mut Request<Body>, body: Bytes) {
    if request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    *request.body_mut() = Body::from(body);
}

/// The text at a path of members, and the body without that member; everything around its object stays byte for byte.
/// What is no JSON is the provider's to judge.
fn in_body(path: &[String], body: &Bytes) -> Result<Option<(String, Bytes)>> {
    let Ok(text) = std::str::from_utf8(body) else { return Ok(None) };
    let Some((last, parents)) = path.split_last() else { return Ok(None) };
    let mut inner = text;
    for parent in parents {
        let Ok(Members(members)) = serde_json::from_str(inner) else { return Ok(None) };
        let mut found = members.into_iter().filter(|(name, _)| name == parent);
        let Some((_, value)) = found.next() else { return Ok(None) };
        // Readers differ in which of two counts.
        if found.next().is_some() {
            return Err(wrong());
        }
        inner = value.get();
    }
    let Ok(Members(members)) = serde_json::from_str(inner) else { return Ok(None) };
    let mut found = members.iter().filter(|(name, _)| name == last);
    let Some((_, value)) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(wrong());
    }
    let asked: String = serde_json::from_str(value.get()).map_err(|_| wrong())?;
    let kept = members.iter().filter(|(name, _)| name != last);
    let kept: Vec<String> = kept
        .map(|(name, value)| format!("{}:{}", serde_json::Value::from(name.as_str()), value.get()))
        .collect();
    let object = format!("{{{}}}", kept.join(","));
    // `inner` lies within `text`: it was borrowed from there.
    let start = inner.as_ptr() as usize - text.as_ptr() as usize;
    let (before, after) = (text.get(..start), text.get(start + inner.len()..));
    Ok(Some((asked, Bytes::from([before.unwrap_or_default(), &object, after.unwrap_or_default()].concat()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(header: Option<&str>, query: Option<&str>, body: &[&str], forwarded: bool) -> CredentialBy {
        let body = (!body.is_empty()).then(|| body.iter().map(|name| (*name).to_owned()).collect());
        CredentialBy { header: header.map(str::to_owned), query: query.map(str::to_owned), body, forwarded }
    }

    async fn selected(by: &CredentialBy, request: &mut Request<Body>) -> Option<String> {
        select(by, request, 1000).await.unwrap()
    }

    #[tokio::test]
    async fn a_header_chooses_and_goes() {
        let mut request = Request::get("/x").header("x-key", "blue").body(Body::empty()).unwrap();
        let mut kept = Request::get("/x").header("x-key", "blue").body(Body::empty()).unwrap();
        let chosen = selected(&by(Some("x-key"), None, &[], false), &mut request).await;
        assert_eq!((chosen.as_deref(), request.headers().len()), (Some("blue"), 0));
        assert_eq!(selected(&by(Some("x-key"), None, &[], true), &mut kept).await.as_deref(), Some("blue"));
        assert_eq!(kept.headers().len(), 1, "it belongs to the provider's own API");
        kept.headers_mut().append("x-key", HeaderValue::from_static("red"));
        assert!(select(&by(Some("x-key"), None, &[], false), &mut kept, 9).await.is_err());
    }

    #[tokio::test]
    async fn a_parameter_chooses_and_the_rest_of_the_query_stays_as_it_is() {
        for (before, after, chosen) in [
            ("/x?a=%2f&apikey=the+2nd%20key&b", "/x?a=%2f&b", Some("the 2nd key")),
            ("/x?apikey=one", "/x", Some("one")),
            ("/x?api%6Bey=one&&", "/x?&", Some("one")),
            ("/x?apikeys=one", "/x?apikeys=one", None),
            ("/x", "/x", None),
        ] {
            let mut request = Request::get(before).body(Body::empty()).unwrap();
            let found = selected(&by(None, Some("apikey"), &[], false), &mut request).await;
            assert_eq!((request.uri().to_string().as_str(), found.as_deref()), (after, chosen), "{before}");
        }
    }

    #[tokio::test]
    async fn a_body_chooses_and_keeps_every_other_byte_outside_its_object() {
        for (before, after, chosen) in [
            (
                r#"{ "n": 1.0e400, "parameters" : {"apikey": "blue", "a":"\u00e9" , "a":2}, "z" : [ ] }"#,
                r#"{ "n": 1.0e400, "parameters" : {"a":"\u00e9","a":2}, "z" : [ ] }"#,
                Some("blue"),
            ),
            (r#"{"parameters":{"apikey":"blue"}}"#, r#"{"parameters":{}}"#, Some("blue")),
            (r#"{"parameters":{"other":1}}"#, r#"{"parameters":{"other":1}}"#, None),
            (r#"{"parameters":[]}"#, r#"{"parameters":[]}"#, None),
            ("{broken", "{broken", None),
            ("", "", None),
        ] {
            let request = Request::post("/").header("content-type", "application/json; charset=utf-8");
            let request = request.header("content-length", before.len());
            let mut request = request.body(Body::from(before)).unwrap();
            let found = selected(&by(None, None, &["parameters", "apikey"], false), &mut request).await;
            assert_eq!((request.body().as_bytes().unwrap(), found.as_deref()), (&Bytes::from(after), chosen));
            assert_eq!(request.headers()["content-length"], after.len().to_string());
        }
        let mut twice = Request::post("/").header("content-type", "application/json");
        let mut request = twice.body(Body::from(r#"{"k":"a","k":"b"}"#)).unwrap();
        assert!(select(&by(None, None, &["k"], false), &mut request, 99).await.is_err());
        twice = Request::post("/").header("content-type", "text/plain");
        let mut request = twice.body(Body::from(r#"{"k":"a"}"#)).unwrap();
        assert_eq!(selected(&by(None, None, &["k"], false), &mut request).await, None);
    }
}
