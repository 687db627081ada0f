//! A token endpoint, written from RFC 6749, RFC 7523 and RFC 8693: it believes any subject and any client that says who
//! it is, checks what a form must hold, and fails as a test wants it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{Origin, until};

/// What the endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    /// Reads requests and never answers.
    Silent,
    /// Answers something that is no token.
    Garbage,
    /// Fails.
    Broken,
    /// Knows the subject no more; its description repeats what it was sent.
    Refusing,
    /// Answers when it is asked to.
    Waiting,
}

pub struct Sts {
    pub origin: Origin,
    pub mood: Arc<Mutex<Mood>>,
    /// Seconds its tokens live.
    pub lifetime: Arc<AtomicU64>,
    granted: Arc<AtomicUsize>,
}

/// The clients it knows.
pub const SECRET: &str = "st5-cl1ent s3cret/+";

impl Sts {
    pub fn new() -> Self {
        let mood = Arc::new(Mutex::new(Mood::Good));
        let (lifetime, granted) = (Arc::new(AtomicU64::new(600)), Arc::new(AtomicUsize::new(0)));
        let (moods, lives, count) = (mood.clone(), lifetime.clone(), granted.clone());
        let origin = Origin::new(move |mut peer| {
            let Some(request) = peer.request() else { return };
            let now = || *moods.lock().unwrap();
            match now() {
                Mood::Silent => drop(peer.wire.upto("never")),
                Mood::Garbage => peer.wire.send(answer("200 OK", "<html>hello</html>")),
                Mood::Broken => peer.wire.send(answer("500 Broken", "{}")),
                _ => {}
            }
            if now() == Mood::Waiting {
                until("the endpoint may answer", || now() != Mood::Waiting);
            }
            let outcome = grant(&request).and_then(|subject| match now() {
                Mood::Refusing => Err(json!({"error": "invalid_grant", "error_description": request})),
                _ => Ok(subject),
            });
            let text = match outcome {
                Ok(subject) => {
                    let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                    let lifetime = lives.load(Ordering::SeqCst);
                    let token = format!("pr0vider-{number}-{subject}");
                    let token = json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime,
                        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"});
                    answer("200 OK", &token.to_string())
                }
                Err(error) if error["error"] == "invalid_client" => answer("401 No", &error.to_string()),
                Err(error) => answer("400 No", &error.to_string()),
            };
            peer.wire.send(text);
        });
        Self { origin, mood, lifetime, granted }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.origin.address)
    }

    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Tokens given so far.
    pub fn granted(&self) -> usize {
        self.granted.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.origin.said().len()
    }

    /// The fields of the last request.
    pub fn last(&self) -> Vec<(String, String)> {
        form(self.origin.said().last().unwrap())
    }
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn form(request: &str) -> Vec<(String, String)> {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    let decoded =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8().unwrap().into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Whom a token is for, or the error.
fn grant(request: &str) -> Result<String, Value> {
    let fields = form(request);
    let get = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let wrong = |error: &str, why: &str| json!({"error": error, "error_description": why});
    let lower = request.to_lowercase();
    if !request.starts_with("POST ") || !lower.contains("content-type: application/x-www-form-urlencoded\r\n")
    {
        return Err(wrong("invalid_request", "not a form"));
    }
    let client = match lower.find("authorization: basic ") {
        Some(at) => {
            let encoded = request[at + 21..].lines().next().unwrap();
            let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            let (id, secret) = pair.split_once(':').unwrap();
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            Some((decoded(id), decoded(secret)))
        }
        None => get("client_id").zip(get("client_secret")).map(|(id, secret)| (id.into(), secret.into())),
    };
    if client != Some(("standpipe".to_owned(), SECRET.to_owned())) {
        return Err(wrong("invalid_client", "who?"));
    }
    match get("grant_type") {
        Some("client_credentials") => Ok("service".into()),
        Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
            let kind = get("subject_token_type").unwrap_or_default();
            if !kind.starts_with("urn:ietf:params:oauth:token-type:") {
                return Err(wrong("invalid_request", "no subject_token_type"));
            }
            get("subject_token").map(name).ok_or_else(|| wrong("invalid_request", "no subject_token"))
        }
        Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
            get("assertion").map(name).ok_or_else(|| wrong("invalid_request", "no assertion"))
        }
        _ => Err(wrong("unsupported_grant_type", "unknown")),
    }
}

/// Tells subjects apart without repeating them.
fn name(token: &str) -> String {
    token.bytes().map(|byte| format!("{:x}", byte ^ 0x15)).collect()
}

/// A provider that knows bearer tokens, and forgets some.
pub struct Keeper {
    pub origin: Origin,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Keeper {
    pub fn new() -> Self {
        let refused: Arc<Mutex<Vec<String>>> = Arc::default();
        let no = refused.clone();
        let origin = Origin::new(move |mut peer| {
            while let Some(request) = peer.request() {
                let good = bearer(&request).is_some_and(|token| {
                    !no.lock().unwrap().iter().any(|refused| refused == "*" || *refused == token)
                });
                peer.wire.send(match good {
                    true => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                    false => "HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\ncontent-length: 2\r\n\r\nno",
                });
            }
        });
        Self { origin, refused }
    }

    /// Refuses a token from now on; `*` all.
    pub fn refuse(&self, token: &str) {
        self.refused.lock().unwrap().push(token.to_owned());
    }

    /// The tokens it was shown, in order.
    pub fn shown(&self) -> Vec<String> {
        self.origin.said().iter().map(|request| bearer(request).unwrap_or_default()).collect()
    }
}

/// The bearer token of a request.
pub fn bearer(request: &str) -> Option<String> {
    let at = request.to_lowercase().find("authorization: bearer ")? + 22;
    Some(request[at..].lines().next()?.to_owned())
}
