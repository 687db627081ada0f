//! Links in a broker's answer that lead into the broker are made to lead through standpipe.
//!
//! `GET /db/pipes/web` may answer `"_links":{"self":{"href":"http://broker:9001/db/pipes/web"}}`; the caller
//! gets `http://standpipe/db/pipes/web`. Only the bytes inside `href` strings of a `_links` object change, and
//! `Location`. `uri` and `issuer` stay the broker's own: brokers check each other's tokens against them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION,
};
use http::{Method, Request, Response, StatusCode};
use standpipe_api::{Body, Call, Extension, Federation, Result, Route, Target};

use super::bases::Bases;
use super::dialect::NAME;
use super::resources::Resources;
use crate::path;

/// Bodies over this are passed on as they are: 1 MiB, far above any pipe or blueprint.
const LONGEST: usize = 1 << 20;

/// The extension.
pub struct Rewrite {
    resources: Arc<Resources>,
}

/// The resource a request is about, as its path names it when it leaves.
#[derive(Clone)]
struct About(String);

impl Rewrite {
    /// Knows the own URLs of resources from these lists.
    pub fn new(resources: Arc<Resources>) -> Self {
        Self { resources }
    }
}

#[async_trait(?Send)]
impl Extension for Rewrite {
    fn name(&self) -> &'static str {
        "cloudpipe-rewrite"
    }

    fn routes(&self) -> Vec<Route> {
        let sides = ["pipes", "offers", "needs"];
        let patterns = sides.iter().flat_map(|side| {
            [
                format!("/{{resource}}/{side}"),
                format!("/{{resource}}/{side}/{{*rest}}"),
                format!("/{side}/{{*rest}}"),
            ]
        });
        patterns.chain(["/pipes".to_owned()]).map(|pattern| Route::any(&pattern)).collect()
    }

    async fn before_forward(
        &self,
        call: &mut Call,
        request: &mut Request<Body>,
        _to: &Target,
        _fed: &dyn Federation,
    ) -> Result<()> {
        // A compressed body cannot be searched for links.
        if call.method != Method::HEAD {
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let (resource, _) = path::split_first(request.uri().path());
        call.notes.insert(About(resource.to_owned()));
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let Some(provider) = fed.provider(&from.provider).filter(|one| one.dialect == NAME) else {
            return Ok(());
        };
        let resource = call.notes.get::<About>().map_or("", |About(resource)| resource.as_str());
        let own = self.resources.url(&provider, resource);
        let bases = Bases::new(&provider.url, fed.public_url())
            .with_endpoint(from.endpoint.as_deref())
            .with_resource(resource, own.as_deref());
        if let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok())
            && let Some(location) = bases.rewrite(location)
            && let Ok(location) = HeaderValue::try_from(location)
        {
            response.headers_mut().insert(LOCATION, location);
        }
        if call.method == Method::HEAD || !is_searchable(response) {
            return Ok(());
        }
        let Some(body) = response.body_mut().bytes_within(LONGEST).await? else { return Ok(()) };
        if let Some(rewritten) = rewrite_links(&body, &bases) {
            let headers = response.headers_mut();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
            // The broker's strong validator names other bytes.
            headers.remove(ETAG);
            *response.body_mut() = Body::from(Bytes::from(rewritten));
        }
        Ok(())
    }
}

/// Whether an answer's body is JSON that may be read.
fn is_searchable(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let is_json = |kind: &HeaderValue| {
        let kind = kind.as_bytes();
        let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/json") || essence.to_ascii_lowercase().ends_with(b"+json")
    };
    let json = headers.get(CONTENT_TYPE).is_none_or(is_json);
    let short = http_body::Body::size_hint(response.body()).lower() <= LONGEST as u64;
    let empty = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    json && short && !empty && !headers.contains_key(CONTENT_ENCODING)
}

/// Rewrites the `href` strings inside `_links` objects of a JSON text. `None` when nothing changes. All other
/// bytes stay as they are: numbers, order, white space, unknown members. A text that is no JSON stays whole.
pub fn rewrite_links(body: &Bytes, bases: &Bases) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.contains("_links"))?;
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut copied = 0;
    let mut scan = Scan { text: text.as_bytes(), at: 0, path: Vec::new(), key: None };
    while let Some((start, end)) = scan.next_href() {
        let raw = text.get(start..end)?;
        let link: String = serde_json::from_str(&format!("\"{raw}\"")).ok()?;
        if let Some(link) = bases.rewrite(&link) {
            let written = serde_json::to_string(&link).ok()?;
            out.extend_from_slice(body.get(copied..start)?);
            out.extend_from_slice(written.trim_matches('"').as_bytes());
            copied = end;
        }
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(body.get(copied..)?);
    Some(out)
}

/// Walks over JSON text without building it.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// For each open bracket: what it is inside of.
    path: Vec<Inside>,
    key: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// A `_links` member.
    Links,
    /// What callers put there, whatever it looks like.
    Data,
    Elsewhere,
}

impl Scan<'_> {
    /// The span of the next `href` string's content inside `_links`.
    fn next_href(&mut self) -> Option<(usize, usize)> {
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'{' | b'[' => self.open(),
                b'}' | b']' => {
                    self.path.pop();
                    self.key = None;
                    self.at += 1;
                }
                b',' => {
                    self.key = None;
                    self.at += 1;
                }
                b'"' => {
                    if let Some(span) = self.string()? {
                        return Some(span);
                    }
                }
                _ => self.at += 1,
            }
        }
        None
    }

    fn open(&mut self) {
        self.path.push(match self.path.last() {
            Some(inside @ (Inside::Links | Inside::Data)) => *inside,
            _ if self.key_is(b"_links") => Inside::Links,
            _ if self.key_is(b"data") || self.key_is(b"schema") => Inside::Data,
            _ => Inside::Elsewhere,
        });
        self.key = None;
        self.at += 1;
    }

    fn key_is(&self, word: &[u8]) -> bool {
        self.key.and_then(|(start, end)| self.text.get(start..end)) == Some(word)
    }

    /// Reads a string: a key, whose span is kept, or a value, whose span is given back if it is a link.
    fn string(&mut self) -> Option<Option<(usize, usize)>> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.text.get(end)? {
                b'\\' => end += 2,
                b'"' => break,
                _ => end += 1,
            }
        }
        self.at = end + 1;
        let mut after = self.at;
        while self.text.get(after).is_some_and(u8::is_ascii_whitespace) {
            after += 1;
        }
        if self.text.get(after) == Some(&b':') {
            self.key = Some((start, end));
            self.at = after + 1;
            return Some(None);
        }
        let link = self.key_is(b"href") && self.path.last() == Some(&Inside::Links);
        Some(link.then_some((start, end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> Option<String> {
        let bases = Bases::new("http://Broker:9001/apps", "http://standpipe");
        rewrite_links(&Bytes::from(text.to_owned()), &bases).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_hrefs_inside_links_change() {
        let text = r#"{"n":1.000000000000000000001, "href":"http://broker:9001/apps/db", "this":{"uri":"http://broker:9001/apps/db"},
  "_links" : {"self":{"href": "http://broker:9001/apps/db/pipes/a"},"adapters":[{"href":"http:\/\/broker:9001\/apps\/x"},{"href":"rel"}]}}"#;
        let expected = text
            .replace(r#""http://broker:9001/apps/db/pipes/a""#, r#""http://standpipe/db/pipes/a""#)
            .replace(r#""http:\/\/broker:9001\/apps\/x""#, r#""http://standpipe/x""#);
        assert_eq!(rewritten(text), Some(expected));
    }

    #[test]
    fn what_callers_put_into_a_pipe_stays() {
        let link = r#""_links":{"self":{"href":"http://broker:9001/apps/x"}}"#;
        assert_eq!(rewritten(&format!(r#"{{"this":{{"data":{{{link}}}}}}}"#)), None);
        assert!(rewritten(&format!(r#"[{{"this":{{"data":{{}}}},{link}}}]"#)).is_some());
    }

    #[test]
    fn what_leads_elsewhere_stays() {
        for href in [
            "http://other/apps/db",
            "http://broker:9001/appsx",
            "http://broker:90011/apps/x",
            "pipes/a",
            "../a",
            "",
        ] {
            assert_eq!(rewritten(&format!(r#"{{"_links":{{"self":{{"href":"{href}"}}}}}}"#)), None, "{href}");
        }
        assert_eq!(rewritten("not json _links \"href"), None);
        assert_eq!(rewritten(r#"{"_links":{"a\":{"href":"x"#), None);
    }
}
