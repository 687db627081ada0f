//! What commands ask of the server that holds the file, through its admin listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream};
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use standpipe_api::{BoxError, Mapping, Resource};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::mappings::{Failure, MappingAccess};
use super::source::Chunks;
use crate::admin::{AuditPage, Filter, GuardError, ImportReport, Lines, MappingValue, read_token};
use crate::config::Admin;
use crate::store::{AuditFilter, AuditRow};

/// How long the server may take to accept.
const CONNECT: Duration = Duration::from_secs(5);

/// How long nothing at all may happen on a connection.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of an answer that is not streamed.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// RFC 3986's unreserved characters stay, but for the dot: a segment `..` must not be taken for a step up.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

type Outgoing = UnsyncBoxBody<Bytes, BoxError>;

/// A connection for one request.
pub(super) type Connection = http1::SendRequest<Outgoing>;

/// A client of one admin listener; every request has a connection of its own.
#[derive(Debug)]
pub struct AdminClient(At);

#[derive(Debug)]
enum At {
    Socket(PathBuf),
    Tcp { address: SocketAddr, token: SecretString },
}

impl AdminClient {
    /// A client of the configured listener.
    ///
    /// # Errors
    /// The token's file cannot be used.
    pub fn new(admin: &Admin) -> Result<Self, GuardError> {
        Ok(Self(match admin {
            Admin::Socket(path) => At::Socket(path.clone()),
            Admin::Tcp { address, token_file } => {
                At::Tcp { address: *address, token: read_token(token_file)? }
            }
        }))
    }

    fn name(&self) -> String {
        match &self.0 {
            At::Socket(path) => path.display().to_string(),
            At::Tcp { address, .. } => address.to_string(),
        }
    }

    fn unreachable(&self, why: impl Into<BoxError>) -> Failure {
        Failure::Unreachable { at: self.name(), why: why.into() }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let connecting = async {
            match &self.0 {
                At::Socket(path) => shake_hands(UnixStream::connect(path).await?).await,
                At::Tcp { address, .. } => shake_hands(TcpStream::connect(address).await?).await,
            }
        };
        let connected = timeout(CONNECT, connecting).await.map_err(|late| self.unreachable(late))?;
        connected.map_err(|error| self.unreachable(error))
    }

    /// Sends a request; `alive` says that its body is still on its way. Answers that are no success are failures.
    async fn send(
        &self,
        mut request: Request<Outgoing>,
        mut alive: watch::Receiver<()>,
    ) -> Result<Response<Incoming>, Failure> {
        let headers = request.headers_mut();
        let host = match &self.0 {
            At::Socket(_) => "localhost".to_owned(),
            At::Tcp { address, token } => {
                let bearer = format!("Bearer {}", token.expose_secret()).try_into();
                let mut bearer: http::HeaderValue = bearer.map_err(|error| self.unreachable(error))?;
                bearer.set_sensitive(true);
                headers.insert(AUTHORIZATION, bearer);
                address.to_string()
            }
        };
        headers.insert(HOST, host.try_into().map_err(|error| self.unreachable(error))?);
        let mut connection = self.connect().await?;
        let mut answer = Box::pin(connection.send_request(request));
        let mut sending = true;
        let response = loop {
            tokio::select! {
                response = &mut answer => break response.map_err(|error| self.unreachable(error))?,
                more = alive.changed(), if sending => sending = more.is_ok(),
                () = tokio::time::sleep(SILENCE) => return Err(self.unreachable(format!("no answer for {SILENCE:?}"))),
            }
        };
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// Posts nothing to a path, given by its segments.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn post(&self, segments: &[&str]) -> Result<(), Failure> {
        self.ask(request(Method::POST, &joined(segments), "")?).await.map(drop)
    }

    /// Deletes what a path names, given by its segments.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn delete(&self, segments: &[&str]) -> Result<(), Failure> {
        self.ask(request(Method::DELETE, &joined(segments), "")?).await.map(drop)
    }

    /// Reads the JSON at a path with one parameter, which may be absent.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or answers something else.
    pub async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        parameter: (&'static str, Option<&str>),
    ) -> Result<T, Failure> {
        self.ask_for(Method::GET, path, &[parameter], String::new()).await
    }

    /// Asks a path and reads the JSON of the answer.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or answers something else.
    pub(super) async fn ask_for<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &str,
        query: &[(&'static str, Option<&str>)],
        body: String,
    ) -> Result<T, Failure> {
        let mut target = path.to_owned();
        append_query(&mut target, query.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
        let response = self.ask(request(method, &target, body)?).await?;
        self.json(response).await
    }

    /// A page of the audit.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, Failure> {
        let mut target = "/audit".to_owned();
        let (after, limit) = (after.to_string(), limit.to_string());
        let filters = [
            ("caller", filter.caller.as_ref().map(|caller| caller.as_str())),
            ("provider", filter.provider.as_ref().map(|provider| provider.as_str())),
        ];
        let given = filters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        append_query(&mut target, [("after", &*after), ("limit", &*limit)].into_iter().chain(given));
        let response = self.ask(request(Method::GET, &target, "")?).await?;
        Ok(self.json::<AuditPage>(response).await?.events)
    }

    async fn ask(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, Failure> {
        let (done, alive) = watch::channel(());
        drop(done);
        self.send(request, alive).await
    }

    async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = timeout(SILENCE, Limited::new(response.into_body(), ANSWER_LIMIT).collect()).await;
        let body = body.map_err(|late| self.unreachable(late))?;
        Ok(body.map_err(|error| self.unreachable(error))?.to_bytes())
    }

    async fn json<T: for<'de> Deserialize<'de>>(&self, response: Response<Incoming>) -> Result<T, Failure> {
        let body = self.bytes(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.unreachable(error))
    }

    async fn refused(&self, response: Response<Incoming>) -> Failure {
        /// What is read of problem+json (RFC 9457).
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
            #[serde(default)]
            advice: String,
        }
        let status = response.status();
        match self.json::<Problem>(response).await {
            Ok(Problem { detail, advice }) => Failure::Refused { status, detail, advice },
            Err(_) => Failure::Refused {
                status,
                detail: format!("the server answered {status}"),
                advice: String::new(),
            },
        }
    }
}

pub(super) async fn shake_hands<S>(socket: S) -> Result<Connection, BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // How the connection ends is seen by the request on it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn path(resource: &Resource) -> String {
    let encode = |text| utf8_percent_encode(text, ENCODED);
    let mut path = format!("/mappings/{}/{}", encode(resource.kind.as_str()), encode(resource.id.as_str()));
    let parent = resource.parent.as_ref().map(|parent| ("parent", parent.as_str()));
    let scope = Some(("scope", resource.scope.as_str())).filter(|(_, scope)| !scope.is_empty());
    append_query(&mut path, parent.into_iter().chain(scope));
    path
}

pub(super) fn joined(segments: &[&str]) -> String {
    let encode = |segment| format!("/{}", utf8_percent_encode(segment, ENCODED));
    segments.iter().copied().map(encode).collect()
}

pub(super) fn append_query<'a>(path: &mut String, parameters: impl Iterator<Item = (&'static str, &'a str)>) {
    for (index, (name, value)) in parameters.enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, ENCODED));
    }
}

pub(super) fn request(
    method: Method,
    target: &str,
    body: impl Into<Bytes>,
) -> Result<Request<Outgoing>, Failure> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let request = Request::builder().method(method).uri(target).body(body);
    request.map_err(|error| Failure::Argument(format!("cannot be asked for: {error}")))
}

#[async_trait(?Send)]
impl MappingAccess for AdminClient {
    async fn rows(
        &self,
        filter: Filter,
    ) -> Result<LocalBoxStream<'static, Result<Mapping, Failure>>, Failure> {
        let mut target = "/mappings".to_owned();
        let parameters = [
            ("provider", filter.provider.as_ref().map(|provider| provider.as_str())),
            ("kind", filter.kind.as_ref().map(|kind| kind.as_str())),
            ("parent", filter.parent.as_ref().map(|parent| parent.as_str())),
            ("peer", filter.peer.as_ref().map(|peer| peer.as_str())),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        append_query(&mut target, given);
        let mut request = request(Method::GET, &target, "")?;
        request.headers_mut().insert(ACCEPT, http::HeaderValue::from_static("application/x-ndjson"));
        let body = self.ask(request).await?.into_body();
        let reader = Reader { at: self.name(), body: Some(body), lines: Lines::default() };
        Ok(stream::try_unfold(reader, Reader::next).boxed_local())
    }

    async fn get(&self, resource: &Resource) -> Result<Option<Mapping>, Failure> {
        let answer = self.ask(request(Method::GET, &path(resource), "")?).await;
        let Some(response) = found(answer)? else { return Ok(None) };
        self.json(response).await.map(Some)
    }

    async fn set(&self, resource: Resource, value: MappingValue) -> Result<(), Failure> {
        let body = serde_json::to_vec(&value).map_err(|error| Failure::Argument(error.to_string()))?;
        self.ask(request(Method::PUT, &path(&resource), body)?).await.map(drop)
    }

    async fn forget(&self, resource: &Resource) -> Result<bool, Failure> {
        Ok(found(self.ask(request(Method::DELETE, &path(resource), "")?).await)?.is_some())
    }

    async fn import(&self, chunks: Chunks) -> Result<ImportReport, Failure> {
        let (moved, alive) = watch::channel(());
        let frames = stream::unfold((chunks, moved), |(mut chunks, moved)| async move {
            let chunk = chunks.recv().await?;
            moved.send_replace(());
            Some((chunk.map(Frame::data).map_err(BoxError::from), (chunks, moved)))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        let mut request = request(Method::POST, "/mappings", "")?;
        *request.body_mut() = body;
        let response = self.send(request, alive).await?;
        self.json(response).await
    }
}

/// An answer, or `None` when the server said that there is no such mapping.
fn found(answer: Result<Response<Incoming>, Failure>) -> Result<Option<Response<Incoming>>, Failure> {
    match answer {
        Ok(response) => Ok(Some(response)),
        Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Rows out of a streamed answer.
struct Reader {
    at: String,
    body: Option<Incoming>,
    lines: Lines,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(Mapping, Self)>, Failure> {
        loop {
            if let Some((_, line)) = self.lines.next_line() {
                let row = line.and_then(|line| serde_json::from_slice(&line).ok());
                let row = row.ok_or_else(|| self.broken("a line is no mapping"))?;
                return Ok(Some((row, self)));
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            let frame = timeout(SILENCE, Pin::new(body).frame()).await;
            match frame.map_err(|late| self.broken(late))? {
                None => self.body = None,
                Some(frame) => {
                    let frame = frame.map_err(|error| self.broken(error))?;
                    frame.data_ref().into_iter().for_each(|data| self.lines.push(data));
                }
            }
        }
    }

    fn broken(&self, why: impl Into<BoxError>) -> Failure {
        Failure::Unreachable { at: self.at.clone(), why: why.into() }
    }
}
