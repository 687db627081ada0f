//! What differs per API, and nothing else.
//!
//! The engine resolves, claims, forwards and answers without knowing any API; at each of these points it
//! asks the dialect one question. Everything here is synchronous and without I/O.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};

use crate::{
    Answer, Body, CallId, Error, Face, Hint, Kind, Params, Problems, Provider, ProviderId, Query, Resource,
    Result, Route, Settings, Target,
};

/// The API that some providers speak.
pub trait Dialect: Send + Sync + 'static {
    /// The word used in `dialect = ".."` of a provider.
    fn name(&self) -> &'static str;

    /// The paths of its federated face.
    fn face(&self) -> Face;

    /// Its operations, with paths as a provider sees them. Of several that match, a literal segment beats `{name}`
    /// beats `{*rest}`, from left to right. What matches none is not forwarded on the federated face; on
    /// `/providers/{name}/` it is, as [`Operation::OTHER`].
    fn operations(&self) -> Vec<(Route, Operation)>;

    /// Reads the keys of a provider's table that the engine does not know.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the provider's table.
    fn provider_settings(&self, table: &toml::Table) -> Result<Settings, Problems>;

    /// Whether [`Dialect::names`] or [`Dialect::hints`] read the body of this operation. It is then buffered,
    /// up to `limits.body_buffer`. A longer one is refused, unless the caller named the provider: then it goes there unread, and
    /// they are asked without it.
    fn needs_body(&self, _operation: Operation) -> bool {
        false
    }

    /// The resources a request names, most specific first (binding, then instance). Create operations claim the
    /// first, if [`Dialect::claims`] agrees.
    fn names(&self, operation: Operation, request: &RequestView<'_>) -> Vec<Resource>;

    /// The kinds of all resources that [`Dialect::names`] finds. A rule or a quota for any other kind is a mistake.
    fn kinds(&self) -> Vec<Kind>;

    /// Whether callers choose ids themselves. Each tenant's are then its own (decision 12): two may choose the same one, and what
    /// another tenant is known to have at a provider is unknown to a caller there.
    fn callers_choose_ids(&self) -> bool {
        false
    }

    /// Whether the operation brings the resource that the request names first into being, so that it is claimed. An API
    /// whose bodies may leave the new id to the provider names only the parent then, and must say no here:
    /// without a claim, the verdicts that take one back or leave it open mean nothing.
    fn claims(&self, operation: Operation, _first: &Resource) -> bool {
        operation.effect == Effect::Create
    }

    /// Whether the operation begins something new at a provider, which one that drains does not take; by default whatever
    /// creates. What is made within something that callers made there before, as a binding within an instance, begins nothing.
    fn begins(&self, operation: Operation) -> bool {
        operation.effect == Effect::Create
    }

    /// The kind of resource that an operation brings into being although the request may leave its id to the provider,
    /// so that it is not claimed. Quotas count by it.
    fn creates(&self, _operation: Operation) -> Option<Kind> {
        None
    }

    /// The resource that an answer says was brought into being, when the request left its id to the provider. `named` is what
    /// [`Dialect::names`] found in the request.
    fn created(&self, _operation: Operation, _named: &[Resource], _answer: &HeaderMap) -> Option<Resource> {
        None
    }

    /// Ids in the request that a provider's index may know.
    fn hints(&self, _operation: Operation, _request: &RequestView<'_>) -> Vec<Hint> {
        Vec::new()
    }

    /// Which of the providers whose indexes know an id it leads to; the caller sees them all. For something new those that drain
    /// are no candidates, and a candidate that stands alone is asked about too: the id may be another's. `sees` says of any
    /// provider whether the caller sees it.
    fn prefer(
        &self,
        _hint: &Hint,
        candidates: &[ProviderId],
        _sees: &dyn Fn(&ProviderId) -> bool,
    ) -> Preference {
        match candidates {
            [only] => Preference::One(only.clone()),
            _ => Preference::Ambiguous,
        }
    }

    /// What becomes of a request that neither a pin nor a mapping nor an index leads to one of the several providers that
    /// the caller sees, registered ones that cannot be put to work among them. By default they are asked for the resources
    /// it names.
    fn unroutable(
        &self,
        _operation: Operation,
        _request: &RequestView<'_>,
        _seen: &[ProviderId],
    ) -> Unroutable {
        Unroutable::Search
    }

    /// Fields of a request that answers of standpipe's own repeat, in the dialect's face.
    fn echoes(&self) -> &[HeaderName] {
        &[]
    }

    /// Where at a provider a request goes. The default is the provider's URL followed by the path.
    fn address<'a>(&self, provider: &'a Provider, path: &'a str) -> Address<'a> {
        Address { base: Cow::Borrowed(&provider.url), path: Cow::Borrowed(path) }
    }

    /// The safe question (GET or HEAD) that finds out whether a provider has a resource, with a path as a provider
    /// sees it. `None`: the resource cannot be searched for.
    fn question(&self, resource: &Resource) -> Option<Query>;

    /// What an answer to that question means. The default: 2xx yes; 404 and 410 no; everything else unknown.
    fn vote(&self, status: StatusCode, _headers: &HeaderMap) -> Vote {
        match status {
            status if status.is_success() => Vote::Yes,
            StatusCode::NOT_FOUND | StatusCode::GONE => Vote::No,
            _ => Vote::Unknown,
        }
    }

    /// Whether a resource may turn up at another provider. If so, a 404 that its provider gives to a read makes the engine
    /// search again, and the mapping is corrected; if not, that answer proves nothing about the mapping. What has no
    /// [`Dialect::question`] is asked for with that same read, at the providers that have what it is within by now.
    /// A tombstone of what may move leads only polls and deletes to where it was, and others while nothing leads elsewhere.
    fn may_move(&self, _resource: &Resource) -> bool {
        true
    }

    /// Whether [`Dialect::judge`] needs the body of an answer with this status. It is then read before it is passed on, if it
    /// is small.
    fn reads_answer(&self, _operation: Operation, _status: StatusCode) -> bool {
        false
    }

    /// What an outcome means for the mapping of the resource that the operation names first.
    fn judge(&self, operation: Operation, outcome: &Outcome<'_>) -> Verdict;

    /// The dialect's way to say that all authorities know no such resource.
    fn not_found(&self, operation: Operation, error: &Error, call: CallId) -> Response<Body>;

    /// The body and content type of an error; the engine sets status, `Retry-After` and `WWW-Authenticate`.
    /// `None`: problem+json (RFC 9457).
    fn error_body(
        &self,
        _error: &Error,
        _status: StatusCode,
        _call: CallId,
    ) -> Option<(&'static str, Bytes)> {
        None
    }

    /// Merges the answers of several providers to one list question.
    ///
    /// # Errors
    /// When no answer can be used.
    fn merge(
        &self,
        _operation: Operation,
        _answers: Vec<(Target, Result<Answer>)>,
    ) -> Result<Response<Body>> {
        Err(Error::internal(format!("the {} dialect has no merged lists", self.name())))
    }

    /// The safe question (GET or HEAD) that a provider must answer 2xx before it is registered at run time, so that a
    /// wrong address or credential is found at once. `None`: it is taken unasked.
    fn greeting(&self) -> Option<Query> {
        None
    }

    /// Whether a 2xx answer to the greeting is one that this dialect can work with.
    ///
    /// # Errors
    /// What is wrong, with its place in the answer; it never quotes the answer.
    fn accepts_greeting(&self, _answer: &Answer) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The keys of a provider's table by which standpipe reads a file or runs a program of its own machine. Who
    /// administers standpipe from elsewhere may not write them. `table` holds what [`Dialect::provider_settings`] read.
    fn reaches_machine(&self, _table: &toml::Table) -> Vec<&'static str> {
        Vec::new()
    }

    /// The keys of a provider's table that are part of the ids by which callers know what it has. While something lives
    /// there they change only by force.
    fn keys_in_ids(&self) -> &[&'static str] {
        &[]
    }

    /// Whether a bearer token that belongs to no caller may travel to this provider unchanged with this operation.
    fn accepts_foreign_bearer(&self, _operation: Operation, _provider: &Provider) -> bool {
        false
    }
}

/// One thing an API can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operation {
    /// Unique within the dialect; a metric label.
    pub name: &'static str,
    /// What it does to the resource it names first.
    pub effect: Effect,
}

impl Operation {
    /// A call on `/providers/{name}/` that the dialect does not know; nothing is learned from it.
    pub const OTHER: Self = Self { name: "other", effect: Effect::Unknown };

    /// An operation.
    pub const fn new(name: &'static str, effect: Effect) -> Self {
        Self { name, effect }
    }
}

/// What an operation does to the resource it names first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Read,
    /// Brings it into being; claimed before it is sent.
    Create,
    /// Changes it.
    Update,
    /// Ends it.
    Delete,
    /// Asks how an earlier operation is going.
    Poll,
    /// Nothing is known: safe methods read, others update.
    Unknown,
}

impl Effect {
    /// Whether a call with this effect and method may change something at a provider.
    pub fn changes_state(self, method: &Method) -> bool {
        match self {
            Self::Read | Self::Poll => false,
            Self::Create | Self::Update | Self::Delete => true,
            Self::Unknown => !method.is_safe(),
        }
    }
}

/// A request as a dialect sees it: the path is relative to the provider, without query.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as sent, relative to the provider's base, beginning with `/`.
    pub path: &'a str,
    /// The query as sent, without `?`; `None` when there is no `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The path's parameters, by the pattern of the operation.
    pub params: &'a Params,
    /// The body, when [`Dialect::needs_body`] asked for it.
    pub body: Option<&'a Bytes>,
}

/// Where at a provider a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The base URL, without a trailing slash: scheme, authority and possibly a path prefix.
    pub base: Cow<'a, str>,
    /// The rest of the path, beginning with `/`, or empty.
    pub path: Cow<'a, str>,
}

/// What an answer to the safe question means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It is here.
    Yes,
    /// It is not here.
    No,
    /// The provider did not say.
    Unknown,
}

/// Which of several providers an id leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The caller has to choose.
    Ambiguous,
    /// To none of them: the next hint decides.
    Nobody,
    /// This one. If it is no candidate because it drains, nothing new is taken.
    One(ProviderId),
}

/// What becomes of a request that leads to none of several providers.
#[derive(Debug)]
pub enum Unroutable {
    /// They are asked.
    Search,
    /// This is the answer.
    Answer(Response<Body>),
    /// Nobody can tell before these providers have been heard.
    Unheard(Vec<ProviderId>),
}

/// How an operation ended at the provider.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// It answered.
    Answered {
        /// The provider's status.
        status: StatusCode,
        /// The provider's headers.
        headers: &'a HeaderMap,
        /// The body, when [`Dialect::reads_answer`] asked for it and it is small.
        body: Option<&'a Bytes>,
    },
    /// The request never left standpipe.
    NotSent,
    /// The request left, and no usable answer came.
    Lost,
}

/// What to do with the mapping of the resource an operation names first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it as it is.
    Keep,
    /// It exists.
    Live,
    /// Nobody knows; keep routing it.
    Maybe,
    /// The provider is deleting it.
    Deleting,
    /// It is gone: leave a tombstone.
    Gone,
    /// Take back this call's own claim, if no other call on the resource is in flight.
    Drop,
}

impl Outcome<'_> {
    /// The verdict for an API that answers at once and whose statuses mean what HTTP says they mean: a created or
    /// changed resource is live, a deleted one is gone, a refused creation never was, a lost one may be.
    pub fn plain_verdict(&self, effect: Effect) -> Verdict {
        let status = match self {
            Self::NotSent => return if effect == Effect::Create { Verdict::Drop } else { Verdict::Keep },
            Self::Lost => return if effect == Effect::Create { Verdict::Maybe } else { Verdict::Keep },
            Self::Answered { status, .. } => *status,
        };
        let absent = status == StatusCode::NOT_FOUND || status == StatusCode::GONE;
        match effect {
            // A duplicate id proves that the resource exists.
            Effect::Create if status.is_success() || status == StatusCode::CONFLICT => Verdict::Live,
            Effect::Create if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                Verdict::Maybe
            }
            Effect::Create => Verdict::Drop,
            Effect::Delete if status.is_success() || absent => Verdict::Gone,
            Effect::Read | Effect::Update if status.is_success() => Verdict::Live,
            _ => Verdict::Keep,
        }
    }
}

/// Shortens the common construction of a request view in engine and tests.
impl<'a> RequestView<'a> {
    /// A view of a request whose path is already relative to the provider.
    pub fn of<B>(request: &'a Request<B>, params: &'a Params, body: Option<&'a Bytes>) -> Self {
        Self {
            method: request.method(),
            path: request.uri().path(),
            query: request.uri().query(),
            headers: request.headers(),
            params,
            body,
        }
    }
}
