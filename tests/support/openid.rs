//! A real OpenID provider (tests/openid/provider.mjs) in a process of its own: callers log in there, and standpipe
//! exchanges their tokens there.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, PATIENCE, SECRET, exchange, skipped};

/// The folder it is installed in.
const INSTALLED: &str = "STANDPIPE_OPENID";

/// Killed when dropped.
pub struct OpenId {
    process: Child,
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    /// Seconds that the tokens live that it exchanges others for.
    lifetime: u64,
    /// Its keys, which stay.
    folder: tempfile::TempDir,
}

impl OpenId {
    /// Starts one; where it is not installed it says so.
    pub fn start(lifetime: u64) -> Option<Self> {
        let Some(_) = installed() else {
            skipped(&format!("{INSTALLED} is not set; tests/run installs the OpenID provider and sets it"));
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (process, address) = run(0, lifetime, folder.path().to_owned(), said.clone());
        Some(Self { process, address, said, lifetime, folder })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a standpipe's configuration says to trust it.
    pub fn trusted(&self) -> String {
        format!(
            "[[trusted_issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = \"standpipe\"\ntenant_claim = \"org\"\ngroups_claim = \"groups\"\n",
            self.url()
        )
    }

    /// A new token of `ann`, `bob` or `mallory` for standpipe.
    pub fn login(&self, caller: &str) -> String {
        let form = "grant_type=client_credentials&resource=urn:standpipe";
        let request = format!(
            "POST /token HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{form}",
            self.address,
            STANDARD.encode(format!("{caller}:{caller}-passw0rd")),
            form.len()
        );
        let answer = exchange(self.address, request.as_bytes()).and_then(|bytes| Answer::parse(&bytes));
        let answer = answer.expect("nobody to log in at");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// How often it gave out, by a grant, a token for somebody.
    pub fn granted(&self, grant: &str, whom: &str) -> usize {
        let line = format!("granted {grant} {whom}");
        self.said.lock().unwrap().iter().filter(|said| **said == line).count()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// After it was killed, so that it comes back with others.
    pub fn loses_its_keys(&self) {
        std::fs::remove_file(self.folder.path().join("keys.json")).unwrap();
    }

    /// Under the same address and with the same keys, after it was killed.
    pub fn comes_back(&mut self) {
        let folder = self.folder.path().to_owned();
        (self.process, self.address) = run(self.address.port(), self.lifetime, folder, self.said.clone());
    }

    /// Takes connections and answers nothing.
    pub fn hangs(&self) {
        self.signal("-STOP");
    }

    /// Answers again, also what it was asked meanwhile.
    pub fn goes_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for OpenId {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn installed() -> Option<PathBuf> {
    env::var_os(INSTALLED).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

fn run(port: u16, lifetime: u64, folder: PathBuf, said: Arc<Mutex<Vec<String>>>) -> (Child, SocketAddr) {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut process = Command::new("node")
        .arg(installed().unwrap().join("provider.mjs"))
        .args([port.to_string(), lifetime.to_string()])
        .arg(&folder)
        .env("CLIENT_SECRET", SECRET)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let (tell, told) = channel();
    let stdout = BufReader::new(process.stdout.take().unwrap());
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listens http://") {
                tell.send(address.parse().unwrap()).unwrap();
            }
            said.lock().unwrap().push(line);
        }
    });
    let why = || std::fs::read_to_string(folder.join("log")).unwrap();
    let address = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("did not start: {}", why()));
    (process, address)
}
