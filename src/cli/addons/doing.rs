//! What a command is doing: a spinner for whoever looks, and the line it ends with.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::table::printable;
use super::client::Failure;

/// What a command is doing, with a spinner for whoever looks.
pub(super) struct Doing {
    what: String,
    spinner: ProgressBar,
}

impl Doing {
    /// Says what is being done, where somebody looks.
    pub(super) fn new(what: String) -> Self {
        let what = printable(&what).into_owned();
        let spinner = ProgressBar::hidden();
        if std::io::stderr().is_terminal() {
            spinner.set_style(ProgressStyle::default_spinner());
            spinner.set_draw_target(ProgressDrawTarget::stderr());
            spinner.set_message(format!("{what}..."));
            spinner.enable_steady_tick(Duration::from_millis(200));
        }
        Self { what, spinner }
    }

    /// Takes the spinner away.
    pub(super) fn end(&self) {
        self.spinner.finish_and_clear();
    }

    /// The line of a success.
    pub(super) fn done(&self) -> String {
        self.end();
        format!("{}... done", self.what)
    }

    /// The line of what goes on behind the user's back.
    pub(super) fn started(&self) -> String {
        format!("{}... started", self.what)
    }

    /// The text of a failure, as the broker or server said it.
    pub(super) fn failed(&self, why: &str) -> String {
        self.end();
        let lines: Vec<_> = why.lines().map(printable).collect();
        format!("{}... failed\n{}", self.what, lines.join("\n"))
    }

    /// The same of a question without an answer.
    pub(super) fn failing<T>(&self, asked: Result<T, Failure>) -> Result<T, String> {
        asked.map_err(|failure| self.failed(&String::from(failure)))
    }
}
