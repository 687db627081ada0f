//! Callers who administer standpipe: who they are, and what each may do.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method};
use standpipe_api::{Caller, CallerId, Connection, Error, ErrorKind, Fault, Result};
use tokio::time::timeout;

use super::Page;
use crate::access::Patterns;
use crate::config::{AdminRole, Role};
use crate::identify::{Authenticators, Shown, Who};

/// How long it may take to find out who asks.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who comes in by the admin listener for callers, and as what.
pub struct AdminDoor {
    authenticators: Authenticators,
    roles: Vec<Whose>,
}

struct Whose {
    role: Role,
    callers: Patterns,
    tenants: Patterns,
    groups: Patterns,
}

/// Who asks an admin listener, and what it may do.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    /// Its name in the audit.
    pub(super) id: CallerId,
    /// The tenant it acts for.
    pub(super) tenant: Option<String>,
    /// What it may do.
    pub(super) role: Role,
    /// Whether it was recognised as a caller, and so may be on another machine.
    pub(super) is_caller: bool,
}

impl AdminDoor {
    /// A door with its authenticators and roles.
    pub fn new(authenticators: Authenticators, roles: &[AdminRole]) -> Self {
        let compiled = |role: &AdminRole| Whose {
            role: role.role,
            callers: Patterns::new(role.callers.as_deref()),
            tenants: Patterns::new(role.tenants.as_deref()),
            groups: Patterns::new(role.groups.as_deref()),
        };
        Self { authenticators, roles: roles.iter().map(compiled).collect() }
    }

    /// The challenges of a 401.
    pub(super) fn challenges(&self) -> &[HeaderValue] {
        self.authenticators.challenges(Shown::Nothing)
    }

    /// Who a request comes from.
    ///
    /// # Errors
    /// Nobody we know; it cannot be found out; or somebody who has no role.
    pub(super) async fn enter(&self, head: &Parts, connection: &Connection) -> Result<Operator> {
        if let Some(caller) = self.authenticators.recall(head, connection) {
            return self.admit(&caller);
        }
        let who = timeout(PATIENCE, self.authenticators.identify(head, connection)).await;
        let late = |_| {
            Error::new(ErrorKind::Overloaded, Fault::Proxy, "the credential could not be checked in time")
        };
        match who.map_err(late)?? {
            Who::Caller(caller) => self.admit(&caller),
            Who::Refused(error) | Who::Stranger(error) => Err(error),
        }
    }

    fn admit(&self, caller: &Arc<Caller>) -> Result<Operator> {
        let fits = |whose: &&Whose| {
            whose.callers.take(Some(caller.id.as_str()))
                && whose.tenants.take(caller.tenant.as_deref())
                && whose.groups.take_one_of(&caller.groups)
        };
        let whose = self.roles.iter().find(fits).ok_or_else(|| {
            let text = format!("{} has no role here", caller.id);
            Error::new(ErrorKind::Forbidden, Fault::Caller, text)
                .advise("an operator gives one with [[admin.role]]")
        })?;
        let (id, tenant) = (caller.id.clone(), caller.tenant.clone());
        Ok(Operator { id, tenant, role: whose.role, is_caller: true })
    }
}

impl Operator {
    /// Whoever may open the socket's file, or holds the token.
    pub(super) fn of(way: &'static str) -> Self {
        Self { id: way.into(), tenant: None, role: Role::Administrator, is_caller: false }
    }

    /// Whether it may do this with a page.
    ///
    /// # Errors
    /// Its role is to read, and this changes something, or shows what providers in this process keep.
    pub(super) fn may(&self, method: &Method, page: &Page<'_>) -> Result<()> {
        let reads = matches!(*method, Method::GET | Method::HEAD) && !matches!(page, Page::Inside { .. });
        if self.role == Role::Administrator || reads {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Forbidden, Fault::Caller, format!("{} may look, and not do this", self.id))
            .advise("it takes the role administrator ([[admin.role]])"))
    }
}
