//! What a platform sends, and what it sees of the answer, byte by byte.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::cases::Verdict;
use crate::support::exchange;

/// Where a platform sends its requests, and how it logs in there.
#[derive(Clone)]
pub struct Platform {
    pub address: SocketAddr,
    /// What stands before `/v2`.
    pub face: &'static str,
    pub login: (&'static str, &'static str),
}

/// Who a request says it is from.
#[derive(Clone, Copy, Debug)]
pub enum Login {
    Right,
    Nobody,
    WrongUser,
    WrongPassword,
}

/// How it is said where a body ends.
#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

/// A request.
#[derive(Clone)]
pub struct Ask {
    method: &'static str,
    path: String,
    body: Option<String>,
    /// Of the body; empty: not said.
    content_type: &'static str,
    framing: Framing,
    version: Option<&'static str>,
    login: Login,
    fields: Vec<(&'static str, String)>,
}

impl Ask {
    /// With a path from `/v2` on, and a query.
    pub fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: None,
            content_type: "application/json",
            framing: Framing::Length,
            version: Some("2.17"),
            login: Login::Right,
            fields: Vec::new(),
        }
    }

    pub fn body(self, body: &Value) -> Self {
        self.text(&body.to_string())
    }

    /// A body as it is written here.
    pub fn text(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    pub fn content_type(mut self, content_type: &'static str) -> Self {
        self.content_type = content_type;
        self
    }

    /// Sends the body in chunks.
    pub fn chunked(mut self) -> Self {
        self.framing = Framing::Chunks;
        self
    }

    pub fn version(mut self, version: Option<&'static str>) -> Self {
        self.version = version;
        self
    }

    pub fn login(mut self, login: Login) -> Self {
        self.login = login;
        self
    }

    pub fn field(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// The request as it is sent there.
    pub fn bytes(&self, platform: &Platform) -> String {
        let Self { method, path, .. } = self;
        let mut text = format!(
            "{method} {}{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
            platform.face, platform.address
        );
        let (user, password) = platform.login;
        let basic = match self.login {
            Login::Right => Some(format!("{user}:{password}")),
            Login::Nobody => None,
            Login::WrongUser => Some(format!("wronguser:{password}")),
            Login::WrongPassword => Some(format!("{user}:wrongpassword")),
        };
        if let Some(basic) = basic {
            text += &format!("authorization: Basic {}\r\n", STANDARD.encode(basic));
        }
        if let Some(version) = self.version {
            text += &format!("x-broker-api-version: {version}\r\n");
        }
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        let Some(body) = &self.body else { return text + "\r\n" };
        if !self.content_type.is_empty() {
            text += &format!("content-type: {}\r\n", self.content_type);
        }
        match self.framing {
            Framing::Length => text + &format!("content-length: {}\r\n\r\n{body}", body.len()),
            Framing::Chunks => {
                let (one, other) = body.split_at(body.len() / 2);
                let [one, other] = [one, other].map(|part| format!("{:x}\r\n{part}\r\n", part.len()));
                text + &format!("transfer-encoding: chunked\r\n\r\n{one}{other}0\r\n\r\n")
            }
        }
    }
}

/// An answer; the body as it is when the framing is taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order of names; values of a name in their own.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Without what differs by where it is sent.
    pub request: String,
    pub reply: Reply,
}

impl Platform {
    pub fn send(&self, ask: &Ask) -> Exchange {
        let bytes = exchange(self.address, ask.bytes(self).as_bytes()).expect("an answer");
        let Ask { method, path, body, version, login, .. } = ask;
        let body = body.as_deref().unwrap_or_default();
        let request = format!("{method} {path} {body} (version {version:?}, login {login:?})");
        let reply = Reply::parse(method, &bytes);
        Exchange { reply: reply.unwrap_or_else(|| panic!("{request}: {}", bytes.escape_ascii())), request }
    }
}

impl Reply {
    fn parse(method: &str, bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut fields = Vec::new();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(':')?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        let mut reply = Self { status, fields, body: bytes[end + 4..].to_vec() };
        if method == "HEAD" {
            reply.body.is_empty().then_some(())?;
        } else if reply.field("transfer-encoding") == Some("chunked") {
            reply.body = unchunked(&reply.body)?;
        } else if let Some(length) = reply.field("content-length") {
            (length.parse() == Ok(reply.body.len())).then_some(())?;
        }
        Some(reply)
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| &*field.1)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A text of a JSON body; empty when there is none.
    pub fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// The status is one of these, and the body an object, as the API wants it of every answer.
    pub fn is(&self, wanted: &[u16]) -> Verdict {
        match wanted.contains(&self.status) {
            false => Err(format!("{} instead of {wanted:?}", self.status)),
            true if !self.json().is_object() => Err("the body is no object".to_owned()),
            true => Ok(()),
        }
    }

    /// Says this status, whatever the body; 401 and 412 come from before the API.
    pub fn says(&self, wanted: u16) -> Verdict {
        (self.status == wanted).then_some(()).ok_or_else(|| format!("{} instead of {wanted}", self.status))
    }

    /// 422 with this code.
    pub fn is_unprocessable(&self, code: &str) -> Verdict {
        self.is(&[422])?;
        let said = self.text("error");
        (said == code).then_some(()).ok_or_else(|| format!("error {said:?} instead of {code:?}"))
    }

    /// A client's error, of any kind.
    pub fn is_refused(&self) -> Verdict {
        (400..500)
            .contains(&self.status)
            .then_some(())
            .ok_or_else(|| format!("{} instead of 4xx", self.status))
    }
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        bytes = bytes.get(end + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}
