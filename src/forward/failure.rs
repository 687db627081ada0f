//! Why a provider gave no answer, and whether the request may have reached it.

use std::io;
use std::time::Duration;

use http::Method;
use standpipe_api::{BoxError, Error, ErrorKind, Fault, ProviderId};

use super::http1::Broken;
use crate::config::Provider as Settings;

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The breaker is open. Nothing was sent.
    #[error("the circuit breaker is open")]
    BreakerOpen(Duration),
    /// The concurrency limit was reached and no turn came in time. Nothing was sent.
    #[error("no turn within {0:?}")]
    Busy(Duration),
    /// No connection. Nothing was sent.
    #[error("cannot connect")]
    Unreachable(#[source] io::Error),
    /// No connection in time. Nothing was sent.
    #[error("no connection in time")]
    ConnectTimeout,
    /// The request cannot be put on the wire. Nothing was sent.
    #[error("the request cannot be sent")]
    Unsendable(#[source] http::Error),
    /// It was sent, and the connection broke before an answer.
    #[error("the connection broke before an answer")]
    Broken(#[source] io::Error),
    /// It was sent, and the answer is not one that can be passed on.
    #[error("the answer has {0}")]
    Nonsense(&'static str),
    /// It was sent, and no answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// The caller's body broke off.
    #[error("the caller's body broke off")]
    Upload(#[source] BoxError),
}

impl Failure {
    /// How an exchange on a connection that was just made failed.
    pub(super) fn of(broken: Broken) -> Self {
        match broken {
            Broken::NotWritten(error) => Self::Unreachable(error),
            Broken::NoAnswer(error) | Broken::WithinAnswer(error) => Self::Broken(error),
            Broken::Nonsense(why) => Self::Nonsense(why),
            Broken::Upload(error) => Self::Upload(error),
        }
    }

    /// Whether anything may have happened at the provider.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::BreakerOpen(_)
            | Self::Busy(_)
            | Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Unsendable(_) => false,
            Self::Broken(_) | Self::Nonsense(_) | Self::Timeout | Self::Upload(_) => true,
        }
    }

    /// Whether the provider is to blame, as its breaker counts.
    pub fn counts(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::Broken(_)
            | Self::Nonsense(_)
            | Self::Timeout => true,
            Self::BreakerOpen(_) | Self::Busy(_) | Self::Unsendable(_) | Self::Upload(_) => false,
        }
    }

    /// The error a caller sees. What was not sent is 503 for reads, which can be repeated, and 502 for writes; what
    /// was sent and not answered is 504 or 502, and never looks like "does not exist".
    pub fn into_error(self, provider: &Settings, method: &Method) -> Error {
        let id = provider.id.clone();
        let (kind, retry) = match &self {
            Self::BreakerOpen(wait) => (ErrorKind::CouldNotAsk, Some(*wait)),
            Self::Busy(_) => (ErrorKind::Overloaded, Some(Duration::from_secs(1))),
            Self::Unreachable(_) | Self::ConnectTimeout if method.is_safe() => {
                (ErrorKind::CouldNotAsk, Some(provider.breaker.open.min(Duration::from_secs(5))))
            }
            Self::Unreachable(_) | Self::ConnectTimeout => (ErrorKind::NotSent, None),
            Self::Unsendable(_) => (ErrorKind::BadRequest, None),
            Self::Broken(_) | Self::Nonsense(_) => (ErrorKind::Nonsense, None),
            Self::Timeout => (ErrorKind::Timeout, None),
            Self::Upload(_) => (ErrorKind::BodyBroken, None),
        };
        let public = self.public(&id, if method.is_safe() { "" } else { "; the request may have worked" });
        let fault = match &self {
            Self::Unsendable(_) | Self::Upload(_) => Fault::Caller,
            _ => Fault::Provider(id),
        };
        let error = Error::new(kind, fault, public).because(self);
        match retry {
            Some(wait) => error.retry_after(wait),
            None => error,
        }
    }

    fn public(&self, id: &ProviderId, worked: &str) -> String {
        match self {
            Self::BreakerOpen(_) => format!("{id} did not answer lately and is not asked for a while"),
            Self::Busy(wait) => {
                format!("{id} has as many requests in flight as it is allowed, for more than {wait:?}")
            }
            Self::Unreachable(_) => format!("{id} cannot be reached"),
            Self::ConnectTimeout => format!("{id} cannot be reached in time"),
            Self::Unsendable(_) => format!("the request cannot be sent to {id}"),
            Self::Nonsense(why) => {
                format!("{id} answered with {why}, which is not passed on{worked}")
            }
            Self::Broken(_) => {
                format!("{id} closed the connection without a usable answer{worked}")
            }
            Self::Timeout => format!("{id} did not answer in time{worked}"),
            Self::Upload(_) => format!("the request's body broke off on its way to {id}"),
        }
    }
}
