//! Servers an operator configured: JSON in, an answer out.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use standpipe_api::{Answer, Error, ErrorKind, Fault, Outbound, Problem, Problems, Result, SecretRef};

use super::secret;

/// A server that is posted to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Server {
    url: String,
    token: Option<SecretRef>,
    limit: Duration,
}

impl Server {
    /// Takes its address, where its bearer token is, and how long it may take. The token is read to see that it is there, and
    /// again for each call.
    ///
    /// # Errors
    /// Every mistake, at `url` and `token`.
    pub(crate) fn read(url: Option<&str>, token: Option<&str>, limit: Duration) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let url = url.filter(|url| is_http(url));
        if url.is_none() {
            problems.push(Problem::at("url", "must be an http or https URL"));
        }
        let found = |token| SecretRef::parse(token).and_then(|found| secret::read(&found).map(|_| found));
        let token = token.map(found).transpose();
        match (url, token) {
            (Some(url), Ok(token)) => Ok(Self { url: url.to_owned(), token, limit }),
            (_, token) => {
                problems.extend(token.err().map(|text| Problem::at("token", text)));
                Err(problems)
            }
        }
    }

    /// Posts a JSON text.
    ///
    /// # Errors
    /// The token cannot be read; otherwise as [`Outbound::fetch`].
    pub(crate) async fn post(&self, outbound: &dyn Outbound, body: Bytes) -> Result<Answer> {
        let mut request = Request::post(&self.url).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            let token = secret::read(token).map_err(|error| failed("its token cannot be read", error))?;
            let mut field = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| failed("its token does not fit a header field", ""))?;
            field.set_sensitive(true);
            request = request.header(AUTHORIZATION, field);
        }
        let request = request.body(body).map_err(|error| failed("no request can be made", error))?;
        outbound.fetch(request, self.limit).await
    }
}

fn is_http(url: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|at| !at.as_str().contains('@'))
    })
}

fn failed(public: &'static str, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::CouldNotAsk, Fault::Proxy, public).because(cause.to_string())
}
