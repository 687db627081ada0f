//! Brokers that take 20 ms each, a standpipe in front of them, and what asking them all at once adds to the slowest.
//!
//! `fan-out STANDPIPE BROKERS ROUNDS` starts the binary STANDPIPE in front of so many brokers and asks for their
//! pipes in one call, again and again; `/offers` takes the same way once and is then answered from memory. A broker
//! notes how long each of its answers took, from the request's last byte to the answer's, so that what is left of a
//! call is what standpipe added.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement that cannot go on must stop and say where"
)]

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds before those that count: connections are made, lists are read.
const WARMING: usize = 3;

/// Microseconds of the slowest answer since it was last set to zero.
static SLOWEST: AtomicU64 = AtomicU64::new(0);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [binary, brokers, rounds] = words.as_slice() else {
        panic!("usage: fan-out STANDPIPE BROKERS ROUNDS");
    };
    let (brokers, rounds): (usize, usize) = (brokers.parse().unwrap(), rounds.parse().unwrap());
    let standpipe = Standpipe::start(binary, (0..brokers).map(|_| broker()).collect());
    let mut stream = BufReader::new(TcpStream::connect(standpipe.address).unwrap());
    stream.get_mut().set_nodelay(true).unwrap();
    for _ in 0..WARMING {
        ask(&mut stream, "/pipes", brokers);
    }
    let mut added: Vec<f64> = (0..rounds)
        .map(|_| {
            SLOWEST.store(0, Ordering::SeqCst);
            let took = ask(&mut stream, "/pipes", brokers);
            took.saturating_sub(Duration::from_micros(SLOWEST.load(Ordering::SeqCst))).as_secs_f64() * 1e3
        })
        .collect();
    ask(&mut stream, "/offers", brokers);
    let mut remembered: Vec<f64> =
        (0..rounds).map(|_| ask(&mut stream, "/offers", brokers).as_secs_f64() * 1e3).collect();
    println!("{brokers:>7} {:>18.2} {:>20.2}", median(&mut added), median(&mut remembered));
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A broker with one pipe and one offer, both late.
fn broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || listener.incoming().for_each(|stream| drop(spawn(move || serve(stream.unwrap())))));
    address
}

fn serve(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let body = r#"[{"id":"one","name":"one"}]"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    while read_head(&mut stream).is_some() {
        let start = Instant::now();
        sleep(DELAY);
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
        SLOWEST.fetch_max(u64::try_from(start.elapsed().as_micros()).unwrap(), Ordering::SeqCst);
    }
}

/// The lines of a message head; `None` at the end of the connection.
fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        stream.read_line(&mut head).ok().filter(|read| *read > 0)?;
        if head[before..].trim_end().is_empty() {
            return Some(head);
        }
    }
}

/// Asks for one list of all brokers; how long the whole answer took.
fn ask(stream: &mut BufReader<TcpStream>, path: &str, items: usize) -> Duration {
    let start = Instant::now();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).unwrap();
    let head = read_head(stream).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    let took = start.elapsed();
    let found = String::from_utf8(body).unwrap().matches(r#""provider":"#).count();
    assert!(found == items && !head.contains("standpipe-partial"), "{found} of {items} items: {head}");
    took
}

/// The process under measurement; killed when dropped.
struct Standpipe {
    child: Child,
    address: SocketAddr,
    folder: std::path::PathBuf,
}

impl Standpipe {
    fn start(binary: &str, brokers: Vec<SocketAddr>) -> Self {
        let folder = std::env::temp_dir().join(format!("standpipe-fan-out-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut config =
            "threads = 1\n[log]\naccess = false\n[[listener]]\naddress = \"127.0.0.1:0\"\n".to_owned();
        for (at, broker) in brokers.iter().enumerate() {
            let provider =
                format!("name = \"broker-{at}\"\ndialect = \"cloudpipe\"\nurl = \"http://{broker}\"");
            write!(config, "[[provider]]\n{provider}\nresources = [\"r{at}\"]\n").unwrap();
        }
        let path = folder.join("standpipe.toml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new(binary);
        let mut child = command.args(["serve", "--config"]).arg(path).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let end = Instant::now() + PATIENCE;
        let mut lines = log.lines().map_while(Result::ok).take_while(move |_| Instant::now() < end);
        let address = lines.find_map(|line| address(&line)).unwrap();
        // Whoever stops reading makes the process wait.
        spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }
}

/// The address in the line that says where it listens, colours left out.
fn address(line: &str) -> Option<SocketAddr> {
    let at = line.find("127.0.0.1:").filter(|_| line.contains("listens"))?;
    let end = line[at..].find(|character: char| !character.is_ascii_digit() && !".:".contains(character));
    line[at..end.map_or(line.len(), |end| at + end)].parse().ok()
}

impl Drop for Standpipe {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}
