//! Links in a broker's answer that lead into the broker are made to lead through standpipe.
//!
//! `GET /db/pipes/web` may answer `"_links":{"self":{"href":"http://broker:9001/db/pipes/web"}}`; the caller
//! gets `http://standpipe/db/pipes/web`. Only the bytes inside `href` strings of a `_links` object change, and
//! `Location`. `uri` and `issuer` stay the broker's own: brokers check each other's tokens against them.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, LOCATION,
};
use http::{Method, Request, Response, StatusCode};
use standpipe_api::{Body, Call, Extension, Federation, Result, Route, Target};

use super::dialect::NAME;

/// Bodies over this are passed on as they are: 1 MiB, far above any pipe or blueprint.
const LONGEST: usize = 1 << 20;

/// The extension.
pub struct Rewrite;

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
        Ok(())
    }

    async fn after_forward(
        &self,
        call: &mut Call,
        response: &mut Response<Body>,
        from: &Target,
        fed: &dyn Federation,
    ) -> Result<()> {
        let providers = fed.providers();
        let Some(provider) = providers.iter().find(|one| one.id == from.provider && one.dialect == NAME)
        else {
            return Ok(());
        };
        let bases = Bases::new(&provider.url, from.endpoint.as_deref(), fed.public_url());
        if let Some(location) = response.headers().get(LOCATION).and_then(|value| value.to_str().ok())
            && let Some(location) = bases.rewrite(location)
            && let Ok(location) = HeaderValue::try_from(location)
        {
            response.headers_mut().insert(LOCATION, location);
        }
        if call.method == Method::HEAD || !is_searchable(response) {
            return Ok(());
        }
        let body = response.body_mut().bytes(LONGEST).await?;
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

/// Whether an answer's body is JSON that is here whole or short enough to be read.
fn is_searchable(response: &Response<Body>) -> bool {
    let headers = response.headers();
    let json =
        headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().windows(4).any(|word| word == b"json"));
    let short =
        http_body::Body::size_hint(response.body()).exact().is_some_and(|length| length <= LONGEST as u64);
    let empty = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    json && short && !empty && !headers.contains_key(CONTENT_ENCODING)
}

/// What a provider's links begin with, and what they become.
#[derive(Clone, Debug)]
pub struct Bases {
    from: Vec<String>,
    prefix: String,
    to: String,
}

impl Bases {
    /// Links under `url`, or under the endpoint a mapping names, become links under `to`.
    pub fn new(url: &str, endpoint: Option<&str>, to: &str) -> Self {
        let fixed = url.split_once("/{resource}").map_or(url, |(fixed, _)| fixed);
        let from: Vec<String> = endpoint.into_iter().chain([fixed]).map(str::to_owned).collect();
        let prefix = fixed.splitn(4, '/').nth(3).map_or_else(String::new, |path| format!("/{path}"));
        Self { from, prefix, to: to.to_owned() }
    }

    /// The link as the caller should see it; `None` when it stays. Relative links stay relative.
    pub fn rewrite(&self, link: &str) -> Option<String> {
        for base in &self.from {
            let origin = base.get(..origin_length(base))?;
            let same = link.get(..origin.len()).is_some_and(|start| start.eq_ignore_ascii_case(origin));
            let behind = if same { link.get(origin.len()..) } else { None };
            let path =
                behind.and_then(|behind| behind.strip_prefix(base.get(origin.len()..).unwrap_or_default()));
            if let Some(path) = path.filter(|path| path.is_empty() || path.starts_with(['/', '?', '#'])) {
                return Some(format!("{}{path}", self.to));
            }
        }
        // An absolute path is the broker's own, prefix included; relative ones stand on it.
        let inside = link.strip_prefix(&self.prefix)?;
        (!self.prefix.is_empty() && inside.starts_with('/')).then(|| inside.to_owned())
    }
}

/// The length of scheme and authority.
fn origin_length(url: &str) -> usize {
    let start = url.find("://").map_or(0, |at| at + 3);
    url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |slash| start + slash)
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
    /// For each open bracket: whether it is inside a `_links` member.
    path: Vec<Inside>,
    key: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Links,
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
        let links = self.path.last() == Some(&Inside::Links) || self.key_is(b"_links");
        self.path.push(if links { Inside::Links } else { Inside::Elsewhere });
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
        let bases = Bases::new("http://Broker:9001/apps", None, "http://standpipe");
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

    #[test]
    fn an_absolute_path_loses_the_brokers_prefix() {
        let bases = Bases::new("http://broker/apps", None, "http://standpipe");
        assert_eq!(bases.rewrite("/apps/db/pipes/a").as_deref(), Some("/db/pipes/a"));
        assert_eq!(bases.rewrite("/db/pipes/a"), None);
        assert_eq!(Bases::new("http://broker", None, "x").rewrite("/db/pipes/a"), None);
    }
}
