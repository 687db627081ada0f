//! Installs logging for the process, and ends it without losing lines.

use std::io;
use std::time::Duration;

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;

use super::access::AccessLog;
use super::lines::Lines;
use super::metrics::{Metrics, name};
use crate::config::{self, LogFormat};

/// How long the end of the process waits for standard error to take the last lines.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` is not a filter.
    #[error("log.level: {0}; write it as in RUST_LOG, for example \"info,standpipe=debug\"")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// No thread for the writer.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
    /// Logging was begun before.
    #[error("logging was already set up in this process")]
    Twice,
}

/// Logging while it lasts. Dropping it waits up to two seconds for the last lines to be written.
#[derive(Debug)]
pub struct Telemetry {
    lines: Lines,
    access: AccessLog,
}

impl Telemetry {
    /// Where calls leave their events.
    pub fn access_log(&self) -> AccessLog {
        self.access.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.lines.flush(LAST_WORDS);
    }
}

/// Sends the process's log lines and access events to standard error.
///
/// # Errors
/// The filter does not parse, no thread can be started, or logging was set up before.
pub fn init(log: &config::Log, metrics: &Metrics) -> Result<Telemetry, TelemetryError> {
    let dropped = |name| metrics.counter(name, &[]);
    let lines = Lines::start(
        io::stderr(),
        log.format,
        dropped(name::LOG_DROPPED),
        dropped(name::ACCESS_LOG_DROPPED),
    )?;
    tracing::dispatcher::set_global_default(dispatch(log, &lines)?).map_err(|_| TelemetryError::Twice)?;
    let access = match log.access {
        config::AccessLog::On => AccessLog::to(lines.clone()),
        config::AccessLog::Off => AccessLog::OFF,
    };
    Ok(Telemetry { lines, access })
}

fn dispatch(log: &config::Log, lines: &Lines) -> Result<Dispatch, TelemetryError> {
    let filter = EnvFilter::builder().parse(&log.level)?;
    let lines = lines.clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
    Ok(match log.format {
        LogFormat::Text => Dispatch::new(builder.finish()),
        LogFormat::Json => Dispatch::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, pipe};

    use metrics::Counter;

    use super::*;

    fn config(level: &str, format: LogFormat) -> config::Log {
        config::Log { level: level.into(), format, access: config::AccessLog::Off }
    }

    fn logged(log: &config::Log, work: impl FnOnce()) -> String {
        let (mut reader, writer): (PipeReader, _) = pipe().unwrap();
        let lines = Lines::start(writer, log.format, Counter::noop(), Counter::noop()).unwrap();
        tracing::dispatcher::with_default(&dispatch(log, &lines).unwrap(), work);
        lines.flush(Duration::from_secs(30));
        drop(lines);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_level_that_is_no_filter_is_an_error_that_names_the_key() {
        let error = dispatch(&config("standpipe=loud", LogFormat::Text), &unread()).unwrap_err();
        assert!(error.to_string().starts_with("log.level: "), "{error}");
    }

    fn unread() -> Lines {
        Lines::start(io::sink(), LogFormat::Text, Counter::noop(), Counter::noop()).unwrap()
    }

    #[test]
    fn the_filter_decides_what_is_written() {
        let text = logged(&config("warn", LogFormat::Text), || {
            tracing::info!("quiet");
            tracing::warn!(provider = "alpha", "loud");
        });
        assert!(text.contains("WARN") && text.contains("loud") && text.contains("alpha"), "{text}");
        assert!(!text.contains("quiet"), "{text}");
    }

    #[test]
    fn json_lines_are_objects_even_when_a_value_holds_a_line_feed() {
        let text = logged(&config("info", LogFormat::Json), || {
            tracing::info!(path = "/a\nb", "seen");
            tracing::info!("again");
        });
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects[0]["path"], "/a\nb");
        assert_eq!(objects[1]["message"], "again");
    }
}
