//! The contract between standpipe's engine and everything registered for a path.
//!
//! An extension sees this crate and nothing else of standpipe; the engine implements the handles
//! ([`Federation`], [`Background`], [`State`]) and calls the traits ([`Extension`], [`Dialect`],
//! [`Authenticator`], [`CredentialStrategy`], [`Upstream`]). There is no I/O here.
//!
//! Read in this order: `extension` (the three hooks), `federation` (what a hook can ask for),
//! `dialect` (what differs per API), then the nouns.

mod id;
pub use id::{CallId, CallerId, CredentialAlias, Kind, PeerId, ProviderId, RemoteScope, ResourceId, Scope};

mod members;
pub use members::Members;

mod reading;
mod resource;
pub use resource::{Hint, Resource};

mod mapping;
pub use mapping::{Mapping, MappingState, Origin, Timestamp};

mod provider;
pub use provider::{Availability, Provider, Target};

mod body;
pub use body::{Body, BoxError};

mod call;
pub use call::{Call, Caller, Connection, Judged, Params};

mod error;
pub use error::{Error, ErrorKind, Fault, Result};

mod settings;
pub use settings::{Problem, Problems, SecretRef, Settings};

mod route;
pub use route::{Face, Methods, Rest, Route, without_empty_segments};

mod extension;
pub use extension::{Extension, Flow, Remark, Sent, Upstream};

mod dialect;
pub use dialect::{
    Address, Dialect, Effect, Operation, Outcome, Preference, RequestView, Unroutable, Verdict, Vote,
};

mod federation;
pub use federation::{Answer, Delivery, Federation, Injection, Located, OwnAuthorization, Query};

mod event;
pub use event::{Event, EventPage, NewEvent, Outdated};

mod event_query;
pub use event_query::EventQuery;

mod state;
pub use state::{Change, Conflict, Record, RecordKey, Revision, State};

mod background;
pub use background::{Background, Job, JobId, JobOutcome, NewJob, Outbound, backoff};

mod identity;
pub use identity::{
    Authenticator, CallerAuthorization, Challenged, Credential, CredentialRequest, CredentialSource,
    CredentialStrategy, Identified, Keeping, SecretFollower, Secrets, Signer, SigningAlgorithm, Stamp,
    Verifier, bearer, bearer_octets,
};

pub mod testing;
