//! A broker that behaves as the reference broker does in the field: no `kid`, keys anew at each start, `uri` and `issuer` of a
//! PATCH ignored, news pushed before the answer to a creation, `GET pipes` as an object, errors as text.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use super::login::{claims, now};
use super::{Origin, PATIENCE};

pub struct ReferenceBroker {
    pub origin: Origin,
    inner: Arc<Inner>,
}

struct Inner {
    key: RsaKeyPair,
    root: Mutex<String>,
    data: Value,
    pipes: Mutex<BTreeMap<String, Value>>,
    refused: Mutex<Option<String>>,
    /// Statuses of pushes, in order.
    pushes: Mutex<Vec<u16>>,
}

impl ReferenceBroker {
    /// A broker whose pipes have this data.
    pub fn new(data: Value) -> Self {
        let inner = Arc::new(Inner {
            key: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            root: Mutex::default(),
            data,
            pipes: Mutex::default(),
            refused: Mutex::default(),
            pushes: Mutex::default(),
        });
        let served = inner.clone();
        let origin = Origin::new(move |mut peer| {
            while let Some(request) = peer.request() {
                let (status, body) = served.answer(&request);
                peer.wire.send(format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n{body}",
                    if body.starts_with('{') { "application/json" } else { "text/plain" },
                    body.len()
                ));
            }
        });
        *inner.root.lock().unwrap() = format!("http://{}", origin.address);
        Self { origin, inner }
    }

    pub fn pipe(&self, path: &str) -> Value {
        self.inner.pipes.lock().unwrap().get(path).cloned().unwrap_or(Value::Null)
    }

    /// From now on 400 to whoever brings this key.
    pub fn refuses(&self, key: &str) {
        *self.inner.refused.lock().unwrap() = Some(key.to_owned());
    }

    /// From now on its pipes have uris and an issuer of this origin.
    pub fn claims_to_be(&self, root: &str) {
        *self.inner.root.lock().unwrap() = root.to_owned();
    }

    /// Replaces the data of a pipe and pushes it.
    pub fn replace(&self, path: &str, data: Value) {
        self.inner.pipes.lock().unwrap().get_mut(path).unwrap()["this"]["data"] = data;
        self.inner.push(path);
    }

    pub fn pushes(&self) -> Vec<u16> {
        self.inner.pushes.lock().unwrap().clone()
    }

    /// Changes the data of a pipe, as its provider would, and pushes it.
    pub fn change(&self, path: &str, data: Value) {
        merge(self.inner.pipes.lock().unwrap().get_mut(path).unwrap(), "this", &data);
        self.inner.push(path);
    }
}

fn merge(pipe: &mut Value, end: &str, data: &Value) {
    for (key, value) in data.as_object().unwrap() {
        pipe[end]["data"][key] = value.clone();
    }
}

impl Inner {
    fn answer(&self, request: &str) -> (u16, String) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
        let root = self.root.lock().unwrap().clone();
        if path == "/.well-known/jwks.json" {
            let public = self.key.public_key();
            let (n, e) = (
                public.modulus().big_endian_without_leading_zero(),
                public.exponent().big_endian_without_leading_zero(),
            );
            let key = json!({"kty": "RSA", "kid": "example-key-id", "alg": "RS256", "use": "sig",
                "n": BASE64URL.encode(n), "e": BASE64URL.encode(e)});
            return (200, json!({"keys": [key]}).to_string());
        }
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        match (method, segments.as_slice()) {
            ("POST", [resource, "pipes"]) => {
                let path = format!("/{resource}/pipes/{}", body["id"].as_str().unwrap());
                if self.pipes.lock().unwrap().contains_key(&path) {
                    return (409, "pipe exists\n".into());
                }
                let mut pipe = json!({"id": body["id"], "this": {"uri": format!("{root}{path}"), "issuer": root, "data": {}}, "other": {"data": {}}});
                merge(&mut pipe, "this", &self.data);
                for (key, value) in body["other"].as_object().into_iter().flatten() {
                    pipe["other"][key.to_lowercase()] = value.clone();
                }
                self.pipes.lock().unwrap().insert(path.clone(), pipe.clone());
                self.push(&path);
                (201, pipe.to_string())
            }
            ("GET", [_, "pipes"]) => (200, json!(*self.pipes.lock().unwrap()).to_string()),
            ("GET", [_, "pipes", _]) => match self.pipes.lock().unwrap().get(&path) {
                Some(pipe) => (200, pipe.to_string()),
                None => (404, "no pipe\n".into()),
            },
            ("PATCH", [_, "pipes", _]) => self.patch(head, &path, &body),
            _ => (404, "not found\n".into()),
        }
    }

    /// A peer's token is compared with the pipe; its signature is standpipe's business, which the other tests verify.
    fn patch(&self, head: &str, path: &str, body: &Value) -> (u16, String) {
        let mut pipes = self.pipes.lock().unwrap();
        let Some(pipe) = pipes.get_mut(path) else { return (401, "unauthorized\n".into()) };
        let bearer = head
            .lines()
            .find_map(|line| line.to_lowercase().starts_with("authorization: bearer ").then(|| &line[22..]));
        if let Some(token) = bearer {
            let said = claims(token);
            let fits = said["iss"] == pipe["other"]["issuer"]
                && said["sub"] == pipe["other"]["uri"]
                && said["aud"] == pipe["this"]["uri"];
            if !fits {
                return (401, "unauthorized\n".into());
            }
        }
        let refused = self.refused.lock().unwrap().clone();
        if refused.is_some_and(|key| body["other"]["data"].get(&key).is_some()) {
            return (400, "schema\n".into());
        }
        for end in ["this", "other"] {
            if body[end]["data"].is_object() {
                merge(pipe, end, &body[end]["data"].clone());
            }
        }
        (202, String::new())
    }

    /// Tells the other end, up to five times.
    fn push(&self, path: &str) {
        let pipe = self.pipes.lock().unwrap()[path].clone();
        let Some(uri) = pipe["other"]["uri"].as_str() else { return };
        let claims = json!({"iss": pipe["this"]["issuer"], "sub": pipe["this"]["uri"], "aud": uri, "exp": now() + 3600, "iat": now()});
        let text = format!(
            "{}.{}",
            BASE64URL.encode(r#"{"alg":"RS256","typ":"JWT"}"#),
            BASE64URL.encode(claims.to_string())
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        let token = format!("{text}.{}", BASE64URL.encode(signature));
        let body = json!({"other": {"data": pipe["this"]["data"]}}).to_string();
        let (address, target) = uri.strip_prefix("http://").unwrap().split_once('/').unwrap();
        for _ in 0..5 {
            let request = format!(
                "PATCH /{target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let status = send(address.parse().unwrap(), &request);
            self.pushes.lock().unwrap().push(status);
            if status == 202 {
                return;
            }
        }
    }
}

fn send(address: SocketAddr, request: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).unwrap_or(0);
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}
