//! A provider that does exactly what a script says, on each of its connections.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::wire::Wire;
use super::{PATIENCE, until};

pub struct Origin {
    pub address: SocketAddr,
    /// Connections so far.
    accepted: Arc<AtomicUsize>,
    said: Arc<Mutex<Vec<String>>>,
    told: Arc<AtomicBool>,
}

/// One connection as a script sees it.
pub struct Peer {
    pub wire: Wire,
    /// Counts from 0.
    pub number: usize,
    said: Arc<Mutex<Vec<String>>>,
    told: Arc<AtomicBool>,
}

impl Peer {
    /// Reads a request and remembers it for the test.
    pub fn request(&mut self) -> Option<String> {
        let request = self.wire.message()?;
        self.say(&request);
        Some(request)
    }

    /// Whether the test has told the script to go on.
    pub fn told(&self) -> bool {
        self.told.load(Ordering::SeqCst)
    }

    /// Tells the test something.
    pub fn say(&self, what: &str) {
        self.said.lock().unwrap().push(what.to_owned());
    }
}

impl Origin {
    pub fn new(script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start(None, script)
    }

    pub fn with_tls(config: ServerConfig, script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start(Some(Arc::new(config)), script)
    }

    /// Each request on any connection is answered with this.
    pub fn answering(answer: &'static str) -> Self {
        Self::new(move |mut peer| {
            while peer.request().is_some() {
                peer.wire.send(answer);
            }
        })
    }

    fn start(tls: Option<Arc<ServerConfig>>, script: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, said, told): (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) =
            Default::default();
        let origin = Self { address, accepted: accepted.clone(), said: said.clone(), told: told.clone() };
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let wire = match &tls {
                    None => Wire::new(stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).unwrap();
                        Wire::new(StreamOwned::new(connection, stream))
                    }
                };
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let (said, told) = (said.clone(), told.clone());
                let (peer, script) = (Peer { wire, number, said, told }, script.clone());
                thread::spawn(move || script(peer));
            }
        });
        origin
    }

    /// Tells the script to go on.
    pub fn tell(&self) {
        self.told.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// What the script has said so far, requests among it.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// The first request, as soon as it is here.
    pub fn first(&self) -> String {
        self.wait_for(1);
        self.said().swap_remove(0)
    }

    pub fn wait_for(&self, count: usize) {
        until("the provider has been asked", || self.said().len() >= count);
    }
}
