//! One side of an HTTP/1 connection, byte by byte, plain or over TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::{Answer, PATIENCE};

pub trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

pub struct Wire {
    stream: Box<dyn Duplex>,
    /// Bytes that were read and not yet asked for.
    read: Vec<u8>,
}

impl Wire {
    pub fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::new(tcp(address))
    }

    /// A connection over TLS, and the certificate that was shown.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> (Self, Vec<u8>) {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp(address));
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
        (Self::new(stream), shown)
    }

    /// Sends; the other side may have gone.
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        let _gone = self.stream.write_all(text.as_ref()).and_then(|()| self.stream.flush());
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                self.read.extend_from_slice(&buffer[..read]);
                read > 0
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came after {}", self.read.escape_ascii())
            }
            Err(_) => false,
        }
    }

    /// Everything up to and with this; `None` when the other side closes first.
    pub fn upto(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.read.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(found) = found {
                let rest = self.read.split_off(found + end.len());
                return Some(String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub fn exactly(&mut self, length: usize) -> Option<String> {
        while self.read.len() < length {
            if !self.more() {
                return None;
            }
        }
        let rest = self.read.split_off(length);
        Some(String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap())
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> String {
        while self.more() {}
        String::from_utf8(std::mem::take(&mut self.read)).unwrap()
    }

    /// A message with its body as it was sent, chunks and trailers included.
    pub fn message(&mut self) -> Option<String> {
        let head = self.upto("\r\n\r\n")?;
        let lower = head.to_lowercase();
        let body = if lower.contains("transfer-encoding: chunked") {
            let mut body = String::new();
            // A body here holds no line that is a zero, so that this is its last chunk; trailers follow.
            while !body.ends_with("0\r\n") {
                body += &self.upto("\r\n")?;
            }
            while !body.ends_with("\r\n\r\n") {
                body += &self.upto("\r\n")?;
            }
            body
        } else {
            let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            self.exactly(length.map_or(0, |length| length.parse().unwrap()))?
        };
        Some(head + &body)
    }

    /// Sends a request on this connection and reads the answer, which has a length.
    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        Answer::parse(self.message().expect("no answer").as_bytes()).unwrap()
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
