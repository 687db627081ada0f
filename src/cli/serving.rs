//! `standpipe serve`, `standpipe broker` and `standpipe osb-broker`: until SIGTERM; SIGHUP reloads.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::assemble::{self, Front, Parts};
use crate::config::{self, At, Config, LogFormat};
use crate::serve::Server;
use crate::telemetry::{self, Metrics};

/// What to add to a configuration without providers.
pub(super) const NO_PROVIDERS: &str = "\
No provider is configured yet. Register one (standpipe providers add --help), or add one to the configuration and send
SIGHUP:

    [[provider]]
    name = \"alpha\"
    dialect = \"cloudpipe\"
    url = \"http://127.0.0.1:9001\"
    resources = [\"db\"]
";

/// Serves until the process is told to end.
///
/// # Errors
/// What kept it from starting.
pub(super) fn run(path: Option<PathBuf>, err: &mut dyn Write) -> Result<ExitCode, String> {
    let loaded = load(path.as_deref(), Front::Proxy)?;
    serve(loaded, path, err)
}

/// Serves the one provider that has a table of this kind, alone, until the process is told to end.
///
/// # Errors
/// What kept it from starting.
pub(super) fn alone(path: Option<PathBuf>, kind: &str, err: &mut dyn Write) -> Result<ExitCode, String> {
    let (config, parts) = load(path.as_deref(), Front::Broker)?;
    if limits_callers(&config) {
        return Err(NOT_ALONE.into());
    }
    let mut kinds = config.providers.iter().filter_map(|provider| match &provider.at {
        At::InProcess { kind, .. } => Some(kind),
        At::Url(_) => None,
    });
    match (kinds.next(), kinds.next()) {
        (Some(only), None) if only == kind => {}
        _ => {
            return Err(format!(
                "the configuration must have exactly one provider that is served in this process, with a table [provider.{kind}]"
            ));
        }
    }
    serve((config, parts), path, err)
}

fn serve(
    (config, parts): (Config, Parts),
    path: Option<PathBuf>,
    err: &mut dyn Write,
) -> Result<ExitCode, String> {
    let metrics = Metrics::new();
    let telemetry = telemetry::init(&config.log, &metrics).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    // Before anybody is told that it listens: a signal that comes then must already be heard.
    let signals = runtime.block_on(async { Signals::new() }).map_err(|error| error.to_string())?;
    let text = config.log.format == LogFormat::Text;
    let server = Server::start(config, parts, &metrics, telemetry.access_log());
    let server = server.map_err(|error| error.to_string())?;
    let running = server.running();
    for address in server.addresses() {
        tracing::info!(%address, public_url = running.config.public_url, "standpipe listens");
    }
    let empty = running.providers.is_empty() && running.left_out.is_empty();
    if empty && text {
        writeln!(err, "{NO_PROVIDERS}").map_err(|error| error.to_string())?;
    } else if empty {
        tracing::warn!("no provider is configured");
    }
    runtime.block_on(signals.until_the_end(&server, path));
    tracing::info!("standpipe ends: finishing what is in flight");
    server.stop();
    drop(telemetry);
    Ok(ExitCode::SUCCESS)
}

/// A broker alone has no faces, so that nothing would keep these promises.
const NOT_ALONE: &str = "[[access]], [[quota]], [limits.caller] and [limits.tenant] are for `standpipe serve`: a broker \
     served alone would not keep them";

fn limits_callers(config: &Config) -> bool {
    let limits = &config.limits;
    !config.access.is_empty()
        || !config.quotas.is_empty()
        || limits.caller.is_some()
        || limits.tenant.is_some()
}

fn load(path: Option<&std::path::Path>, front: Front) -> Result<(Config, Parts), String> {
    let loaded = assemble::load(path, standpipe_extensions::all(), standpipe_extensions::RESERVED, front);
    loaded.map_err(|problems| super::lines(&problems))
}

/// What the process listens to beside sockets.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            terminate,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn until_the_end(mut self, server: &Server, path: Option<PathBuf>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(server, path.as_deref()).await,
            }
        }
    }
}

/// A configuration with mistakes changes nothing and is reported.
async fn reload(server: &Server, path: Option<&std::path::Path>) {
    let known = assemble::known(&standpipe_extensions::all());
    let reloaded = match config::load(path, &known) {
        Ok(config) => server.reload(config).await,
        Err(problems) => Err(problems),
    };
    match reloaded {
        Ok(later) => {
            tracing::info!("the configuration was reloaded");
            for key in later {
                tracing::warn!(key, "this changed and needs a restart; until then the old value stays");
            }
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!(problem = %problem, "the configuration was not reloaded; the old one stays");
            }
        }
    }
}
