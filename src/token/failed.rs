//! An error that many wait for: kept as what it is made of, told to each of them.

use std::time::Duration;

use standpipe_api::{Error, ErrorKind, Fault};

/// How long "this caller gets no token" is believed.
const REFUSED: Duration = Duration::from_secs(5);
/// How long an endpoint that failed is left alone; its own callers wait no longer than that for the next attempt.
const FAILED: Duration = Duration::from_secs(1);

/// Why no token came.
#[derive(Debug)]
pub(super) struct Failed {
    kind: ErrorKind,
    fault: Fault,
    public: String,
    advice: String,
    retry_after: Option<Duration>,
    log: String,
}

impl Failed {
    /// What is left of an error when it is told to many.
    pub(super) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            fault: error.fault().clone(),
            public: error.public().to_owned(),
            advice: error.advice().to_owned(),
            retry_after: error.retry_delay(),
            log: error.log_text(),
        }
    }

    /// The error again.
    pub(super) fn error(&self) -> Error {
        let error = Error::new(self.kind, self.fault.clone(), self.public.clone())
            .advise(self.advice.clone())
            .because(self.log.clone());
        match self.retry_after {
            Some(span) => error.retry_after(span),
            None => error,
        }
    }

    /// For how long it is believed.
    pub(super) fn believed(&self) -> Duration {
        if self.kind == ErrorKind::Forbidden { REFUSED } else { FAILED }
    }

    /// The word in metrics.
    pub(super) fn outcome(&self) -> Outcome {
        if self.kind == ErrorKind::Forbidden { Outcome::Refused } else { Outcome::Failed }
    }
}

/// How asking for a token ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Refused,
    Failed,
}
