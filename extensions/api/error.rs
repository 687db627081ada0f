//! What went wrong, whose fault it is, and what to do about it.
//!
//! Extensions and the engine raise this one type; the engine alone turns it into a status, and a
//! dialect into a body. Two texts on purpose: `public` may be read by the caller and never holds an
//! upstream URL with userinfo, a token or SQL; the cause is for the log.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::{BoxError, ProviderId, Resource};

/// The result of everything that can fail in front of a caller.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed call, or a failed part of one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    fault: Fault,
    public: Cow<'static, str>,
    advice: Cow<'static, str>,
    candidates: Vec<ProviderId>,
    retry_after: Option<Duration>,
    cause: Option<BoxError>,
}

/// Who has to change something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller's request.
    Caller,
    /// This standpipe.
    Proxy,
    /// A provider, by name.
    Provider(ProviderId),
}

/// What happened. The engine maps each to one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No credential, or one nobody accepts.
    Unauthenticated,
    /// A known caller that may not do this.
    Forbidden,
    /// The request itself is malformed.
    BadRequest,
    /// Well-formed, but breaks a rule or schema of the resource.
    Invalid,
    /// Something else is under way with the resource; to be tried again when that is done.
    Busy,
    /// No face or extension answers this path.
    NoRoute,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// An authority said that the resource does not exist.
    UnknownResource,
    /// Several providers claim the resource; the error names them.
    Ambiguous,
    /// The request contradicts what exists.
    Conflict,
    /// A body is over its limit.
    BodyTooLarge,
    /// The sender of a body failed before its end.
    BodyBroken,
    /// The request does not fit the limits of its head.
    HeadTooLarge,
    /// Something HTTP allows and standpipe refuses, such as an upgrade.
    NotImplemented,
    /// The request went around in a circle.
    Loop,
    /// A read or a search that could not reach everybody it needs: nothing is known.
    CouldNotAsk,
    /// A write that never left standpipe.
    NotSent,
    /// The provider answered something that is not HTTP or not its dialect.
    Nonsense,
    /// The request left, and no answer came in time: it may have worked.
    Timeout,
    /// A limit on requests in flight or waiting was reached.
    Overloaded,
    /// This caller or tenant asks for more than it may.
    RateLimited,
    /// The mapping store did not answer.
    StoreUnavailable,
    /// A bug: a hook that panicked, an invariant that broke.
    Internal,
}

impl Error {
    /// An error of a kind. The text says what happened and to whom, without a full stop at its end.
    pub fn new(kind: ErrorKind, fault: Fault, public: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            fault,
            public: public.into(),
            advice: Cow::Borrowed(""),
            candidates: Vec::new(),
            retry_after: None,
            cause: None,
        }))
    }

    /// The caller's request is malformed.
    pub fn bad_request(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, Fault::Caller, public)
    }

    /// Something else is under way with the resource; the text says what to wait for.
    pub fn busy(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Busy, Fault::Caller, public)
    }

    /// The request breaks a rule or schema; the text names the failing path.
    pub fn invalid(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, Fault::Caller, public)
    }

    /// The request contradicts what exists.
    pub fn conflict(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, Fault::Caller, public)
    }

    /// An authority said that the resource does not exist.
    pub fn unknown_resource(resource: &Resource) -> Self {
        Self::new(ErrorKind::UnknownResource, Fault::Caller, format!("no provider has {resource}"))
    }

    /// Several providers have the resource.
    pub fn ambiguous(resource: &Resource, candidates: Vec<ProviderId>) -> Self {
        let names = list(&candidates);
        Self::new(
            ErrorKind::Ambiguous,
            Fault::Caller,
            format!("{resource} exists at more than one provider: {names}"),
        )
        .advise("choose one with the header Standpipe-Provider, or use /providers/{name}/...")
        .with_candidates(candidates)
    }

    /// A question that some providers did not answer, so that nothing can be concluded.
    pub fn could_not_ask(what: impl fmt::Display, silent: Vec<ProviderId>) -> Self {
        let names = list(&silent);
        let fault = silent.first().cloned().map_or(Fault::Proxy, Fault::Provider);
        Self::new(
            ErrorKind::CouldNotAsk,
            fault,
            format!("cannot tell where {what} lives: no answer from {names}"),
        )
        .advise("try again later, or choose a provider with the header Standpipe-Provider")
        .with_candidates(silent)
        .retry_after(Duration::from_secs(2))
    }

    /// A body over its limit, in bytes.
    pub fn body_too_large(limit: usize) -> Self {
        Self::new(
            ErrorKind::BodyTooLarge,
            Fault::Caller,
            format!("the body has to be read, and is over the limit of {limit} bytes"),
        )
    }

    /// A body whose sender failed before its end.
    pub fn body_broken(cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::BodyBroken, Fault::Caller, "the body broke off before its end").because(cause)
    }

    /// A provider answered something nobody can use.
    pub fn nonsense(provider: ProviderId, public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Nonsense, Fault::Provider(provider), public)
    }

    /// A bug in standpipe or an extension.
    pub fn internal(public: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, Fault::Proxy, public)
    }

    /// The store did not answer.
    pub fn store(cause: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::StoreUnavailable, Fault::Proxy, "the mapping store does not answer")
            .advise("try again; an operator finds the reason in the log and in /ready")
            .retry_after(Duration::from_secs(2))
            .because(cause)
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.0.advice = advice.into();
        self
    }

    /// The providers the error is about, for the caller to choose from or to know of.
    #[must_use]
    pub fn with_candidates(mut self, candidates: Vec<ProviderId>) -> Self {
        self.0.candidates = candidates;
        self
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn retry_after(mut self, span: Duration) -> Self {
        self.0.retry_after = Some(span);
        self
    }

    /// The reason for the log; never shown to a caller.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whose fault it is.
    pub fn fault(&self) -> &Fault {
        &self.0.fault
    }

    /// The text a caller may read.
    pub fn public(&self) -> &str {
        &self.0.public
    }

    /// What the caller can do, or `""`.
    pub fn advice(&self) -> &str {
        &self.0.advice
    }

    /// The providers the error is about.
    pub fn candidates(&self) -> &[ProviderId] {
        &self.0.candidates
    }

    /// When to try again.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The whole chain of causes as one line, for the log.
    pub fn log_text(&self) -> String {
        let mut text = self.0.public.clone().into_owned();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

fn list(providers: &[ProviderId]) -> String {
    let names: Vec<&str> = providers.iter().map(ProviderId::as_str).collect();
    names.join(", ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.public)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("fault", &self.0.fault)
            .field("text", &self.log_text())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as _)
    }
}
