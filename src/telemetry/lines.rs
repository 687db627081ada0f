//! The queue between cores and standard error: a slow terminal or pipe blocks nobody.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use metrics::Counter;

use super::access::AccessEvent;
use crate::config::LogFormat;

/// Lines waiting to be written. With the bounds on a line, at most 32 MiB.
const QUEUE: usize = 4096;

/// Longest log line kept, in bytes.
const LINE_LIMIT: usize = 8 * 1024;

/// How long the writer gathers lines before it looks again. While it gathers, handing over a line is two
/// atomic operations; waking a waiting thread would be a system call per request.
const GATHER: Duration = Duration::from_millis(10);

/// Bytes gathered before they are written in between.
const BATCH: usize = 64 * 1024;

/// One thing to be written.
#[expect(
    clippy::large_enum_variant,
    reason = "a slot of the queue costs nothing more; a box costs an allocation per call"
)]
pub(super) enum Line {
    /// A finished log line.
    Log(Vec<u8>),
    /// A call that ended.
    Access(AccessEvent),
    /// Write everything before this, then say so.
    Flush(SyncSender<()>),
}

/// The entrance of the queue.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Line>,
    log_dropped: Counter,
    access_dropped: Counter,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lines(..)")
    }
}

impl Lines {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        format: LogFormat,
        log_dropped: Counter,
        access_dropped: Counter,
    ) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let writer = Writer { out, format, batch: Vec::with_capacity(BATCH), lost: 0 };
        thread::Builder::new().name("log".into()).spawn(move || writer.run(&lines))?;
        Ok(Self { queue, log_dropped, access_dropped })
    }

    /// Hands over a line, or counts it as dropped.
    pub(super) fn send(&self, line: Line) {
        let dropped = match &line {
            Line::Access(_) => &self.access_dropped,
            Line::Log(_) | Line::Flush(_) => &self.log_dropped,
        };
        if self.queue.try_send(line).is_err() {
            dropped.increment(1);
        }
    }

    /// Waits until everything handed over so far is written, at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        while self.queue.try_send(Line::Flush(done.clone())).is_err() {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(GATHER);
        }
        // A reader that has gone away must not keep the process from ending.
        let _timeout = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// One `write` is one log line: the subscriber formats a line and writes it at once.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.send(Line::Log(one_line(line)));
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The line, cut to its limit, with control characters inside it made visible: no value begins a line of its own.
fn one_line(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut kept = Vec::with_capacity(line.len().min(LINE_LIMIT) + 1);
    for &byte in line {
        if kept.len() >= LINE_LIMIT {
            break;
        }
        if byte < b' ' {
            kept.extend(byte.escape_ascii());
        } else {
            kept.push(byte);
        }
    }
    kept.push(b'\n');
    kept
}

struct Writer<W> {
    out: W,
    format: LogFormat,
    batch: Vec<u8>,
    /// Bytes that `out` refused since the last success.
    lost: u64,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Line>) {
        while let Ok(first) = lines.recv() {
            self.take(first);
            while let Ok(next) = lines.try_recv() {
                self.take(next);
            }
            self.write();
            thread::sleep(GATHER);
        }
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Log(line) => self.batch.extend_from_slice(&line),
            Line::Access(event) => event.append(self.format, &mut self.batch),
            Line::Flush(done) => {
                self.write();
                // Who asked may have stopped waiting.
                let _gone = done.try_send(());
            }
        }
        if self.batch.len() >= BATCH {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.lost > 0 {
            let note = self.note();
            if self.out.write_all(note.as_bytes()).is_ok() {
                self.lost = 0;
            }
        }
        if self.out.write_all(&self.batch).and_then(|()| self.out.flush()).is_err() {
            self.lost += self.batch.len() as u64;
        }
        self.batch.clear();
    }

    fn note(&self) -> String {
        let text = format!("{} bytes of log lines could not be written", self.lost);
        match self.format {
            LogFormat::Text => format!("{text}\n"),
            LogFormat::Json => format!("{}\n", serde_json::json!({ "level": "WARN", "message": text })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::Metrics;
    use crate::telemetry::access::tests::event;
    use crate::telemetry::metrics::name;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A pipe that nobody reads until the gate is dropped.
    struct Stuck {
        entered: Sender<()>,
        gate: Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _test_ended = self.entered.send(());
            let _opened = self.gate.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn start(out: impl Write + Send + 'static, metrics: &Metrics) -> Lines {
        let counter = |name| metrics.counter(name, &[]);
        let (log, access) = (counter(name::LOG_DROPPED), counter(name::ACCESS_LOG_DROPPED));
        Lines::start(out, LogFormat::Text, log, access).unwrap()
    }

    #[test]
    fn a_flush_returns_after_every_line_was_written_in_order() {
        let sink = Sink::default();
        let mut lines = start(sink.clone(), &Metrics::new());
        lines.write_all(b"first\n").unwrap();
        lines.send(Line::Access(event("/second")));
        lines.write_all(b"third\n").unwrap();
        lines.flush(PATIENCE);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let order: Vec<_> = ["first", "/second", "third"].map(|word| text.find(word).unwrap()).into();
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_not_the_callers_time() {
        let metrics = Metrics::new();
        let (entered, inside) = channel();
        let (opener, gate) = channel();
        let mut lines = start(Stuck { entered, gate }, &metrics);
        lines.write_all(b"the writer hangs on this\n").unwrap();
        inside.recv_timeout(PATIENCE).unwrap();
        for _ in 0..QUEUE + 10 {
            lines.send(Line::Access(event("/")));
        }
        lines.write_all(b"one more\n").unwrap();
        let text = metrics.render();
        assert!(text.contains("\nstandpipe_access_log_dropped_total 10\n"), "{text}");
        assert!(text.contains("\nstandpipe_log_dropped_total 1\n"), "{text}");
        lines.flush(Duration::ZERO);
        drop(opener);
    }

    #[test]
    fn a_log_line_stays_one_line_of_bounded_length() {
        assert_eq!(one_line(b"a\nb\x1b[0m\n"), b"a\\nb\\x1b[0m\n");
        assert_eq!(one_line(&[b'a'; 2 * LINE_LIMIT]).len(), LINE_LIMIT + 1);
    }
}
