//! Real processes, real sockets: a standpipe, brokers, and a client that sees every byte.

mod authority;
mod canaries;
mod faulty;
mod login;
mod openid;
mod origin;
pub mod osb;
mod reference;
mod sts;
mod third_party;
mod wire;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use self::authority::Authority;
pub use self::canaries::{Canaries, MARK, secret};
pub use self::faulty::{FaultyBroker, whole};
pub use self::login::{Login, claims, now};
pub use self::openid::OpenId;
pub use self::origin::{Origin, Peer};
pub use self::reference::ReferenceBroker;
pub use self::sts::{Keeper, Mood, SECRET, Sts, bearer};
pub use self::third_party::{LOGIN, Library, ServiceBroker};
pub use self::wire::Wire;

/// Nothing here takes longer, except when it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A standpipe process; killed when dropped.
pub struct Standpipe {
    child: Child,
    pub address: SocketAddr,
    pub log: Arc<Mutex<String>>,
    house: Option<House>,
}

/// A folder with a configuration for a standpipe.
pub struct House {
    pub folder: tempfile::TempDir,
    pub config: PathBuf,
}

impl House {
    /// Writes a configuration into a folder of its own.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("standpipe.toml");
        std::fs::write(&path, config).unwrap();
        Self { folder, config: path }
    }

    /// A standpipe in front of cloudpipe providers, with the resources each is configured with.
    pub fn in_front_of(providers: &[(&str, SocketAddr, &str)]) -> Self {
        let mut config = "threads = 2\n[[listener]]\naddress = \"127.0.0.1:0\"\n".to_owned();
        for (name, address, resources) in providers {
            config += &format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{address}\"\nresources = [{resources}]\n"
            );
        }
        Self::new(&config)
    }

    /// A standpipe in front of one provider `alpha`, with more settings of the provider and at the top.
    pub fn before(provider: SocketAddr, settings: &str, top: &str) -> Self {
        Self::new(&alpha("http", provider, settings, top))
    }

    /// Changes the configuration to what [`Self::before`] writes.
    pub fn write_before(&self, provider: SocketAddr, settings: &str, top: &str) {
        std::fs::write(&self.config, alpha("http", provider, settings, top)).unwrap();
    }

    /// The same over TLS to the provider, with a copy of the authority's files beside the configuration.
    pub fn beside(authority: &Authority, provider: SocketAddr, settings: &str) -> Self {
        let house = Self::new(&alpha("https", provider, settings, ""));
        for file in std::fs::read_dir(authority.folder.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), house.folder.path().join(file.file_name())).unwrap();
        }
        house
    }

    /// The same over TLS from callers, with the authority's `front.pem` and `front.key`.
    pub fn with_tls(provider: SocketAddr, authority: &Authority) -> Self {
        let (certificate, key) = (authority.path("front.pem"), authority.path("front.key"));
        let tls = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}\n");
        let config = alpha("http", provider, "", "").replace("[[provider]]", &format!("{tls}[[provider]]"));
        Self::new(&config)
    }

    /// A broker with resources that have one offer `o` each.
    pub fn broker(name: &str, port: u16, resources: &[&str]) -> Self {
        let mut config = format!(
            "threads = 1\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\n"
        );
        for resource in resources {
            config += &format!(
                "[provider.broker.resource.\"{resource}\"]\ndata = {{ URI = \"https://{resource}.example\" }}\n[[provider.broker.resource.\"{resource}\".offers]]\nname = \"o\"\nprotos = [\"https\"]\n"
            );
        }
        Self::new(&config)
    }

    /// Serves and keeps the folder as long as the process.
    pub fn run(self) -> Standpipe {
        let mut standpipe = self.serve();
        standpipe.house = Some(self);
        standpipe
    }

    /// The same as a broker.
    pub fn run_broker(self) -> Standpipe {
        let mut standpipe = self.serve_broker();
        standpipe.house = Some(self);
        standpipe
    }

    /// The same as an OSB broker.
    pub fn run_osb_broker(self) -> Standpipe {
        let mut standpipe = Standpipe::start("osb-broker", &self.config, None);
        standpipe.house = Some(self);
        standpipe
    }

    pub fn serve(&self) -> Standpipe {
        Standpipe::start("serve", &self.config, None)
    }

    /// All figures of the operator's socket.
    pub fn figures(&self) -> String {
        let socket = self.folder.path().join("standpipe-data/admin.sock");
        let mut wire = Wire::new(std::os::unix::net::UnixStream::connect(socket).unwrap());
        wire.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        wire.rest()
    }

    /// One of them, named with its labels.
    pub fn figure(&self, name: &str) -> f64 {
        let text = self.figures();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    /// Asks the operator's socket.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let socket = self.folder.path().join("standpipe-data/admin.sock");
        let mut wire = Wire::new(std::os::unix::net::UnixStream::connect(socket).unwrap());
        let length = body.len();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        Answer::parse(wire.rest().as_bytes()).unwrap()
    }

    pub fn serve_until(&self, fail_point: &str) -> Standpipe {
        Standpipe::start("serve", &self.config, Some(fail_point))
    }

    pub fn serve_broker(&self) -> Standpipe {
        Standpipe::start("broker", &self.config, None)
    }

    pub fn serve_osb_broker(&self) -> Standpipe {
        Standpipe::start("osb-broker", &self.config, None)
    }

    /// Runs a command of the binary and gives back its exit code and output.
    pub fn command(&self, words: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_standpipe"))
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }
}

/// What stands in the configuration for a password, made by the command that a person would use.
pub fn password_hash(password: &str) -> String {
    let mut process = Command::new(env!("CARGO_BIN_EXE_standpipe"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    String::from_utf8(process.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

fn alpha(scheme: &str, provider: SocketAddr, settings: &str, top: &str) -> String {
    let host = if scheme == "https" { "localhost" } else { "127.0.0.1" };
    format!(
        "{top}[[listener]]\naddress = \"127.0.0.1:0\"\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"{scheme}://{host}:{}\"\n{settings}",
        provider.port()
    )
}

impl Standpipe {
    fn start(command: &str, config: &Path, fail_point: Option<&str>) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_standpipe"));
        process.args([command, "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(point) = fail_point {
            process.env("STANDPIPE_FAIL_POINT", point);
        }
        let mut child = process.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let address = read_log(child.stderr.take().unwrap(), log.clone()).recv_timeout(PATIENCE);
        let address = address.unwrap_or_else(|_| panic!("did not start: {}", log.lock().unwrap()));
        Self { child, address, log, house: None }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the process has ended by itself.
    pub fn ended(&mut self) {
        until("the process ends", || self.child.try_wait().unwrap().is_some());
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], body)
    }

    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_call(method, path, headers, body).expect("no answer")
    }

    /// The answer, if there is a whole one.
    pub fn try_call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        Answer::parse(&exchange(self.address, format!("{request}\r\n{body}").as_bytes())?)
    }
}

impl Drop for Standpipe {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn read_log(stderr: std::process::ChildStderr, log: Arc<Mutex<String>>) -> Receiver<SocketAddr> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let line: String = strip_colours(&line);
            let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(address) =
                address.and_then(|address| address.parse().ok()).filter(|_| line.contains("listens"))
            {
                let _first_only = tell.send(address);
            }
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    told
}

fn strip_colours(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or(part, |(_, rest)| rest))
}

/// Sends bytes and reads until the other side closes; `None` when it cannot be reached or breaks off.
pub fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Says that this test tries nothing here and why, past the test harness, which hides what a test prints.
fn skipped(why: &str) {
    let test = thread::current().name().unwrap_or_default().to_owned();
    std::io::stderr().write_all(format!("SKIPPED: {test}: {why}\n").as_bytes()).unwrap();
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A provider that answers from a script and remembers the requests it got, whole.
pub struct Scripted {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Each connection gets one request's worth of bytes and then this answer, written as it is.
    pub fn answering(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = requests.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = kept.clone();
                thread::spawn(move || serve_one(stream, answer, &kept));
            }
        });
        Self { address, requests }
    }

    pub fn received(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve_one(mut stream: TcpStream, answer: &str, kept: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next()?.parse().ok());
            body.len() >= length.unwrap_or(0)
        });
        if whole || read == 0 {
            break;
        }
    }
    kept.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    // The other side may have gone.
    let _gone = stream.write_all(answer.as_bytes());
}
