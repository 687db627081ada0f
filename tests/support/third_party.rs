//! Real brokers (tests/osb) in processes of their own, whose protocol is that of a third party's library: cases are tried
//! at them directly and through standpipe.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::{env, thread};

use super::{PATIENCE, skipped};

/// The folder they are installed in.
const INSTALLED: &str = "STANDPIPE_OSB";

/// What a platform logs in with at any of them.
pub const LOGIN: (&str, &str) = ("operator", "ledger's own passw0rd");

/// Whose library speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Cloud Foundry's, in Go.
    BrokerApi,
    /// The one of the Python package index.
    OpenBrokerApi,
}

impl Library {
    fn name(self) -> &'static str {
        match self {
            Self::BrokerApi => "brokerapi",
            Self::OpenBrokerApi => "openbrokerapi",
        }
    }

    fn command(self, installed: &Path, sources: &Path) -> (PathBuf, Command) {
        match self {
            Self::BrokerApi => {
                let binary = installed.join("brokerapi/broker");
                (binary.clone(), Command::new(binary))
            }
            Self::OpenBrokerApi => {
                let python = installed.join("openbrokerapi/bin/python");
                let mut command = Command::new(&python);
                command.arg(sources.join("broker.py"));
                (python, command)
            }
        }
    }
}

/// Killed when dropped.
pub struct ServiceBroker {
    process: Child,
    pub address: SocketAddr,
}

impl ServiceBroker {
    /// Starts one that knows nothing yet; where it is not installed it says so.
    pub fn start(library: Library) -> Option<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/osb").join(library.name());
        let installed = env::var_os(INSTALLED).map(PathBuf::from).unwrap_or_default();
        let (program, mut command) = library.command(&installed, &sources);
        if installed.as_os_str().is_empty() || !program.exists() {
            skipped(&format!(
                "no {} under {INSTALLED}; tests/run installs it and says where",
                library.name()
            ));
            return None;
        }
        let mut process = command
            .arg(sources.join("catalog.json"))
            .env("BROKER_USERNAME", LOGIN.0)
            .env("BROKER_PASSWORD", LOGIN.1)
            // Else the order of methods in `Allow` is another one in each process.
            .env("PYTHONHASHSEED", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, told) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        thread::spawn(move || {
            let line = stdout.lines().map_while(Result::ok).next().unwrap_or_default();
            // Nobody listens any more when it took too long.
            let _late = tell.send(line.strip_prefix("listens http://").and_then(|it| it.parse().ok()));
        });
        let address = told.recv_timeout(PATIENCE).ok().flatten();
        Some(Self { process, address: address.expect("the broker did not start") })
    }
}

impl Drop for ServiceBroker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}
