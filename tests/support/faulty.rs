//! A service broker that offers one service and for the rest does what a script says.

use std::sync::{Arc, Mutex};

use super::osb::message;
use super::{Origin, until};

/// What a script answers with; `None` hangs until the other side gives up.
type Script = Box<dyn Fn(&str) -> Option<Vec<u8>> + Send>;

pub struct FaultyBroker {
    pub origin: Origin,
    script: Arc<Mutex<Script>>,
}

impl FaultyBroker {
    /// With the service `s-{name}` and its plan `p-{name}`; until it is told otherwise it answers 200 `{}`.
    pub fn new(name: &str) -> Self {
        let catalog = format!(
            r#"{{"services":[{{"id":"s-{name}","name":"{name}","description":"d","bindable":true,"instances_retrievable":true,"bindings_retrievable":true,"plans":[{{"id":"p-{name}","name":"p","description":"d"}}]}}]}}"#
        );
        let catalog = message("200 OK", &catalog);
        let script: Arc<Mutex<Script>> =
            Arc::new(Mutex::new(Box::new(|_| Some(message("200 OK", "{}").into_bytes()))));
        let asked = script.clone();
        let origin = Origin::new(move |mut peer| {
            while let Some(request) = peer.wire.message() {
                if request.starts_with("GET /v2/catalog ") {
                    peer.wire.send(&catalog);
                    continue;
                }
                peer.say(&request);
                let answer = asked.lock().unwrap()(&request);
                match answer {
                    Some(answer) => peer.wire.send(answer),
                    None => drop(peer.wire.rest()),
                }
            }
        });
        Self { origin, script }
    }

    /// From now on it answers so.
    pub fn does(&self, script: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub fn answers(&self, status: &'static str, body: &'static str) {
        self.does(move |_| Some(message(status, body).into_bytes()));
    }

    /// Takes requests and answers none.
    pub fn hangs(&self) {
        self.does(|_| None);
    }

    /// What it was asked beside the catalog.
    pub fn asked(&self) -> Vec<String> {
        self.origin.said()
    }

    /// The last of that, as soon as there are so many.
    pub fn heard(&self, count: usize) -> String {
        until("the broker is asked", || self.asked().len() >= count);
        let asked = self.asked();
        assert_eq!(asked.len(), count, "{asked:#?}");
        asked[count - 1].clone()
    }
}

/// A whole answer with more fields.
pub fn whole(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
