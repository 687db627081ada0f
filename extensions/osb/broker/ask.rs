//! What a request says, before anybody looks at what there is.

use std::borrow::Cow;

use http::HeaderMap;
use http::Uri;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::Refusal;
use super::records::{BindingId, OperationId, PlanId, ServiceId, Wish};
use super::settings::{BrokerSettings, Plan, Service};

/// Query and headers.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// Whether the platform would poll.
    pub(super) accepts_incomplete: bool,
    pub(super) service: Option<ServiceId>,
    pub(super) plan: Option<PlanId>,
    pub(super) operation: Option<OperationId>,
    /// Who the platform acts for.
    pub(super) identity: Option<String>,
}

impl Ask {
    /// Reads them.
    pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut ask = Self::default();
        for pair in uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| Refusal::bad(format!("{name} is no UTF-8")))?;
            match name {
                "accepts_incomplete" => {
                    ask.accepts_incomplete = match &*value {
                        "true" => true,
                        "false" | "" => false,
                        _ => return Err(Refusal::bad("accepts_incomplete must be true or false")),
                    };
                }
                "service_id" => ask.service = Some(ServiceId(value.into_owned())),
                "plan_id" => ask.plan = Some(PlanId(value.into_owned())),
                "operation" => ask.operation = Some(OperationId(value.into_owned())),
                // Whatever later versions of the specification bring.
                _ => {}
            }
        }
        let identity = headers.get("x-broker-api-originating-identity");
        ask.identity = identity.and_then(|field| field.to_str().ok()).map(str::to_owned);
        Ok(ask)
    }

    /// The ids that a deletion must name; whether they are known is another question.
    pub(super) fn ids(&self) -> Result<(&ServiceId, &PlanId), Refusal> {
        let service = self.service.as_ref().filter(|id| !id.0.is_empty());
        let plan = self.plan.as_ref().filter(|id| !id.0.is_empty());
        Ok((
            service.ok_or_else(|| Refusal::bad("service_id is missing in the query"))?,
            plan.ok_or_else(|| Refusal::bad("plan_id is missing in the query"))?,
        ))
    }
}

/// `+` is a space in a query.
fn decode(value: &str) -> Option<Cow<'static, str>> {
    let spaced = value.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

/// The body of a provision, update or bind request. What is not known is left alone, as the specification wants.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Told {
    service_id: Option<String>,
    plan_id: Option<String>,
    organization_guid: Option<String>,
    space_guid: Option<String>,
    pub(super) context: Option<Map<String, Value>>,
    pub(super) parameters: Option<Map<String, Value>>,
    maintenance_info: Option<Maintenance>,
    app_guid: Option<String>,
    bind_resource: Option<Map<String, Value>>,
    predecessor_binding_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Maintenance {
    version: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Told {
    /// Reads the body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body)
            .map_err(|error| Refusal::bad(format!("the body cannot be read: {error}")))
    }

    /// The plan it names, if it names one.
    pub(super) fn plan_id(&self) -> Option<PlanId> {
        self.plan_id.clone().filter(|id| !id.is_empty()).map(PlanId)
    }

    /// The binding that a new one takes the place of.
    pub(super) fn predecessor(&self) -> Option<BindingId> {
        self.predecessor_binding_id.clone().filter(|id| !id.is_empty()).map(BindingId)
    }

    /// The service it names.
    pub(super) fn service<'a>(&self, settings: &'a BrokerSettings) -> Result<&'a Service, Refusal> {
        let id = self.service_id.as_ref().filter(|id| !id.is_empty());
        let id = ServiceId(id.ok_or_else(|| Refusal::bad("service_id is missing"))?.clone());
        find_service(settings, &id)
    }

    /// Service and plan, both of which it must name.
    pub(super) fn offering<'a>(
        &self,
        settings: &'a BrokerSettings,
    ) -> Result<(&'a Service, &'a Plan), Refusal> {
        let service = self.service(settings)?;
        let plan = self.plan_id().ok_or_else(|| Refusal::bad("plan_id is missing"))?;
        Ok((service, find_plan(service, &plan)?))
    }

    /// The organisation and the space, which a provision must name.
    pub(super) fn check_place(&self) -> Result<(), Refusal> {
        for (name, value) in
            [("organization_guid", &self.organization_guid), ("space_guid", &self.space_guid)]
        {
            if value.as_ref().is_none_or(String::is_empty) {
                return Err(Refusal::bad(format!("{name} is missing")));
            }
        }
        Ok(())
    }

    /// The version that the platform believes a plan to have must be the one it has.
    pub(super) fn check_maintenance(&self, plan: &Plan) -> Result<(), Refusal> {
        match &self.maintenance_info {
            Some(info) if plan.maintenance_version.as_ref() != Some(&info.version) => Err(Refusal::code(
                "MaintenanceInfoConflict",
                "maintenance_info is not that of the plan in the catalog; fetch the catalog again",
            )),
            _ => Ok(()),
        }
    }

    /// The app that a binding is for.
    pub(super) fn has_app(&self) -> bool {
        let within = self.bind_resource.as_ref().and_then(|resource| resource.get("app_guid"));
        self.app_guid.is_some() || within.is_some_and(Value::is_string)
    }

    /// As it is kept.
    pub(super) fn wish(&self, service: &ServiceId, plan: &PlanId) -> Wish {
        let app = self.app_guid.clone().map(|id| Map::from_iter([("app_guid".to_owned(), id.into())]));
        let maintenance = self.maintenance_info.as_ref().map(|info| {
            let mut fields = info.rest.clone();
            fields.insert("version".to_owned(), info.version.clone().into());
            Value::Object(fields)
        });
        Wish {
            service: service.clone(),
            plan: plan.clone(),
            parameters: self.parameters.clone(),
            context: self.context.clone().map(Value::Object),
            organization_guid: self.organization_guid.clone(),
            space_guid: self.space_guid.clone(),
            maintenance_info: maintenance,
            bind_resource: self.bind_resource.clone().or(app).map(Value::Object),
            predecessor: self.predecessor(),
        }
    }
}

/// A service that must be offered.
pub(super) fn find_service<'a>(settings: &'a BrokerSettings, id: &ServiceId) -> Result<&'a Service, Refusal> {
    settings.services.get(id).ok_or_else(|| Refusal::bad(format!("service_id {id} is not in the catalog")))
}

/// A plan that its service must have.
pub(super) fn find_plan<'a>(service: &'a Service, id: &PlanId) -> Result<&'a Plan, Refusal> {
    let name = &service.name;
    service.plan(id).ok_or_else(|| Refusal::bad(format!("plan_id {id} is not a plan of the service {name}")))
}
