//! An add-on as it is kept: whose it is, the plan it has, how far it is.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use standpipe_api::{
    Caller, CallerId, Change, Error, Federation, ProviderId, Record, RecordKey, Resource, Result, Timestamp,
};

use super::stage::Stage;
use crate::osb::client::{Place, binding, instance};
use crate::osb::event::Cost;
use crate::osb::offered::Offered;
use crate::outside::secret;
use crate::path::encode;

/// How long an operation may take whose plan does not say: as long as a broker's by default (decision 51).
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which add-on of which app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct At {
    /// Who added it.
    pub caller: CallerId,
    /// The tenant of that caller. All its callers share their add-ons; a caller without one has its own.
    pub tenant: Option<String>,
    /// The app.
    pub app: String,
    /// The app's channel, as `development`.
    pub channel: String,
    /// The service's name in the merged catalog.
    pub name: String,
    /// What makes its ids others than its names alone would, where another tenant took those first.
    #[serde(default)]
    pub salt: Option<String>,
}

/// A plan as it was when it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub provider: ProviderId,
    /// The ids of the service and plan on the federated face.
    pub service_id: String,
    /// See `service_id`.
    pub plan_id: String,
    /// Whether it can be bound.
    pub bindable: bool,
    /// Whether its bindings can be fetched again.
    pub retrievable: bool,
    /// How many seconds an operation may take, where the plan says it.
    pub polling_seconds: Option<u64>,
    /// The version of its maintenance, which brokers that have one are to be told.
    pub maintenance: Option<String>,
    /// What it costs.
    pub costs: Vec<Cost>,
    /// Where its service is described.
    pub documentation: Option<String>,
}

/// An add-on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Addon {
    /// Which.
    pub at: At,
    /// The plan it has, or is to have.
    pub plan: Plan,
    /// What its user asked for beside the plan.
    pub parameters: Option<Map<String, Value>>,
    /// How far it is.
    pub stage: Stage,
    /// Whether a binding may exist at the broker.
    pub bound: Bound,
    /// Why the last command failed, in the broker's words.
    pub error: Option<String>,
    /// Where its user manages it.
    pub dashboard: Option<String>,
    /// What the binding gave, where the broker does not give it again.
    pub credentials: Option<Map<String, Value>>,
}

/// Whether a binding may exist at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Bound {
    /// None was asked for, or it is gone.
    No,
    /// It was asked for.
    Perhaps,
}

impl At {
    /// Whose: what a caller's keys begin with.
    fn view(caller: &CallerId, tenant: Option<&str>) -> String {
        let (kind, whose) = tenant.map_or(("caller", caller.as_str()), |tenant| ("tenant", tenant));
        format!("{kind}/{}/", encode(whose))
    }

    /// What the keys of a caller's add-ons of an app and channel begin with; without a channel, of all its channels; without an
    /// app, of all its apps.
    pub(super) fn group(caller: &Caller, app: Option<&str>, channel: Option<&str>) -> RecordKey {
        let mut key = Self::view(&caller.id, caller.tenant.as_deref());
        for part in app.into_iter().chain(channel.filter(|_| app.is_some())) {
            key.push_str(&encode(part));
            key.push('/');
        }
        key
    }

    /// The key of its record.
    pub(super) fn key(&self) -> RecordKey {
        let view = Self::view(&self.caller, self.tenant.as_deref());
        format!("{view}{}/{}/{}", encode(&self.app), encode(&self.channel), encode(&self.name))
    }

    /// The caller as far as work behind its back needs to know it.
    pub(super) fn caller(&self) -> Arc<Caller> {
        let (id, tenant) = (self.caller.clone(), self.tenant.clone());
        Arc::new(Caller { id, tenant, groups: Vec::new(), authenticator: "addons" })
    }

    /// The organization that brokers are told of: the tenant, else the caller.
    pub(super) fn organization(&self) -> &str {
        self.tenant.as_deref().unwrap_or(self.caller.as_str())
    }

    /// The space that brokers are told of.
    pub(super) fn space(&self) -> String {
        format!("{}/{}", self.app, self.channel)
    }

    /// A UUID of version 8 (RFC 9562, section 5.8): the first 16 octets of the SHA-256 of `standpipe addons`, what it names and
    /// the record's key, each followed by a zero octet, and of the salt. Whoever repeats a command gets the same ids, and so the
    /// same instance.
    fn uuid(&self, what: &str) -> String {
        let salt = self.salt.as_deref().unwrap_or_default();
        let text = format!("standpipe addons\0{what}\0{}\0{salt}", self.key());
        let mut octets = [0_u8; 16];
        octets.iter_mut().zip(digest(&SHA256, text.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        let bits = u128::from_be_bytes(octets);
        let bits = bits & !(0xf << 76) & !(0b11 << 62) | (8 << 76) | (0b10 << 62);
        let mut uuid = format!("{bits:032x}");
        [20, 16, 12, 8].into_iter().for_each(|dash| uuid.insert(dash, '-'));
        uuid
    }

    /// Its instance.
    pub(super) fn instance(&self) -> Resource {
        instance(&self.caller(), &self.uuid("instance"))
    }

    /// Its binding.
    pub(super) fn binding(&self) -> Resource {
        binding(&self.caller(), &self.uuid("instance"), &self.uuid("binding"))
    }

    /// Takes back the claims of what was not created after all.
    pub(super) fn unclaim(&self) -> [Change; 2] {
        [self.instance(), self.binding()].map(Change::Unclaim)
    }
}

impl Plan {
    /// Keeps a plan that a caller sees.
    pub(super) fn of(offered: &Offered) -> Self {
        let plan = Value::from(offered.plan_fields.clone());
        let maintenance = plan.pointer("/maintenance_info/version").and_then(Value::as_str);
        let polling_seconds = plan.get("maximum_polling_duration").and_then(Value::as_u64);
        Self {
            name: offered.plan.clone(),
            provider: offered.provider.clone(),
            service_id: offered.service_id.clone(),
            plan_id: offered.plan_id.clone(),
            bindable: offered.is_bindable(),
            retrievable: offered.is_retrievable(),
            polling_seconds,
            maintenance: maintenance.map(str::to_owned),
            costs: Cost::of_plan(&plan),
            documentation: documentation(&offered.service_fields),
        }
    }

    /// How long an operation may take.
    pub(super) fn patience(&self) -> Duration {
        self.polling_seconds.map_or(PATIENCE, |seconds| Duration::from_secs(seconds).min(PATIENCE))
    }

    /// Where one of its instances or bindings is.
    pub(super) fn place(&self, resource: Resource) -> Place {
        Place {
            resource,
            provider: self.provider.clone(),
            service_id: self.service_id.clone(),
            plan_id: self.plan_id.clone(),
        }
    }
}

/// Where a service is described.
pub(super) fn documentation(service: &Map<String, Value>) -> Option<String> {
    let metadata = service.get("metadata").and_then(Value::as_object);
    metadata?.get("documentationUrl")?.as_str().map(str::to_owned)
}

impl Addon {
    /// An add-on that is to be provisioned.
    pub(super) fn new(at: At, plan: Plan, parameters: Option<Map<String, Value>>, now: Timestamp) -> Self {
        Self {
            at,
            plan,
            parameters,
            stage: Stage::provision(now),
            bound: Bound::No,
            error: None,
            dashboard: None,
            credentials: None,
        }
    }

    /// Claims for the caller what adding it will create. Whoever knows its names can take its ids first: then it gets ids that
    /// nobody can guess, and keeps them.
    ///
    /// # Errors
    /// The caller does not see it, or the system gives no random bytes.
    pub(super) async fn claim(&mut self, fed: &dyn Federation) -> Result<Vec<Change>> {
        for resource in [self.at.instance(), self.at.binding()] {
            if self.plan.place(resource).is_anothers(fed).await? {
                self.at.salt = Some(secret::random().map_err(Error::internal)?);
                break;
            }
        }
        let bound = self.plan.bindable.then(|| self.at.binding());
        let mut claims = Vec::new();
        for resource in [self.at.instance()].into_iter().chain(bound) {
            claims.push(self.plan.place(resource).claim(fed).await?);
        }
        Ok(claims)
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is none of ours.
    pub(super) fn read(record: &Record) -> Result<Self> {
        let read = serde_json::from_slice(&record.value);
        read.map_err(|error| Error::internal("the record of an add-on cannot be read").because(error))
    }

    /// Writes a record. It may hold credentials; records are sealed.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn written(&self) -> Result<Bytes> {
        let written = serde_json::to_vec(self);
        let failed = |error| Error::internal("the record of an add-on cannot be written").because(error);
        written.map(Bytes::from).map_err(failed)
    }

    /// What its user sees of it; never a credential.
    pub(super) fn shown(&self) -> Value {
        let binding = self.plan.bindable.then(|| self.at.binding().id.to_string());
        json!({
            "name": self.at.name,
            "plan": self.plan.name,
            "app": self.at.app,
            "channel": self.at.channel,
            "state": self.stage.word(),
            "error": self.error,
            "provider": self.plan.provider,
            "instance": self.at.instance().id,
            "binding": binding,
            "bindable": self.plan.bindable,
            "dashboard_url": self.dashboard,
            "documentation_url": self.plan.documentation,
            "costs": self.plan.costs,
        })
    }

    /// As people write it: `mysql:free`.
    pub(super) fn label(&self) -> String {
        format!("{}:{}", self.at.name, self.plan.name)
    }
}
